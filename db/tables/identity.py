"""People and devices that may speak to the API: drivers, staff, terminals, and their sessions.

Personal data are encrypted columns (AES-GCM envelope) with a keyed blind index for look-ups; never plain text.
"""

from pydantic import AwareDatetime
from sqlalchemy import Column, Index, Text
from sqlmodel import Field, SQLModel

from db.tables import base as base


class Driver(SQLModel, table=True):
    """A driver of the mini-program. openid and phone are encrypted; the index columns are HMACs of them."""

    __tablename__ = "driver"
    id: int | None = Field(default=None, primary_key=True)
    openid_cipher: str = Field(sa_column=Column(Text, nullable=False))
    openid_index: str = Field(unique=True, max_length=64)
    phone_cipher: str | None = Field(default=None, sa_column=Column(Text, nullable=True))
    phone_index: str | None = Field(default=None, max_length=64, index=True)
    created_at: AwareDatetime


class Staff(SQLModel, table=True):
    """A person who works at a station (or for the operator: station_id None). Password is an Argon2id hash."""

    __tablename__ = "staff"
    id: int | None = Field(default=None, primary_key=True)
    operator_id: int = Field(foreign_key="operator.id")
    station_id: int | None = Field(default=None, foreign_key="station.id", index=True)
    login: str = Field(unique=True, max_length=64)
    name: str = Field(max_length=64)
    role: str = Field(max_length=20)
    """`cashier`, `manager` (station), `operator` (all stations of the operator), `auditor`, `admin`."""
    password_hash: str = Field(max_length=256)
    is_active: bool = Field(default=True)
    failed_logins: int = Field(default=0)
    locked_until: AwareDatetime | None = None


class Terminal(SQLModel, table=True):
    """A kiosk, pay pillar or POS with a device key (stored as SHA-256); it serves some nozzles of its station."""

    __tablename__ = "terminal"
    id: int | None = Field(default=None, primary_key=True)
    station_id: int = Field(foreign_key="station.id", index=True)
    kind: str = Field(max_length=16)
    """`kiosk`, `pillar` or `pos`."""
    name: str = Field(max_length=64)
    key_hash: str = Field(unique=True, max_length=64)
    nozzle_numbers: str = Field(default="", max_length=256)
    """Comma-separated nozzle numbers; empty means all of the station."""
    is_active: bool = Field(default=True)
    last_seen_at: AwareDatetime | None = None


class Session(SQLModel, table=True):
    """A login. The refresh token is stored as SHA-256 and rotates; re-use of an old one ends the family."""

    __tablename__ = "session"
    __table_args__ = (Index("ix_session_subject", "subject_kind", "subject_id"),)
    id: str = Field(primary_key=True, max_length=40)
    family: str = Field(max_length=40, index=True)
    subject_kind: str = Field(max_length=16)
    subject_id: int
    refresh_hash: str = Field(unique=True, max_length=64)
    created_at: AwareDatetime
    expires_at: AwareDatetime
    used_at: AwareDatetime | None = None
    revoked_at: AwareDatetime | None = None
