"""Encrypted columns for personal data: an AES-256-GCM envelope `v1|kid|nonce|ciphertext`, and a blind index.

The table and the column are the additional authenticated data, so a ciphertext that was moved to another
column does not decrypt (PIPL art. 51; OWASP ASVS 14.1). The blind index is HMAC-SHA256 under a key of its own
for each column, cut to 128 bits: phone numbers are few, so a bare hash would be reversed in minutes.
"""

import base64
import binascii
import hashlib
import hmac
import os
from collections.abc import Mapping

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_VERSION = "v1"
_NONCE_BYTES = 12
_KEY_BYTES = 32
_INDEX_BYTES = 16


class CipherError(ValueError):
    """A value that is not an envelope of ours, was made under an unknown key, or was changed or moved."""


def _aad(table: str, column: str) -> bytes:
    return f"{table}:{column}".encode()


class ColumnCipher:
    """Encrypts and decrypts columns; the first key is current, older ones only decrypt (rotation)."""

    def __init__(self, keys: Mapping[str, bytes], index_key: bytes) -> None:
        """Take the data keys by id, current first, and the root key of the blind indexes.

        Raises ValueError when there is no key, a key is not 32 bytes, or an id contains the separator.
        """
        if not keys or any(len(k) != _KEY_BYTES for k in keys.values()):
            raise ValueError("column keys must be at least one and 32 bytes each")
        if any(not kid or "|" in kid for kid in keys) or len(index_key) < _INDEX_BYTES:
            raise ValueError("a key id is malformed or the index key is too short")
        self._ciphers = {kid: AESGCM(key) for kid, key in keys.items()}
        self._current = next(iter(keys))
        self._index_key = index_key

    def encrypt(self, table: str, column: str, plain: str) -> str:
        """Return the envelope of a value for one column."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._ciphers[self._current].encrypt(nonce, plain.encode(), _aad(table, column))
        parts = (base64.b64encode(nonce).decode(), base64.b64encode(sealed).decode())
        return "|".join((_VERSION, self._current, *parts))

    def decrypt(self, table: str, column: str, envelope: str) -> str:
        """Return the value inside an envelope of that column.

        Raises CipherError when it does not authenticate.
        """
        parts = envelope.split("|")
        if len(parts) != 4 or parts[0] != _VERSION or parts[1] not in self._ciphers:
            raise CipherError("not an envelope, or its key is unknown")
        try:
            nonce, sealed = (base64.b64decode(p, validate=True) for p in parts[2:])
            return self._ciphers[parts[1]].decrypt(nonce, sealed, _aad(table, column)).decode()
        except (InvalidTag, binascii.Error, ValueError) as error:
            raise CipherError("the envelope does not authenticate") from error

    def index(self, table: str, column: str, value: str) -> str:
        """Return the blind index of a value: equal only for equal values of the same column."""
        column_key = hmac.new(self._index_key, _aad(table, column), hashlib.sha256).digest()
        return hmac.new(column_key, value.encode(), hashlib.sha256).digest()[:_INDEX_BYTES].hex()
