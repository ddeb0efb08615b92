"""Logins: drivers by the mini-program's code, staff by password, and the sessions behind both.

A refresh token works once; when an old one comes back, somebody copied it, and the whole family ends. Staff logins
count wrong passwords per account (5, then 15 minutes) and tries per account and address, and answer every failure
with the same words after the same work.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher
from sqlalchemy import Connection

from api.auth.roles import STAFF, Principal, Role
from api.auth.tokens import (
    ACCESS_LIFETIME,
    REFRESH_LIFETIME,
    STAFF_REFRESH_LIFETIME,
    AccessTokens,
    new_id,
    new_refresh_token,
    refresh_hash,
)
from api.database import Database
from api.errors import ProblemError, too_many_requests, unauthenticated
from api.ports import Clock, LoginRefusedError, MiniProgram
from db.crypto import ColumnCipher
from db.repositories import identity

MAX_FAILED_LOGINS = 5
LOCK_FOR = timedelta(minutes=15)
TRIES_PER_ADDRESS = 60
"""Login tries a minute from one address: a station's staff and screens may share one."""
PER_ACCOUNT = RateLimitItemPerMinute(10)

T = TypeVar("T")
_hasher = PasswordHash((Argon2Hasher(),))
_DUMMY_HASH = _hasher.hash("nobody has this password")
_NOBODY = 0
"""An id that no row has: an unknown name takes the same steps as a known one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """What a login gives; the lifetime is of the access token, in seconds."""

    access_token: str
    refresh_token: str
    expires_in_s: int
    role: Role


def _login_failed() -> ProblemError:
    return ProblemError(401, "login_failed", "登录失败", "账号或密码不正确，或账号已暂时锁定")


def _of_staff(row: identity.StaffRow) -> Principal:
    return Principal(
        role=Role(row.role),
        id=row.id,
        operator_id=row.operator_id,
        station_id=row.station_id,
        station_code=row.station_code,
    )


class Logins:
    """Logs people in and keeps their sessions."""

    def __init__(
        self,
        db: Database,
        tokens: AccessTokens,
        mini_program: MiniProgram,
        cipher: ColumnCipher,
        clock: Clock,
        *,
        tries_per_address: int = TRIES_PER_ADDRESS,
    ) -> None:
        self._per_address = RateLimitItemPerMinute(tries_per_address)
        self._db, self._tokens, self._mini = db, tokens, mini_program
        self._cipher, self._clock = cipher, clock
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    def check_rate(self, address: str, account: str = "") -> None:
        """Count a try; raises ProblemError 429 beyond the limit of the address or of account and address."""
        allowed = self.is_allowed(address)
        if account:
            allowed = self._limiter.hit(PER_ACCOUNT, "account", account, address) and allowed
        if not allowed:
            raise too_many_requests()

    def is_allowed(self, address: str) -> bool:
        """Count a try from an address; return whether it is within the limit."""
        return self._limiter.hit(self._per_address, "address", address)

    async def driver(self, code: str, address: str) -> Tokens:
        """Log a driver in; made at the first time.

        Raises ProblemError 401 for a code that the host refuses, HostBusyError when the host is away.
        """
        self.check_rate(address)
        try:
            openid = await self._db.hosts.call(lambda: self._mini.openid_of(code))
        except LoginRefusedError as error:
            raise ProblemError(401, "login_failed", "登录失败", "请重新打开小程序登录") from error
        now = self._clock()

        def store(conn: Connection) -> Tokens:
            driver_id = identity.driver_by_openid(conn, self._cipher, openid, now=now)
            return self._open(conn, Principal(role=Role.DRIVER, id=driver_id), new_id(), now)

        return await self._db.run(store)

    async def phone(self, driver_id: int, code: str) -> str:
        """Store a driver's phone number and return it masked (138****1234).

        Raises ProblemError 422 for a code that the host refuses.
        """
        try:
            number = await self._db.hosts.call(lambda: self._mini.phone_of(code))
        except LoginRefusedError as error:
            raise ProblemError(422, "phone_code_invalid", "获取手机号失败", "请重新授权") from error
        await self._db.run(lambda conn: identity.set_driver_phone(conn, self._cipher, driver_id, number))
        return f"{number[:3]}****{number[-4:]}"

    async def staff(self, login: str, password: str, address: str) -> Tokens:
        """Log a staff member in; raises ProblemError 401 with the same words for every reason."""
        return await self._admitted(
            login, password, address, lambda conn, who, now: self._open(conn, who, new_id(), now)
        )

    async def person(self, login: str, password: str, address: str) -> Principal:
        """Return whose password this is, without a session: for a second person's approval at the counter.

        Counts and locks as a login does; raises ProblemError 401 with the same words for every reason, 429.
        """
        return await self._admitted(login, password, address, lambda _conn, who, _now: who)

    async def _admitted(
        self, login: str, password: str, address: str, then: Callable[[Connection, Principal, datetime], T]
    ) -> T:
        """Check a password; return what `then` makes of its owner in the transaction that judged it."""
        self.check_rate(address, login)
        row = await self._db.read(lambda conn: identity.staff_by_login(conn, login))
        known_hash = row.password_hash if row else _DUMMY_HASH
        right = await self._db.passwords.call(lambda: _hasher.verify(password, known_hash))
        staff_id, now = row.id if row else _NOBODY, self._clock()

        def judge(conn: Connection) -> tuple[T] | None:
            who = self._admit(conn, staff_id, known_hash, right, now)
            return (then(conn, who, now),) if who else None

        found = await self._db.run(judge)
        if found is None:
            raise _login_failed()
        return found[0]

    def _admit(
        self, conn: Connection, staff_id: int, checked_hash: str, right: bool, now: datetime
    ) -> Principal | None:
        """Judge a checked password under the row lock; None when it opens nothing.

        Guesses of one burst are all checked before the first is counted. Here they come one after another, and the
        lock that the fifth wrong one sets is seen by every later one, right or wrong.
        """
        row = identity.staff_for_update(conn, staff_id)
        if row is None or not row.is_active or (row.locked_until and row.locked_until > now):
            return None
        if not right or row.password_hash != checked_hash:
            until = now + LOCK_FOR
            identity.count_failed_login(conn, row.id, limit=MAX_FAILED_LOGINS, lock_until=until, now=now)
            return None
        identity.clear_failed_logins(conn, row.id)
        return _of_staff(row)

    async def refresh(self, token: str) -> Tokens:
        """Exchange a refresh token; raises ProblemError 401, and ends the family when it was used before."""
        found = await self._db.run(lambda conn: self._rotate(conn, token, self._clock()))
        if found is None:
            raise unauthenticated()
        return found

    def _rotate(self, conn: Connection, token: str, now: datetime) -> Tokens | None:
        session = identity.session_for_update(conn, refresh_hash(token))
        if session is None or session.revoked_at or session.expires_at <= now:
            return None
        if session.used_at:
            identity.revoke_family(conn, session.family, now=now)
            return None
        principal = self._subject(conn, session)
        if principal is None:
            return None
        identity.mark_session_used(conn, session.id, now=now)
        return self._open(conn, principal, session.family, now)

    def _subject(self, conn: Connection, session: identity.SessionRow) -> Principal | None:
        if session.subject_kind == Role.DRIVER:
            return Principal(role=Role.DRIVER, id=session.subject_id)
        row = identity.staff_by_id(conn, session.subject_id)
        return _of_staff(row) if row and row.is_active else None

    async def logout(self, token: str) -> None:
        """End the login of a refresh token; an unknown one changes nothing."""
        now = self._clock()

        def end(conn: Connection) -> None:
            session = identity.session_for_update(conn, refresh_hash(token))
            if session:
                identity.revoke_family(conn, session.family, now=now)

        await self._db.run(end)

    def _open(self, conn: Connection, principal: Principal, family: str, now: datetime) -> Tokens:
        is_staff = principal.role in STAFF
        refresh = new_refresh_token()
        identity.add_session(
            conn,
            session_id=new_id(),
            family=family,
            subject_kind="staff" if is_staff else Role.DRIVER.value,
            subject_id=principal.id,
            refresh_hash=refresh.hash,
            now=now,
            expires_at=now + (STAFF_REFRESH_LIFETIME if is_staff else REFRESH_LIFETIME),
        )
        return Tokens(
            access_token=self._tokens.issue(principal, now=now),
            refresh_token=refresh.text,
            expires_in_s=int(ACCESS_LIFETIME.total_seconds()),
            role=principal.role,
        )


def hash_password(password: str) -> str:
    """Return the Argon2id hash of a password (RFC 9106 parameters of pwdlib)."""
    return _hasher.hash(password)
