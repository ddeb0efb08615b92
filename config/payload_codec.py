"""Encrypts what our processes store in Temporal.

AES-256-GCM (NIST SP 800-38D) with a key id, so keys can rotate.

Payloads, memo values, summaries and details pass through here; workflow ids, update ids and search attributes
never do, so those hold no personal data.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from temporalio.api.common.v1 import Payload
from temporalio.converter import PayloadCodec

ENCODING: Final = b"binary/encrypted"
_KEY_ID: Final = "encryption-key-id"
_NONCE_BYTES: Final = 12
_PURPOSE: Final = b"jiazhu/payload/v1|"


class PayloadCodecError(ValueError):
    """A payload that was made under an unknown key, was changed, or was not made by us."""


class AesGcmCodec(PayloadCodec):
    """Encodes under the first key of the ring; decodes under any of them.

    The purpose and the key id are authenticated, so a payload cannot be given another key's id. A payload in clear
    is refused: who reaches Temporal's frontend without a key must not be able to command a workflow. The codec
    server, which only shows, lets clear ones pass.
    """

    def __init__(self, keys: Mapping[str, bytes], *, clear_passes: bool = False) -> None:
        """Take the ring, current key first. Raises ValueError when it is empty."""
        if not keys:
            raise ValueError("the payload codec needs a key")
        self._clear_passes = clear_passes
        self._ciphers = {kid.encode(): AESGCM(key) for kid, key in keys.items()}
        self._current = next(iter(keys)).encode()

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Encrypt each payload as a whole, with its metadata."""
        return self.seal(payloads)

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Decrypt what is ours. Raises PayloadCodecError."""
        return self.open(payloads)

    def seal(self, payloads: Iterable[Payload]) -> list[Payload]:
        """`encode` without the coroutine."""
        cipher, kid = self._ciphers[self._current], self._current
        sealed = []
        for payload in payloads:
            nonce = os.urandom(_NONCE_BYTES)
            data = nonce + cipher.encrypt(nonce, payload.SerializeToString(), _PURPOSE + kid)
            sealed.append(Payload(metadata={"encoding": ENCODING, _KEY_ID: kid}, data=data))
        return sealed

    def open(self, payloads: Iterable[Payload]) -> list[Payload]:
        """`decode` without the coroutine."""
        return [self._open(one) for one in payloads]

    def _open(self, payload: Payload) -> Payload:
        if payload.metadata.get("encoding") != ENCODING:
            if self._clear_passes:
                return payload
            raise PayloadCodecError("a payload in clear")
        kid = payload.metadata.get(_KEY_ID, b"")
        cipher = self._ciphers.get(kid)
        if cipher is None:
            raise PayloadCodecError(f"no key with the id {kid.decode(errors='replace')!r}")
        nonce, sealed = payload.data[:_NONCE_BYTES], payload.data[_NONCE_BYTES:]
        try:
            return Payload.FromString(cipher.decrypt(nonce, sealed, _PURPOSE + kid))
        except (InvalidTag, ValueError) as error:
            raise PayloadCodecError("a payload does not authenticate") from error
