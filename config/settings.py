"""Settings of every process. This module is the only reader of the environment.

`DATABASE_URL` and `TEMPORAL_*` keep their well-known names, everything else starts with `JIAZHU_`. A process
loads what it needs by its role: `load(Role.API)` refuses to start with one message that names every missing
variable, or what is wrong with each malformed one. Keys are text so that one variable carries a whole ring:
`JIAZHU_CODEC_KEYS=2026b:<base64>,2026a:<base64>`, the first one current, the others only for reading
(rotation).
"""

import base64
import binascii
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import (
    AliasChoices,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

PREFIX: Final = "JIAZHU_"
_KEY_BYTES: Final = 32
_POSTGRESQL: Final = ("postgresql://", "postgres://", "postgresql+psycopg://")


class SettingsError(ValueError):
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


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


LogLevel = Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], BeforeValidator(_upper)]
Port = Annotated[int, Field(ge=0, le=65_535)]
"""0: any free one."""
AtOnce = Annotated[int, Field(ge=1, le=10_000)]
Address = Annotated[str, Field(pattern=r"^https?://[^/\s]")]


class Settings(BaseSettings):
    """All settings, frozen. Times are seconds, ports TCP unless the name says otherwise."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="ignore", populate_by_name=True, hide_input_in_errors=True
    )

    database_url: SecretStr | None = Field(default=None, validation_alias=_bare("DATABASE_URL"))
    database_pool_size: AtOnce = 10

    temporal_address: str = Field(default="127.0.0.1:7233", validation_alias=_bare("TEMPORAL_ADDRESS"))
    temporal_namespace: str = Field(default="default", validation_alias=_bare("TEMPORAL_NAMESPACE"))
    temporal_ui_url: Address | None = "http://127.0.0.1:8233"
    temporal_connect_timeout_s: int = Field(default=30, ge=1)
    temporal_tls: bool = False
    temporal_tls_ca_path: Path | None = None
    temporal_tls_cert_path: Path | None = None
    temporal_tls_key_path: Path | None = None

    codec_keys: SecretStr | None = None
    codec_host: str = "127.0.0.1"
    codec_port: Port = 8088
    codec_token: SecretStr | None = None
    """When set, the codec server asks for it as a bearer token."""

    data_keys: SecretStr | None = None
    index_key: SecretStr | None = None
    """Base64, 32 bytes: the root key of the blind indexes."""
    jwt_secret: SecretStr | None = None
    console_secret: SecretStr | None = None
    nozzle_code_key: SecretStr | None = None
    """Base64, 32 bytes: signs the QR codes on the nozzles."""

    api_host: str = "127.0.0.1"
    api_port: Port = 8000
    public_base_url: Address = "http://127.0.0.1:8000"

    wechat_base_url: Address = "https://api.mch.weixin.qq.com"
    wechat_standby_base_url: Address | None = "https://api2.mch.weixin.qq.com"
    wechat_miniapp_base_url: Address = "https://api.weixin.qq.com"
    wechat_notify_base_url: Address | None = None
    """Where WeChat reaches us; `public_base_url` when it is not set."""
    wechat_mchid: str | None = None
    wechat_appid: str | None = None
    wechat_appsecret: SecretStr | None = None
    wechat_merchant_serial: str | None = None
    wechat_merchant_private_key_path: Path | None = None
    wechat_public_key_path: Path | None = None
    wechat_public_key_id: str | None = None
    wechat_public_key_second_path: Path | None = None
    wechat_public_key_second_id: str | None = None
    """Another of WeChat's public keys, accepted beside the first while one takes the other's place."""
    wechat_platform_certificate_paths: str | None = None
    """Files, separated by commas: platform certificates that WeChat still signs with while it changes to the public key."""
    wechat_apiv3_key: SecretStr | None = None
    wechat_apiv3_key_previous: SecretStr | None = None
    """The key that is being replaced: notifications under it are still read."""

    gateway_shard: int = Field(default=0, ge=0)
    gateway_coap_host: str = "127.0.0.1"
    gateway_coap_port: Port = 5683
    """UDP, and TCP as well when `gateway_coap_tcp` is on."""
    gateway_coap_tcp: bool = False
    gateway_oscore_folder: Path | None = None
    gateway_sales_per_minute: int = Field(default=240, gt=0)
    gateway_sales_burst: int = Field(default=2_000, gt=0)
    """Sales that a station may send at once, and each minute after that; the rest waits in its outbox."""

    worker_max_workflow_tasks: int = Field(default=16, ge=2, le=10_000)
    """Temporal's workers keep workflows in memory only when they may run two at once."""
    worker_max_activities: AtOnce = 32

    probe_host: str = "127.0.0.1"
    """Where workers and gateway answer /healthz, /readyz and /metrics."""
    worker_probe_port: Port = 9101
    gateway_probe_port: Port = 9102
    temporal_metrics_port: Port = 0
    """Port of the Temporal SDK's own Prometheus endpoint; 0 switches it off."""

    log_level: LogLevel = "INFO"
    log_format: Literal["auto", "json", "console"] = "auto"
    sandbox: bool = False
    """The outside world is simulated; every page says so."""
    embedded: bool = False
    """This process runs under the embedded stack."""

    @field_validator("*", mode="before")
    @classmethod
    def _empty_is_not_set(cls, value: Any, info: ValidationInfo) -> Any:
        """An empty variable means "not set": compose files pass `${NAME:-}`. What may be absent is absent then."""
        if value != "":
            return value
        field = cls.model_fields[str(info.field_name)]
        return None if NoneType in get_args(field.annotation) else field.get_default()

    @field_validator("database_url")
    @classmethod
    def _is_postgresql(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None and not url.get_secret_value().startswith(_POSTGRESQL):
            raise SettingsError("must be postgresql://user:password@host:port/database")
        return url

    @field_validator("codec_keys", "data_keys", "index_key", "nozzle_code_key")
    @classmethod
    def _keys_are_keys(cls, secret: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        """A malformed key is reported now, not at the first payload."""
        name = str(info.field_name).upper()
        if secret is not None:
            (key_ring if name.endswith("KEYS") else _single_key)(name, secret)
        return secret

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


_MUST: Final = {
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a whole number, not such a long one",
    "bool_parsing": "must be true or false",
    "string_pattern_mismatch": "must begin with http:// or https://",
}
"""In place of pydantic's words where those do not say what is allowed."""


def _line(error: Mapping[str, Any]) -> str:
    """Return which variable is wrong and what is allowed, never its value."""
    name = variable(str(error["loc"][0]).lower())
    words = error["msg"].removeprefix("Value error, ").removeprefix(f"{name}: ")
    return f"{name}: {_MUST.get(error['type'], words.replace('Input should be', 'must be'))}"


def load(role: Role | None = None) -> Settings:
    """Read the environment.

    Raises SettingsError with a line for everything malformed, or with one that lists everything missing; values
    never appear in it.
    """
    try:
        settings = Settings()
    except ValidationError as error:
        raise SettingsError("\n".join(sorted(_line(one) for one in error.errors()))) from error
    if role is not None and (names := missing(settings, role)):
        raise SettingsError(f"the {role} process needs these environment variables: {', '.join(names)}")
    settings.wechat_public_key_files  # noqa: B018 - half a second key must be reported now
    return settings
