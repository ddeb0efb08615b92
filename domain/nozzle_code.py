"""The signed QR code on a nozzle: `JZ1.{station}.{nozzle}.{version}.{tag}`; a forged or revoked code is refused.

The tag is HMAC-SHA256 over the fields with the platform's nozzle key, cut to 80 bits (RFC 2104 allows truncation
to half of the hash; 80 bits keep the code short enough for a small label while guessing online stays hopeless).
"""

import base64
import hashlib
import hmac
from dataclasses import dataclass

_PREFIX = "JZ1"
_TAG_BYTES = 10


class NozzleCodeError(ValueError):
    """The scanned text is not a nozzle code that we issued."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NozzleCode:
    """What a code names: the station's code, the nozzle's number at it, and the version of the label."""

    station_code: str
    nozzle_no: int
    version: int


def _tag(key: bytes, payload: str) -> str:
    digest = hmac.new(key, payload.encode(), hashlib.sha256).digest()[:_TAG_BYTES]
    return base64.b32encode(digest).decode()


def sign(key: bytes, code: NozzleCode) -> str:
    """Return the text for the label."""
    payload = f"{_PREFIX}.{code.station_code}.{code.nozzle_no}.{code.version}"
    return f"{payload}.{_tag(key, payload)}"


def verify(key: bytes, text: str) -> NozzleCode:
    """Return what a scanned text names.

    Raises NozzleCodeError when the form or the tag is wrong; says nothing about which.
    """
    payload, _, tag = text.strip().rpartition(".")
    parts = payload.split(".")
    if len(parts) != 4 or parts[0] != _PREFIX or not tag.isascii():
        raise NozzleCodeError("not a nozzle code")
    if not hmac.compare_digest(_tag(key, payload), tag):
        raise NozzleCodeError("not a nozzle code")
    return NozzleCode(station_code=parts[1], nozzle_no=int(parts[2]), version=int(parts[3]))
