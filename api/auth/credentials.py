"""Turns the Authorization header into a caller: `Bearer <access token>` or `Device <id>.<secret>`.

Access tokens are read without the database; a terminal's row is kept for a few seconds, so that its polling does
not become a query each time.
"""

import hashlib
import hmac

from fastapi import Request

from api.auth.roles import Principal, Role
from api.auth.tokens import AccessTokens
from api.database import Database
from api.ports import Clock
from db.repositories.identity import TerminalRow, terminal_by_id

_TERMINAL_CACHE_S = 5
_MAX_CACHED = 10_000
_MAX_HEADER = 4096


class Credentials:
    """Reads callers from requests."""

    def __init__(self, db: Database, tokens: AccessTokens, clock: Clock) -> None:
        self._db, self._tokens, self._clock = db, tokens, clock
        self._terminals: dict[int, tuple[int, TerminalRow | None]] = {}

    async def principal(self, request: Request) -> Principal | None:
        """Return the caller, None when there is no valid credential."""
        header = request.headers.get("authorization", "")
        scheme, _, value = header.partition(" ")
        value = value.strip()
        if not value or len(header) > _MAX_HEADER:
            return None
        if scheme.lower() == "bearer":
            return self._tokens.read(value, now=self._clock())
        if scheme.lower() == "device":
            return await self._device(value)
        return None

    async def _device(self, value: str) -> Principal | None:
        number, _, secret = value.partition(".")
        if not (number.isascii() and number.isdigit() and len(number) < 10 and secret):
            return None
        row = await self._terminal(int(number))
        digest = hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()
        known = row.key_hash if row else ""
        if not hmac.compare_digest(digest.encode(), known.encode()) or row is None:
            return None
        return Principal(
            role=Role.TERMINAL,
            id=row.id,
            station_id=row.station_id,
            station_code=row.station_code,
            operator_id=row.operator_id,
            nozzle_numbers=row.nozzle_numbers,
            kind=row.kind,
        )

    async def _terminal(self, terminal_id: int) -> TerminalRow | None:
        now_s = int(self._clock().timestamp())
        cached = self._terminals.get(terminal_id)
        if cached and now_s - cached[0] < _TERMINAL_CACHE_S:
            return cached[1]
        row = await self._db.read(lambda conn: terminal_by_id(conn, terminal_id))
        if len(self._terminals) >= _MAX_CACHED:
            self._terminals.clear()
        self._terminals[terminal_id] = (now_s, row)
        return row
