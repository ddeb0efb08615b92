"""Drivers, staff, terminals and their sessions. Every function runs in the caller's transaction."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import col

from db.crypto import ColumnCipher
from db.tables.identity import Driver, Session, Staff, Terminal
from db.tables.station import Station


@dataclass(frozen=True, slots=True, kw_only=True)
class StaffRow:
    """A staff member as the login needs it; `failed_logins` counts since the last success."""

    id: int
    operator_id: int
    station_id: int | None
    station_code: str | None
    name: str
    role: str
    password_hash: str
    is_active: bool
    failed_logins: int
    locked_until: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminalRow:
    """A terminal with its key's SHA-256 and the nozzle numbers it serves (empty: all of its station)."""

    id: int
    operator_id: int
    station_id: int
    station_code: str
    kind: str
    key_hash: str
    nozzle_numbers: frozenset[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRow:
    """A login session by its refresh token."""

    id: str
    family: str
    subject_kind: str
    subject_id: int
    expires_at: datetime
    used_at: datetime | None
    revoked_at: datetime | None


def driver_by_openid(conn: Connection, cipher: ColumnCipher, openid: str, *, now: datetime) -> int:
    """Return the id of the driver with this openid; made at the first login, once."""
    index = cipher.index("driver", "openid", openid)
    found = conn.execute(select(col(Driver.id)).where(col(Driver.openid_index) == index)).scalar()
    if found is not None:
        return int(found)
    row = {
        "openid_cipher": cipher.encrypt("driver", "openid", openid),
        "openid_index": index,
        "created_at": now,
    }
    statement = insert(Driver).values(row).on_conflict_do_nothing(index_elements=["openid_index"])
    conn.execute(statement)
    driver_id = conn.execute(select(col(Driver.id)).where(col(Driver.openid_index) == index)).scalar()
    if driver_id is None:
        raise LookupError("the driver vanished inside the transaction")
    return int(driver_id)


def set_driver_phone(conn: Connection, cipher: ColumnCipher, driver_id: int, phone: str) -> None:
    """Store a driver's phone number, encrypted and indexed."""
    values = {
        "phone_cipher": cipher.encrypt("driver", "phone", phone),
        "phone_index": cipher.index("driver", "phone", phone),
    }
    conn.execute(update(Driver).where(col(Driver.id) == driver_id).values(values))


_STAFF: Select[*tuple[Any, ...]] = (
    select(
        col(Staff.id),
        col(Staff.operator_id),
        col(Staff.station_id),
        col(Station.code).label("station_code"),
        col(Staff.name),
        col(Staff.role),
        col(Staff.password_hash),
        col(Staff.is_active),
        col(Staff.failed_logins),
        col(Staff.locked_until),
    )
    .select_from(Staff)
    .outerjoin(Station, col(Station.id) == col(Staff.station_id))
)


def staff_by_login(conn: Connection, login: str) -> StaffRow | None:
    """Return the staff member with this login name, active or not."""
    row = conn.execute(_STAFF.where(col(Staff.login) == login)).mappings().one_or_none()
    return StaffRow(**row) if row else None


def staff_by_id(conn: Connection, staff_id: int) -> StaffRow | None:
    """Return a staff member by id, active or not."""
    row = conn.execute(_STAFF.where(col(Staff.id) == staff_id)).mappings().one_or_none()
    return StaffRow(**row) if row else None


def staff_for_update(conn: Connection, staff_id: int) -> StaffRow | None:
    """Return a staff member by id, active or not, locked until the transaction ends."""
    statement = _STAFF.where(col(Staff.id) == staff_id).with_for_update(of=Staff)
    row = conn.execute(statement).mappings().one_or_none()
    return StaffRow(**row) if row else None


def count_failed_login(
    conn: Connection, staff_id: int, *, limit: int, lock_until: datetime, now: datetime
) -> None:
    """Count a wrong password; the `limit`-th in a row locks the account. Parallel guesses all count.

    A lock that has run out starts the count afresh.
    """
    row = conn.execute(
        select(col(Staff.failed_logins), col(Staff.locked_until))
        .where(col(Staff.id) == staff_id)
        .with_for_update()
    ).one()
    failed = 1 if row.locked_until is not None and row.locked_until <= now else row.failed_logins + 1
    until = lock_until if failed >= limit else None
    values = {"failed_logins": failed, "locked_until": until}
    conn.execute(update(Staff).where(col(Staff.id) == staff_id).values(values))


def clear_failed_logins(conn: Connection, staff_id: int) -> None:
    """Forget wrong passwords after a right one."""
    values = {"failed_logins": 0, "locked_until": None}
    conn.execute(update(Staff).where(col(Staff.id) == staff_id).values(values))


def terminal_by_id(conn: Connection, terminal_id: int) -> TerminalRow | None:
    """Return an active terminal."""
    statement: Select[*tuple[Any, ...]] = (
        select(
            col(Terminal.id),
            col(Station.operator_id),
            col(Terminal.station_id),
            col(Station.code).label("station_code"),
            col(Terminal.kind),
            col(Terminal.key_hash),
            col(Terminal.nozzle_numbers),
        )
        .select_from(Terminal)
        .join(Station, col(Station.id) == col(Terminal.station_id))
        .where(col(Terminal.id) == terminal_id, col(Terminal.is_active).is_(True))
    )
    row = conn.execute(statement).mappings().one_or_none()
    if row is None:
        return None
    numbers = frozenset(int(n) for n in row["nozzle_numbers"].split(",") if n.strip().isdigit())
    return TerminalRow(**{**row, "nozzle_numbers": numbers})


def add_session(
    conn: Connection,
    *,
    session_id: str,
    family: str,
    subject_kind: str,
    subject_id: int,
    refresh_hash: str,
    now: datetime,
    expires_at: datetime,
) -> None:
    """Insert one login session (one refresh token)."""
    values = {
        "id": session_id,
        "family": family,
        "subject_kind": subject_kind,
        "subject_id": subject_id,
        "refresh_hash": refresh_hash,
        "created_at": now,
        "expires_at": expires_at,
    }
    conn.execute(insert(Session).values(values))


def session_for_update(conn: Connection, refresh_hash: str) -> SessionRow | None:
    """Return the session of a refresh token's hash, locked until the transaction ends."""
    statement = select(
        col(Session.id),
        col(Session.family),
        col(Session.subject_kind),
        col(Session.subject_id),
        col(Session.expires_at),
        col(Session.used_at),
        col(Session.revoked_at),
    ).where(col(Session.refresh_hash) == refresh_hash)
    row = conn.execute(statement.with_for_update()).mappings().one_or_none()
    return SessionRow(**row) if row else None


def mark_session_used(conn: Connection, session_id: str, *, now: datetime) -> None:
    """Record that a refresh token was exchanged; a second exchange is theft."""
    conn.execute(update(Session).where(col(Session.id) == session_id).values(used_at=now))


def revoke_family(conn: Connection, family: str, *, now: datetime) -> None:
    """End every session that descends from one login."""
    open_rows = update(Session).where(col(Session.family) == family, col(Session.revoked_at).is_(None))
    conn.execute(open_rows.values(revoked_at=now))
