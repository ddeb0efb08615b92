"""Settings: names, key rings, one message for everything missing, no secret in any message."""

import base64
import os

import pytest
from pydantic import SecretStr, ValidationError

from config.settings import PREFIX, Role, Settings, SettingsError, key_ring, load, missing

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
