"""The keys WeChat signs with: static public keys (`PUB_KEY_ID_…`) and platform certificates, by serial.

During WeChat's migration from certificates to the public key both sign notifications, so both may be held.
"""

import json
import re
import threading
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

import structlog
from cryptography import x509
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from adapters.payments.wechat.errors import (
    StaleError,
    UnknownSerialError,
    UnsignedError,
    VerificationError,
    WeChatPayError,
)

SCHEME = "WECHATPAY2-SHA256-RSA2048"
MAX_SKEW_S = 300
"""WeChat's own limit for request timestamps; used for its answers and notifications too, against replays."""
REFRESH_INTERVAL_S = 60
"""Certificates are downloaded at most so often: junk serials of strangers must not become calls to WeChat."""

APIV3_KEY_BYTES = 32

_STAMP_DIGITS = 12
_HEX_SERIAL = re.compile(r"[0-9A-F]{8,40}")
_PADDING = PKCS1v15()
_DIGEST = SHA256()
_log = structlog.get_logger(__name__)

Clock = Callable[[], int]
"""Seconds since the epoch."""


def private_key(pem: str | bytes) -> RSAPrivateKey:
    """Parse a merchant's RSA private key; raises ValueError for anything else."""
    key = load_pem_private_key(pem.encode() if isinstance(pem, str) else pem, password=None)
    if not isinstance(key, RSAPrivateKey):
        raise ValueError("the merchant key is not an RSA key")
    return key


def public_key(pem: str | bytes) -> RSAPublicKey:
    """Parse WeChat's RSA public key; raises ValueError for anything else."""
    key = load_pem_public_key(pem.encode() if isinstance(pem, str) else pem)
    if not isinstance(key, RSAPublicKey):
        raise ValueError("the WeChat Pay key is not an RSA key")
    return key


def unseal(apiv3_keys: Sequence[bytes], resource: Mapping[str, object]) -> bytes:
    """Decrypt an AEAD_AES_256_GCM resource with the first fitting APIv3 key.

    Raises InvalidTag when no key fits, ValueError when the resource is malformed.
    """
    if resource.get("algorithm") != "AEAD_AES_256_GCM":
        raise ValueError("unknown algorithm")
    nonce, sealed = resource.get("nonce"), resource.get("ciphertext")
    associated = resource.get("associated_data") or ""
    if not (isinstance(nonce, str) and isinstance(sealed, str) and isinstance(associated, str)):
        raise ValueError("resource without nonce or ciphertext")
    try:
        data = b64decode(sealed, validate=True)
    except Base64Error as exc:
        raise ValueError("ciphertext is not base64") from exc
    for key in apiv3_keys:
        try:
            return AESGCM(key).decrypt(nonce.encode(), data, associated.encode())
        except InvalidTag:
            continue
    raise InvalidTag


def wechat_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the `wechatpay-*` headers by their lower-case rest, whichever spelling the server gave them."""
    found = {}
    for name, value in headers.items():
        plain = name.lower().replace("_", "-").removeprefix("http-")
        if plain.startswith("wechatpay-"):
            found[plain.removeprefix("wechatpay-")] = value
    return found


def _normal(serial: str) -> str:
    """Serials are compared without case and leading zeros (a certificate serial is a number)."""
    return serial if serial.startswith("PUB_KEY_ID_") else serial.upper().lstrip("0")


class KeyStore:
    """Holder of WeChat's keys; `download`, if set, fetches body and headers of /v3/certificates."""

    def __init__(
        self,
        *,
        apiv3_keys: Sequence[bytes],
        clock: Clock,
        public_keys: Mapping[str, str | bytes] | None = None,
        platform_certificates: Sequence[str | bytes] = (),
        max_skew_s: int = MAX_SKEW_S,
    ) -> None:
        if not apiv3_keys or any(len(key) != APIV3_KEY_BYTES for key in apiv3_keys):
            raise ValueError(f"an APIv3 key has {APIV3_KEY_BYTES} bytes")
        self.apiv3_keys = tuple(apiv3_keys)
        self.clock = clock
        self.max_skew_s = max_skew_s
        self._keys = {key_id: public_key(pem) for key_id, pem in (public_keys or {}).items()}
        for pem in platform_certificates:
            self._keys.update(self._of_certificate(pem.encode() if isinstance(pem, str) else pem))
        self.download: Callable[[], tuple[bytes, Mapping[str, str]]] | None = None
        self._refreshed_at: int | None = None
        self._lock = threading.Lock()

    def verify(self, headers: Mapping[str, str], body: bytes) -> None:
        """Prove that WeChat signed these raw bytes lately.

        Raises UnsignedError, StaleError, UnknownSerialError, VerificationError.
        """
        found = wechat_headers(headers)
        if not all(found.get(name) for name in ("signature", "timestamp", "nonce", "serial")):
            raise UnsignedError("signature headers are missing")
        if found.get("signature-type", SCHEME) != SCHEME:
            raise VerificationError("unknown signature type")
        if not self._is_recent(found["timestamp"]):
            raise StaleError("timestamp outside the allowed skew")
        self._check(self._key_for(found["serial"]), found, body)

    def _is_recent(self, stamp: str) -> bool:
        """Whether a timestamp is plain seconds near our clock; its length is a stranger's choice and `int` has limits."""
        if not (stamp.isascii() and stamp.isdigit() and len(stamp) <= _STAMP_DIGITS):
            return False
        return abs(self.clock() - int(stamp)) <= self.max_skew_s

    @staticmethod
    def _check(key: RSAPublicKey, found: Mapping[str, str], body: bytes) -> None:
        signed = b"%s\n%s\n%s\n" % (found["timestamp"].encode(), found["nonce"].encode(), body)
        try:
            key.verify(b64decode(found["signature"], validate=True), signed, _PADDING, _DIGEST)
        except (InvalidSignature, ValueError) as exc:
            raise VerificationError("signature does not fit") from exc

    def _key_for(self, serial: str) -> RSAPublicKey:
        wanted = _normal(serial)
        key = self._keys.get(wanted)
        if key is None and _HEX_SERIAL.fullmatch(wanted):
            self._refresh()
            key = self._keys.get(wanted)
        if key is None:
            raise UnknownSerialError("signed with a key that is not held")
        return key

    def _refresh(self) -> None:
        """Download certificates at most once per interval and merge them; a failure keeps what is held."""
        with self._lock:
            now = self.clock()
            if self.download is None:
                return
            if self._refreshed_at is not None and now - self._refreshed_at < REFRESH_INTERVAL_S:
                return
            self._refreshed_at = now
            try:
                fresh = self._opened(*self.download())
            except (WeChatPayError, InvalidTag, ValueError, KeyError, TypeError, AttributeError) as exc:
                _log.warning("wechat.certificates.failed", error=type(exc).__name__)
                return
            self._keys = {**self._keys, **fresh}
            _log.info("wechat.certificates.refreshed", count=len(fresh))

    def _opened(self, body: bytes, headers: Mapping[str, str]) -> dict[str, RSAPublicKey]:
        """Unseal downloaded certificates, then hold the answer's own signature against them."""
        fresh: dict[str, RSAPublicKey] = {}
        for item in json.loads(body)["data"]:
            fresh.update(self._of_certificate(unseal(self.apiv3_keys, item["encrypt_certificate"])))
        found = wechat_headers(headers)
        signer = {**self._keys, **fresh}.get(_normal(found.get("serial", "")))
        if signer is None or "signature" not in found:
            raise UnknownSerialError("the certificate list is not signed by a key in it")
        self._check(signer, found, body)
        return fresh

    def _of_certificate(self, pem: bytes) -> dict[str, RSAPublicKey]:
        """Return serial and key of a certificate that is valid now, else nothing."""
        certificate = x509.load_pem_x509_certificate(pem)
        now = datetime.fromtimestamp(self.clock(), tz=UTC)
        key = certificate.public_key()
        if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
            _log.warning("wechat.certificate.not_valid", serial=f"{certificate.serial_number:X}")
            return {}
        if not isinstance(key, RSAPublicKey):
            raise ValueError("a platform certificate without an RSA key")
        return {_normal(f"{certificate.serial_number:X}"): key}
