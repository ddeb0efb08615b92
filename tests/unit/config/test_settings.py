"""Settings: names, key rings, one message for everything missing, no secret in any message."""

import base64
import os
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from config.settings import PREFIX, Role, Settings, SettingsError, key_ring, load, missing, variable

_KEY = base64.b64encode(bytes(range(32))).decode()
_OTHER = base64.b64encode(bytes(32)).decode()


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in list(os.environ):
        if name.startswith(PREFIX) or name in ("DATABASE_URL", "TEMPORAL_ADDRESS", "TEMPORAL_NAMESPACE"):
            monkeypatch.delenv(name)
    return monkeypatch


def test_well_known_names_carry_no_prefix(clean_environment: pytest.MonkeyPatch) -> None:
    clean_environment.setenv("DATABASE_URL", "postgresql://u:p@h/d")
    clean_environment.setenv("TEMPORAL_ADDRESS", "temporal:7233")
    clean_environment.setenv("TEMPORAL_NAMESPACE", "fuel")
    clean_environment.setenv("JIAZHU_API_PORT", "8123")
    settings = load(Role.DATABASE)
    assert settings.require_database_url() == "postgresql://u:p@h/d"
    assert (settings.temporal_address, settings.temporal_namespace) == ("temporal:7233", "fuel")
    assert settings.api_port == 8123


def test_everything_missing_is_named_in_one_message() -> None:
    with pytest.raises(SettingsError) as raised:
        load(Role.WORKER)
    message = str(raised.value)
    assert all(name in message for name in missing(Settings(), Role.WORKER))
    for name in (
        "DATABASE_URL",
        "JIAZHU_CODEC_KEYS",
        "JIAZHU_DATA_KEYS",
        "JIAZHU_WECHAT_MERCHANT_PRIVATE_KEY_PATH",
    ):
        assert name in message


def test_an_empty_variable_counts_as_missing(clean_environment: pytest.MonkeyPatch) -> None:
    clean_environment.setenv("DATABASE_URL", "")
    with pytest.raises(SettingsError, match="DATABASE_URL"):
        load(Role.DATABASE)


def test_malformed_values_are_named_and_not_shown(clean_environment: pytest.MonkeyPatch) -> None:
    clean_environment.setenv("JIAZHU_API_PORT", "not-a-port-8841")
    with pytest.raises(SettingsError, match=r"(?i)api_port") as raised:
        load()
    assert "8841" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        ("JIAZHU_LOG_LEVEL", "foo", "must be 'DEBUG', 'INFO', 'WARNING', 'ERROR' or 'CRITICAL'"),
        ("JIAZHU_LOG_FORMAT", "foo", "must be 'auto', 'json' or 'console'"),
        ("JIAZHU_DATABASE_POOL_SIZE", "0", "must be greater than or equal to 1"),
        ("JIAZHU_WORKER_MAX_ACTIVITIES", "abc", "must be a whole number"),
        ("JIAZHU_WORKER_MAX_WORKFLOW_TASKS", "1", "must be greater than or equal to 2"),
        ("JIAZHU_TEMPORAL_CONNECT_TIMEOUT_S", "9" * 5000, "must be a whole number, not such a long one"),
        ("JIAZHU_API_PORT", "65536", "must be less than or equal to 65535"),
        ("JIAZHU_TEMPORAL_TLS", "maybe", "must be true or false"),
        ("JIAZHU_PUBLIC_BASE_URL", "fuel.example", "must begin with http:// or https://"),
        ("JIAZHU_INDEX_KEY", "tooshort", "a key must have 32 bytes, not 6"),
        ("DATABASE_URL", "mysql://u:p@h/d", "must be postgresql://user:password@host:port/database"),
    ],
)
def test_each_malformed_value_is_one_line_that_says_what_is_allowed(
    clean_environment: pytest.MonkeyPatch, name: str, value: str, line: str
) -> None:
    clean_environment.setenv(name, value)
    clean_environment.setenv("JIAZHU_SANDBOX", "perhaps")
    with pytest.raises(SettingsError) as raised:
        load()
    assert str(raised.value).splitlines() == sorted(
        [f"{name}: {line}", "JIAZHU_SANDBOX: must be true or false"]
    )


@pytest.mark.parametrize("field", sorted(Settings.model_fields))
def test_an_empty_variable_is_as_good_as_none(clean_environment: pytest.MonkeyPatch, field: str) -> None:
    clean_environment.setenv(variable(field), "")
    assert getattr(load(), field) in (None, Settings.model_fields[field].default)


def test_the_log_level_may_be_written_small(clean_environment: pytest.MonkeyPatch) -> None:
    clean_environment.setenv("JIAZHU_LOG_LEVEL", "debug")
    assert load().log_level == "DEBUG"


def test_key_ring_keeps_the_order() -> None:
    ring = key_ring("CODEC_KEYS", SecretStr(f"new:{_KEY}, old:{_OTHER}"))
    assert list(ring) == ["new", "old"]
    assert ring["new"] == bytes(range(32))


@pytest.mark.parametrize(
    "text",
    ["", "nokid", f":{_KEY}", f"a:{_KEY},a:{_OTHER}", "a:%%%", "a:" + base64.b64encode(b"short").decode()],
)
def test_malformed_key_rings_are_refused_without_showing_the_key(text: str) -> None:
    with pytest.raises(SettingsError, match="JIAZHU_CODEC_KEYS") as raised:
        key_ring("CODEC_KEYS", SecretStr(text))
    assert _KEY not in str(raised.value)


def test_a_bad_key_stops_the_start(clean_environment: pytest.MonkeyPatch) -> None:
    clean_environment.setenv("JIAZHU_CODEC_KEYS", "a:tooshort")
    with pytest.raises(SettingsError, match="JIAZHU_CODEC_KEYS"):
        load(Role.CODEC)


def test_settings_are_frozen_and_hide_their_secrets() -> None:
    settings = Settings(jwt_secret=SecretStr("do-not-show"))
    assert "do-not-show" not in repr(settings)
    with pytest.raises(ValidationError):
        settings.api_port = 1  # type: ignore[misc]


def test_notifications_go_to_the_public_address_unless_told() -> None:
    assert Settings(public_base_url="https://p").notify_base_url == "https://p"
    assert (
        Settings(public_base_url="https://p", wechat_notify_base_url="https://n").notify_base_url
        == "https://n"
    )


def test_wechat_keys_by_id_and_the_certificate_files(clean_environment: pytest.MonkeyPatch) -> None:
    clean_environment.setenv("JIAZHU_WECHAT_PUBLIC_KEY_ID", "PUB_KEY_ID_1")
    clean_environment.setenv("JIAZHU_WECHAT_PUBLIC_KEY_PATH", "/run/1.pem")
    clean_environment.setenv("JIAZHU_WECHAT_PUBLIC_KEY_SECOND_ID", "")
    clean_environment.setenv("JIAZHU_WECHAT_PUBLIC_KEY_SECOND_PATH", "")
    assert load().wechat_public_key_files == {"PUB_KEY_ID_1": Path("/run/1.pem")}
    assert load().wechat_platform_certificate_files == []
    clean_environment.setenv("JIAZHU_WECHAT_PUBLIC_KEY_SECOND_ID", "PUB_KEY_ID_2")
    clean_environment.setenv("JIAZHU_WECHAT_PUBLIC_KEY_SECOND_PATH", "/run/2.pem")
    clean_environment.setenv("JIAZHU_WECHAT_PLATFORM_CERTIFICATE_PATHS", "/run/a.pem, /run/b.pem,")
    assert list(load().wechat_public_key_files.items()) == [
        ("PUB_KEY_ID_1", Path("/run/1.pem")),
        ("PUB_KEY_ID_2", Path("/run/2.pem")),
    ]
    assert load().wechat_platform_certificate_files == [Path("/run/a.pem"), Path("/run/b.pem")]


@pytest.mark.parametrize(
    "second", [{"ID": "PUB_KEY_ID_2"}, {"PATH": "/run/2.pem"}, {"ID": "PUB_KEY_ID_1", "PATH": "/run/2.pem"}]
)
def test_half_a_second_wechat_key_is_refused_at_the_start(
    clean_environment: pytest.MonkeyPatch, second: dict[str, str]
) -> None:
    clean_environment.setenv("JIAZHU_WECHAT_PUBLIC_KEY_ID", "PUB_KEY_ID_1")
    clean_environment.setenv("JIAZHU_WECHAT_PUBLIC_KEY_PATH", "/run/1.pem")
    for part, value in second.items():
        clean_environment.setenv(f"JIAZHU_WECHAT_PUBLIC_KEY_SECOND_{part}", value)
    with pytest.raises(SettingsError, match="WECHAT_PUBLIC_KEY_SECOND"):
        load()
