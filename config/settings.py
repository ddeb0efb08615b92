"""Settings of every process. This module is the only reader of the environment.

`DATABASE_URL` and `TEMPORAL_*` keep their well-known names, everything else starts with `JIAZHU_`. A process
loads what it needs by its role: `load(Role.API)` refuses to start with one message that names every missing
variable. Keys are text so that one variable carries a whole ring:
`JIAZHU_CODEC_KEYS=2026b:<base64>,2026a:<base64>`, the first one current, the others only for reading
(rotation).
"""

import base64
import binascii
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AliasChoices, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

PREFIX: Final = "JIAZHU_"
_KEY_BYTES: Final = 32


class SettingsError(RuntimeError):
    """The environment does not hold what this process needs. The message is for the person who starts it."""


class Role(StrEnum):
    """Which process loads the settings; it decides what must be there."""

    API = "api"
    WORKER = "worker"
    GATEWAY = "gateway"
    CODEC = "codec"
    DATABASE = "database"


def _bare(name: str) -> AliasChoices:
    return AliasChoices(name, name.lower())


def _empty_to_none(value: object) -> object:
    """An empty variable means "not set": compose files pass `${NAME:-}`."""
    return None if value == "" else value


OptionalPath = Annotated[Path | None, BeforeValidator(_empty_to_none)]
OptionalSecret = Annotated[SecretStr | None, BeforeValidator(_empty_to_none)]
OptionalText = Annotated[str | None, BeforeValidator(_empty_to_none)]


class Settings(BaseSettings):
    """All settings, frozen. Times are seconds, ports TCP unless the name says otherwise."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="ignore", populate_by_name=True, hide_input_in_errors=True
    )

    database_url: OptionalSecret = Field(default=None, validation_alias=_bare("DATABASE_URL"))
    database_pool_size: int = 10

    temporal_address: str = Field(default="127.0.0.1:7233", validation_alias=_bare("TEMPORAL_ADDRESS"))
    temporal_namespace: str = Field(default="default", validation_alias=_bare("TEMPORAL_NAMESPACE"))
    temporal_ui_url: str = "http://127.0.0.1:8233"
    temporal_connect_timeout_s: int = 30
    temporal_tls: bool = False
    temporal_tls_ca_path: OptionalPath = None
    temporal_tls_cert_path: OptionalPath = None
    temporal_tls_key_path: OptionalPath = None

    codec_keys: OptionalSecret = None
    codec_host: str = "127.0.0.1"
    codec_port: int = 8088
    codec_token: OptionalSecret = None
    """When set, the codec server asks for it as a bearer token."""

    data_keys: OptionalSecret = None
    index_key: OptionalSecret = None
    """Base64, 32 bytes: the root key of the blind indexes."""
    jwt_secret: OptionalSecret = None
    console_secret: OptionalSecret = None
    nozzle_code_key: OptionalSecret = None
    """Base64, 32 bytes: signs the QR codes on the nozzles."""

    api_host: str = "127.0.0.1"
    api_port: int = 8000
    public_base_url: str = "http://127.0.0.1:8000"

    wechat_base_url: str = "https://api.mch.weixin.qq.com"
    wechat_standby_base_url: OptionalText = "https://api2.mch.weixin.qq.com"
    wechat_miniapp_base_url: str = "https://api.weixin.qq.com"
    wechat_notify_base_url: OptionalText = None
    """Where WeChat reaches us; `public_base_url` when it is not set."""
    wechat_mchid: OptionalText = None
    wechat_appid: OptionalText = None
    wechat_appsecret: OptionalSecret = None
    wechat_merchant_serial: OptionalText = None
    wechat_merchant_private_key_path: OptionalPath = None
    wechat_public_key_path: OptionalPath = None
    wechat_public_key_id: OptionalText = None
    wechat_public_key_second_path: OptionalPath = None
    wechat_public_key_second_id: OptionalText = None
    """Another of WeChat's public keys, accepted beside the first while one takes the other's place."""
    wechat_platform_certificate_paths: OptionalText = None
    """Files, separated by commas: platform certificates that WeChat still signs with while it changes to the public key."""
    wechat_apiv3_key: OptionalSecret = None
    wechat_apiv3_key_previous: OptionalSecret = None
    """The key that is being replaced: notifications under it are still read."""

    gateway_shard: int = 0
    gateway_coap_host: str = "127.0.0.1"
    gateway_coap_port: int = 5683
    """UDP, and TCP as well when `gateway_coap_tcp` is on."""
    gateway_coap_tcp: bool = False
    gateway_oscore_folder: OptionalPath = None
    gateway_sales_per_minute: int = Field(default=240, gt=0)
    gateway_sales_burst: int = Field(default=2_000, gt=0)
    """Sales that a station may send at once, and each minute after that; the rest waits in its outbox."""

    worker_max_workflow_tasks: int = 16
    worker_max_activities: int = 32

    probe_host: str = "127.0.0.1"
    """Where workers and gateway answer /healthz, /readyz and /metrics."""
    worker_probe_port: int = 9101
    gateway_probe_port: int = 9102
    temporal_metrics_port: int = 0
    """Port of the Temporal SDK's own Prometheus endpoint; 0 switches it off."""

    log_level: str = "INFO"
    log_format: Literal["auto", "json", "console"] = "auto"
    sandbox: bool = False
    """The outside world is simulated; every page says so."""
    embedded: bool = False
    """This process runs under the embedded stack."""

    @property
    def notify_base_url(self) -> str:
        """The base of the addresses that payment channels call."""
        return self.wechat_notify_base_url or self.public_base_url

    @property
    def wechat_public_key_files(self) -> dict[str, Path]:
        """WeChat's public keys by id, first the one that requests ask for. Raises SettingsError for half a second key."""
        first, second = self.wechat_public_key_id, self.wechat_public_key_second_id
        path, second_path = self.wechat_public_key_path, self.wechat_public_key_second_path
        if (second is None) != (second_path is None) or (second is not None and second == first):
            raise SettingsError(
                f"{PREFIX}WECHAT_PUBLIC_KEY_SECOND_ID and _PATH: both, and another id, or neither"
            )
        pairs = ((first, path), (second, second_path))
        return {key_id: file for key_id, file in pairs if key_id and file}

    @property
    def wechat_platform_certificate_files(self) -> list[Path]:
        """Files of WeChat's platform certificates; their serials are read from them."""
        names = (self.wechat_platform_certificate_paths or "").split(",")
        return [Path(name.strip()) for name in names if name.strip()]

    @property
    def codec_key_ring(self) -> dict[str, bytes]:
        """Keys of the payload codec by id, the current one first; empty when none is set."""
        return key_ring("CODEC_KEYS", self.codec_keys)

    @property
    def data_key_ring(self) -> dict[str, bytes]:
        """Keys of the encrypted columns by id, the current one first; empty when none is set."""
        return key_ring("DATA_KEYS", self.data_keys)

    @property
    def index_key_bytes(self) -> bytes:
        """The root key of the blind indexes. Raises SettingsError when it is not set."""
        return _single_key("INDEX_KEY", self.index_key)

    @property
    def nozzle_code_key_bytes(self) -> bytes:
        """The key of the nozzles' QR codes. Raises SettingsError when it is not set."""
        return _single_key("NOZZLE_CODE_KEY", self.nozzle_code_key)

    def require_database_url(self) -> str:
        """The database URL in clear. Raises SettingsError when it is not set."""
        if self.database_url is None:
            raise SettingsError("DATABASE_URL is not set")
        return self.database_url.get_secret_value()


def _decode_key(name: str, text: str) -> bytes:
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise SettingsError(f"{PREFIX}{name}: a key is not base64") from error
    if len(key) != _KEY_BYTES:
        raise SettingsError(f"{PREFIX}{name}: a key must have {_KEY_BYTES} bytes, not {len(key)}")
    return key


def key_ring(name: str, secret: SecretStr | None) -> dict[str, bytes]:
    """Parse `kid:base64,kid2:base64`. Raises SettingsError that names the variable and never the key."""
    ring: dict[str, bytes] = {}
    for entry in "" if secret is None else secret.get_secret_value().split(","):
        kid, separator, text = entry.strip().partition(":")
        if not separator or not kid or kid in ring:
            raise SettingsError(f"{PREFIX}{name}: expected kid:base64[,kid:base64...] with ids that differ")
        ring[kid] = _decode_key(name, text)
    return ring


def _single_key(name: str, secret: SecretStr | None) -> bytes:
    if secret is None:
        raise SettingsError(f"{PREFIX}{name} is not set")
    return _decode_key(name, secret.get_secret_value())


_CHANNEL_IN = (
    "wechat_mchid",
    "wechat_appid",
    "wechat_apiv3_key",
    "wechat_public_key_path",
    "wechat_public_key_id",
)
_CHANNEL_OUT = ("wechat_appsecret", "wechat_merchant_serial", "wechat_merchant_private_key_path")
_STORE = ("database_url", "codec_keys")
_PERSONAL = ("data_keys", "index_key")
_REQUIRED: Final[dict[Role, tuple[str, ...]]] = {
    Role.API: (
        *_STORE,
        *_PERSONAL,
        "jwt_secret",
        "console_secret",
        "nozzle_code_key",
        *_CHANNEL_IN,
        "wechat_appsecret",
    ),
    Role.WORKER: (*_STORE, *_PERSONAL, *_CHANNEL_IN, *_CHANNEL_OUT),
    Role.GATEWAY: (*_STORE, "gateway_oscore_folder"),
    Role.CODEC: ("codec_keys",),
    Role.DATABASE: ("database_url",),
}
_UNPREFIXED: Final = {"database_url", "temporal_address", "temporal_namespace"}


def variable(field: str) -> str:
    """The environment variable of a field."""
    return field.upper() if field in _UNPREFIXED else PREFIX + field.upper()


def missing(settings: Settings, role: Role) -> list[str]:
    """The variables that this role needs and that are not set."""
    return [variable(name) for name in _REQUIRED[role] if getattr(settings, name) is None]


def load(role: Role | None = None) -> Settings:
    """Read the environment.

    Raises SettingsError that lists everything missing or malformed at once; values never appear in it.
    """
    try:
        settings = Settings()
    except ValidationError as error:
        wrong = ", ".join(sorted({str(one["loc"][0]) for one in error.errors()}))
        raise SettingsError(f"these settings are malformed: {wrong}") from error
    if role is not None and (names := missing(settings, role)):
        raise SettingsError(f"the {role} process needs these environment variables: {', '.join(names)}")
    settings.codec_key_ring  # noqa: B018 - a malformed key must be reported now, not at the first payload
    settings.data_key_ring  # noqa: B018
    settings.wechat_public_key_files  # noqa: B018
    return settings
