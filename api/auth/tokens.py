"""Access tokens (JWT, 15 minutes, one fixed algorithm) and refresh tokens (opaque, stored as SHA-256).

OWASP ASVS 9.1.2, 9.2.1-3: the algorithm is ours and never the token's; audience, issuer, times and type are checked.
"""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

import jwt

from api.auth.roles import Principal, Role

ACCESS_LIFETIME = timedelta(minutes=15)
REFRESH_LIFETIME = timedelta(days=30)
STAFF_REFRESH_LIFETIME = timedelta(hours=12)
"""A shift: staff log in again for the next one."""
_ALGORITHM, _ISSUER, _AUDIENCE, _TYPE = "HS256", "jiazhu", "jiazhu-api", "access"
_KEPT = 4_096
"""Verified tokens that are remembered, at most 4 KiB each (`credentials` takes no longer header)."""
_REQUIRED = ["exp", "nbf", "iat", "aud", "iss", "sub", "jti"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshToken:
    """A new refresh token: the text for the client and the hash for the row."""

    text: str
    hash: str


def new_refresh_token() -> RefreshToken:
    """Return a fresh 256-bit refresh token."""
    text = secrets.token_urlsafe(32)
    return RefreshToken(text=text, hash=refresh_hash(text))


def refresh_hash(text: str) -> str:
    """Return what the database keeps of a refresh token."""
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def new_id() -> str:
    """Return a random id for a session or a token."""
    return secrets.token_hex(16)


class AccessTokens:
    """Makes and reads access tokens under one secret."""

    def __init__(self, secret: str) -> None:
        """Take the secret; raises ValueError when it is shorter than the hash (RFC 7518, 3.2)."""
        if len(secret.encode()) < 32:
            raise ValueError("the token secret must have at least 32 bytes")
        self._secret = secret
        self._claims = lru_cache(maxsize=_KEPT)(self._verify)

    def issue(self, principal: Principal, *, now: datetime) -> str:
        """Return an access token of a driver or a staff member."""
        claims: dict[str, Any] = {
            "iss": _ISSUER,
            "aud": _AUDIENCE,
            "typ": _TYPE,
            "sub": str(principal.id),
            "role": principal.role.value,
            "op": principal.operator_id,
            "st": principal.station_id,
            "sc": principal.station_code,
            "iat": now,
            "nbf": now,
            "exp": now + ACCESS_LIFETIME,
            "jti": new_id(),
        }
        return jwt.encode(claims, self._secret, algorithm=_ALGORITHM, headers={"typ": "at+jwt"})

    def read(self, token: str, *, now: datetime) -> Principal | None:
        """Return the caller of a token, None when it is not a valid one of ours at this time."""
        try:
            return self._principal(self._claims(token), int(now.timestamp()))
        except (jwt.InvalidTokenError, ValueError, TypeError, KeyError):
            return None

    def _verify(self, token: str) -> dict[str, Any]:
        """Return the claims of a token that we signed. True for ever, so it is kept: a screen asks often; times are not."""
        options: Any = {"require": _REQUIRED, "verify_exp": False, "verify_nbf": False, "verify_iat": False}
        claims: dict[str, Any] = jwt.decode(
            token,
            self._secret,
            algorithms=[_ALGORITHM],
            audience=_AUDIENCE,
            issuer=_ISSUER,
            options=options,
        )
        return claims

    @staticmethod
    def _principal(claims: dict[str, Any], now_s: int) -> Principal | None:
        if claims.get("typ") != _TYPE or not int(claims["nbf"]) <= now_s < int(claims["exp"]):
            return None
        return Principal(
            role=Role(claims["role"]),
            id=int(claims["sub"]),
            operator_id=claims["op"],
            station_id=claims["st"],
            station_code=claims["sc"],
        )
