"""The console's door: password check with lockout, and server-side sessions behind an opaque cookie.

Passwords are Argon2id (RFC 9106). One account's tries are checked one after another under a row lock, so that
parallel guesses cannot outrun the lockout. Every failure reads the same, whether the login exists or not.
"""

import hashlib
import secrets
from datetime import datetime, timedelta

import structlog
from pwdlib import PasswordHash
from sqlalchemy import Engine, select
from sqlmodel import Session as DbSession
from sqlmodel import col

from api.console.person import Person, Role
from db.tables.identity import Session, Staff
from db.tables.station import Operator, Station

MAX_FAILURES = 5
LOCK_FOR = timedelta(minutes=15)
SESSION_FOR = timedelta(hours=12)
"""One shift."""
SUBJECT_KIND = "console"
"""Console sessions are no API sessions: the API's refresh route does not know this kind."""
_log = structlog.get_logger(__name__)


def _fingerprint(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


class Door:
    """Lets staff in and out; synchronous, called from worker threads."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._hasher = PasswordHash.recommended()
        self._decoy = self._hasher.hash(secrets.token_hex(16))

    def enter(self, login: str, password: str, now: datetime) -> str | None:
        """Return a new session's token, or None when the person may not enter (for whatever reason)."""
        with DbSession(self._engine) as db:
            staff = db.scalars(select(Staff).where(col(Staff.login) == login).with_for_update()).one_or_none()
            right = self._verify(password, staff.password_hash if staff else self._decoy)
            if staff is None or not staff.is_active or (staff.locked_until and staff.locked_until > now):
                _log.info("console.login.refused", staff_id=staff.id if staff else None)
                return None
            if not right:
                self._count_failure(staff, now)
                db.commit()
                return None
            staff.failed_logins, staff.locked_until = 0, None
            token = self._open_session(db, staff, now)
            db.commit()
            return token

    def _verify(self, password: str, stored: str) -> bool:
        return self._hasher.verify(password[:1024], stored)

    def _count_failure(self, staff: Staff, now: datetime) -> None:
        lock_ran_out = staff.locked_until is not None and staff.locked_until <= now
        staff.failed_logins = 1 if lock_ran_out else staff.failed_logins + 1
        staff.locked_until = now + LOCK_FOR if staff.failed_logins >= MAX_FAILURES else None
        _log.info("console.login.failed", staff_id=staff.id, locked=staff.locked_until is not None)

    def _open_session(self, db: DbSession, staff: Staff, now: datetime) -> str:
        token, name = secrets.token_urlsafe(32), secrets.token_hex(16)
        db.add(
            Session(
                id=name,
                family=name,
                subject_kind=SUBJECT_KIND,
                subject_id=staff.id or 0,
                refresh_hash=_fingerprint(token),
                created_at=now,
                expires_at=now + SESSION_FOR,
            )
        )
        _log.info("console.login.succeeded", staff_id=staff.id)
        return token

    def who(self, token: str, now: datetime) -> Person | None:
        """Return the person behind a token; None when it is unknown, ended, expired, or the person is not active."""
        query = (
            select(Staff)
            .join(Session, col(Session.subject_id) == col(Staff.id))
            .where(
                col(Session.refresh_hash) == _fingerprint(token), col(Session.subject_kind) == SUBJECT_KIND
            )
            .where(col(Session.revoked_at).is_(None), col(Session.expires_at) > now, col(Staff.is_active))
        )
        with DbSession(self._engine) as db:
            staff = db.scalars(query).one_or_none()
            if staff is None or staff.id is None or staff.role not in set(Role):
                return None
            place = (
                db.get(Station, staff.station_id) if staff.station_id else db.get(Operator, staff.operator_id)
            )
        return Person(
            username=staff.name,
            staff_id=staff.id,
            login=staff.login,
            role=Role(staff.role),
            operator_id=staff.operator_id,
            station_id=staff.station_id,
            place="全部油站" if staff.role == Role.ADMIN else (place.name if place else ""),
        )

    def leave(self, token: str, now: datetime) -> None:
        """End the session behind a token, if there is one."""
        with DbSession(self._engine) as db:
            query = select(Session).where(col(Session.refresh_hash) == _fingerprint(token))
            session = db.scalars(query).one_or_none()
            if session is not None and session.subject_kind == SUBJECT_KIND and session.revoked_at is None:
                session.revoked_at = now
                db.commit()
