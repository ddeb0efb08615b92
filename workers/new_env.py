"""A new installation's `.env` for docker-compose.yml.

Draws every secret, leaves what the merchant platform gives empty.

`.venv/bin/python -m workers.new_env > .env`. With `--sandbox-keys FOLDER` (the folder that the WeChat sandbox filled on
its first start) the merchant's half of the simulated channel is filled in and the sandbox is switched on.
"""

import argparse
import secrets
import sys
import tempfile
from pathlib import Path

from workers.embedded.services import channel_environment
from workers.embedded.state import load_secrets

_BY_HAND = (
    "JIAZHU_WECHAT_MCHID",
    "JIAZHU_WECHAT_APPID",
    "JIAZHU_WECHAT_APPSECRET",
    "JIAZHU_WECHAT_APIV3_KEY",
    "JIAZHU_WECHAT_MERCHANT_SERIAL",
    "JIAZHU_WECHAT_PUBLIC_KEY_ID",
)
_SANDBOX = {
    "JIAZHU_SANDBOX": "true",
    "JIAZHU_WECHAT_BASE_URL": "http://wechat-sandbox:8090",
    "JIAZHU_WECHAT_MINIAPP_BASE_URL": "http://wechat-sandbox:8090",
    "JIAZHU_WECHAT_NOTIFY_BASE_URL": "http://api:8000",
}


def new_environment(sandbox_keys: Path | None) -> dict[str, str]:
    """The variables of a new installation."""
    with tempfile.TemporaryDirectory() as folder:
        drawn = load_secrets(Path(folder))
    drawn["POSTGRES_PASSWORD"] = secrets.token_urlsafe(24)
    drawn["JIAZHU_PUBLIC_BASE_URL"] = "http://localhost:8000"
    drawn["JIAZHU_TEMPORAL_UI_URL"] = "http://localhost:8080"
    if sandbox_keys is None:
        return drawn | dict.fromkeys(_BY_HAND, "")
    channel = channel_environment(sandbox_keys)
    folder_of_keys = {"JIAZHU_WECHAT_KEYS_FOLDER": str(sandbox_keys)}
    return drawn | _SANDBOX | {name: channel[name] for name in _BY_HAND} | folder_of_keys


def main() -> None:
    """Write the lines to standard output."""
    parser = argparse.ArgumentParser(description="Draw the secrets of a new installation.")
    parser.add_argument("--sandbox-keys", type=Path, help="key folder of the WeChat sandbox")
    options = parser.parse_args()
    for name, value in new_environment(options.sandbox_keys).items():
        sys.stdout.write(f"{name}={value}\n")


if __name__ == "__main__":
    main()
