"""Settings: names, key rings, one message for everything missing, no secret in any message."""

import base64
import os
from pathlib import Path

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
