"""Key material of the simulated merchant and of WeChat Pay: made once, kept in a folder, never a published
test key.

Folder layout (`load_or_create`): `material.json` names the identifiers and the PEM files beside it. A
process of the
product needs the merchant's half only: `apiclient_key.pem`, `wechatpay_public_key.pem` (and
`platform_cert.pem`).
"""

from __future__ import annotations

import json
import os
import random
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

MATERIAL_FILE = "material.json"
_PEM_FILES = {
    "merchant_private_pem": "apiclient_key.pem",
    "merchant_certificate_pem": "apiclient_cert.pem",
    "wechat_private_pem": "wechatpay_private_key.pem",
    "wechat_public_pem": "wechatpay_public_key.pem",
    "platform_private_pem": "platform_private_key.pem",
    "platform_certificate_pem": "platform_cert.pem",
}
_TEXT_FIELDS = (
    "mchid",
    "appid",
    "appsecret",
    "apiv3_key",
    "merchant_serial",
    "wechat_public_key_id",
    "platform_serial",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyMaterial:
    """Identifiers and PEM texts of both sides.

    `apiv3_key` has 32 ASCII characters; serials are upper-case hex.
    """

    mchid: str
    appid: str
    appsecret: str
    apiv3_key: str
    merchant_serial: str
    merchant_private_pem: str
    merchant_certificate_pem: str
    wechat_public_key_id: str
    wechat_private_pem: str
    wechat_public_pem: str
    platform_serial: str
    platform_private_pem: str
    platform_certificate_pem: str


def _private_pem(key: rsa.RSAPrivateKey) -> str:
    raw = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return raw.decode()


def _certificate(key: rsa.RSAPrivateKey, common_name: str, now: datetime) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=5 * 365))  # WeChat's platform certificates live five years
    )
    return builder.sign(key, hashes.SHA256())


def _serial(certificate: x509.Certificate) -> str:
    return f"{certificate.serial_number:040X}"


def generate(*, mchid: str = "1900000109", appid: str = "wx8888888888888888") -> KeyMaterial:
    """Draw three RSA-2048 keys, two certificates and the secrets of one merchant."""
    merchant, wechat, platform = (
        rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(3)
    )
    now = datetime.now(tz=UTC)
    merchant_cert = _certificate(merchant, mchid, now)
    platform_cert = _certificate(platform, "Tenpay.com Root CA (sandbox)", now)
    wechat_public = wechat.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    digits = random.SystemRandom().randrange(10**20)
    return KeyMaterial(
        mchid=mchid,
        appid=appid,
        appsecret=secrets.token_hex(16),
        apiv3_key=secrets.token_hex(16),
        merchant_serial=_serial(merchant_cert),
        merchant_private_pem=_private_pem(merchant),
        merchant_certificate_pem=merchant_cert.public_bytes(serialization.Encoding.PEM).decode(),
        wechat_public_key_id=f"PUB_KEY_ID_0{mchid}{digits:020d}",
        wechat_private_pem=_private_pem(wechat),
        wechat_public_pem=wechat_public.decode(),
        platform_serial=_serial(platform_cert),
        platform_private_pem=_private_pem(platform),
        platform_certificate_pem=platform_cert.public_bytes(serialization.Encoding.PEM).decode(),
    )


def _write(path: Path, text: str) -> None:
    """Write beside, then rename: a reader never sees half a key."""
    beside = path.with_name(path.name + ".new")
    beside.touch(mode=0o600)
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, path)


def save(material: KeyMaterial, folder: Path) -> None:
    """Store the material; `material.json` comes last, so its presence means that everything is there."""
    folder.mkdir(parents=True, exist_ok=True)
    for field, name in _PEM_FILES.items():
        _write(folder / name, str(getattr(material, field)))
    index = {field: getattr(material, field) for field in _TEXT_FIELDS}
    _write(folder / MATERIAL_FILE, json.dumps({**index, "files": _PEM_FILES}, indent=2))


def load(folder: Path) -> KeyMaterial:
    """Read the material that `save` wrote; raises FileNotFoundError when there is none."""
    index = json.loads((folder / MATERIAL_FILE).read_text(encoding="utf-8"))
    pems = {field: (folder / name).read_text(encoding="utf-8") for field, name in index["files"].items()}
    return KeyMaterial(**{field: index[field] for field in _TEXT_FIELDS}, **pems)


def load_or_create(folder: Path) -> KeyMaterial:
    """The material of `folder`, drawn on the first call."""
    if not (folder / MATERIAL_FILE).exists():
        save(generate(), folder)
    return load(folder)
