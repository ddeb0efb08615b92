"""The API process: `python -m api.main`. Reads the settings, wires the real ports, serves until told to stop.

Prints one JSON line with `"ready": true` when it listens, for whoever supervises it.
"""

import asyncio
import json
import signal
import socket
import sys
from collections.abc import Mapping
from datetime import UTC, datetime

import structlog
import uvicorn
from fastapi import FastAPI
from pydantic import SecretStr

from adapters.miniprogram.client import MiniProgramClient
from adapters.miniprogram.errors import (
    LoginCodeInvalidError,
    MiniProgramError,
    PhoneCodeInvalidError,
    RiskUserError,
)
from adapters.payments.wechat.core import epoch_seconds
from adapters.payments.wechat.errors import NotificationRejectedError
from adapters.payments.wechat.keys import KeyStore
from adapters.payments.wechat.notification import NotificationVerifier
from api.app import create_app
from api.console_link import ConsoleLink
from api.deps import ApiDeps
from api.ports import (
    ChannelNotification,
    HostBusyError,
    LoginRefusedError,
    NotificationRefusedError,
)
from api.temporal_gateway import ClientTemporalGateway
from config import logging
from config.settings import Role, Settings, SettingsError, load
from config.temporal import connect
from db.crypto import ColumnCipher
from db.session import make_engine

log = structlog.get_logger(__name__)
_BACKLOG = 512
_DRAIN_S = 5
_CONSOLE_CONNECTIONS = 5
"""Connections for the console and the relay beside the API's threads, so that neither waits for the other."""


class WeChatMiniProgram:
    """`MiniProgram` over the client of WeChat's host."""

    def __init__(self, client: MiniProgramClient) -> None:
        self._client = client

    def openid_of(self, code: str) -> str:
        """Return the openid behind a login code; raises LoginRefusedError or HostBusyError."""
        try:
            return self._client.code_to_session(code).openid
        except (LoginCodeInvalidError, RiskUserError) as error:
            raise LoginRefusedError from error
        except MiniProgramError as error:
            raise HostBusyError from error

    def phone_of(self, code: str) -> str:
        """Return the phone number behind a phone code; raises LoginRefusedError or HostBusyError."""
        try:
            return self._client.phone_number(code)
        except PhoneCodeInvalidError as error:
            raise LoginRefusedError from error
        except MiniProgramError as error:
            raise HostBusyError from error


class WeChatVerifier:
    """`NotificationVerifier` over the adapter's."""

    def __init__(self, verifier: NotificationVerifier) -> None:
        self._verifier = verifier

    def verify(self, headers: Mapping[str, str], body: bytes) -> ChannelNotification:
        """Return what the raw bytes say; raises NotificationRefusedError when WeChat did not sign them."""
        try:
            note = self._verifier.verify(headers, body)
        except NotificationRejectedError as error:
            raise NotificationRefusedError(str(error.reason)) from error
        return ChannelNotification(
            id=note.id,
            event_type=note.event_type,
            out_trade_no=note.out_trade_no,
            out_refund_no=note.out_refund_no,
            state=note.refund_status or note.trade_state,
            transaction_id=note.transaction_id,
            amount_fen=note.amount_fen,
        )


def _secret(value: SecretStr | None) -> str:
    return value.get_secret_value() if value else ""


def _verifier(settings: Settings) -> WeChatVerifier:
    keys = KeyStore(
        clock=epoch_seconds,
        apiv3_keys=[
            key.encode()
            for key in (_secret(settings.wechat_apiv3_key), _secret(settings.wechat_apiv3_key_previous))
            if key
        ],
        public_keys={key: path.read_bytes() for key, path in settings.wechat_public_key_files.items()},
        platform_certificates=[path.read_bytes() for path in settings.wechat_platform_certificate_files],
    )
    return WeChatVerifier(
        NotificationVerifier(keys=keys, mchid=settings.wechat_mchid or "", appid=settings.wechat_appid or "")
    )


def _clock() -> datetime:
    return datetime.now(tz=UTC)


async def build(settings: Settings) -> FastAPI:
    """Return the app over the real database, Temporal and WeChat."""
    client = await connect(settings, identity="jiazhu-api")
    pool = settings.database_pool_size
    engine = make_engine(
        settings.require_database_url(), pool_size=pool + _CONSOLE_CONNECTIONS, application_name="jiazhu-api"
    )
    cipher = ColumnCipher(settings.data_key_ring, settings.index_key_bytes)
    mini_program = MiniProgramClient(
        settings.wechat_miniapp_base_url, settings.wechat_appid or "", _secret(settings.wechat_appsecret)
    )
    deps = ApiDeps(
        engine=engine,
        temporal=ClientTemporalGateway(client),
        mini_program=WeChatMiniProgram(mini_program),
        verifier=_verifier(settings),
        cipher=cipher,
        clock=_clock,
        jwt_secret=_secret(settings.jwt_secret),
        nozzle_code_key=settings.nozzle_code_key_bytes,
        sandbox=settings.sandbox,
        threads=pool,
        login_tries_per_address=6_000 if settings.sandbox else 60,
    )
    console = ConsoleLink(
        secret_key=_secret(settings.console_secret),
        cipher=cipher,
        temporal_ui_url=settings.temporal_ui_url or "",
        temporal_namespace=settings.temporal_namespace,
        sandbox=settings.sandbox,
        secure_cookies=settings.public_base_url.startswith("https://"),
    )
    return create_app(deps, mounts=[console])


def listen(host: str, port: int) -> socket.socket:
    """Return the listening socket, without Nagle's algorithm; raises OSError when the address is taken.

    Its connections inherit that. asyncio turns it off only for sockets whose protocol is named, which
    `socket.create_server` does not do, and every answer on a kept connection would wait 40 ms for an acknowledgement.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.setblocking(False)
    return listener


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT."""
    app = await build(settings)
    listener = listen(settings.api_host, settings.api_port)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_DRAIN_S,
        timeout_keep_alive=30,
    )
    server = uvicorn.Server(config)
    running = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started and not running.done():
        await asyncio.sleep(0.02)
    if not running.done():
        port = listener.getsockname()[1]
        line = {"ready": True, "service": "api", "host": settings.api_host, "port": port}
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()
        log.info("api.ready", port=port)
    await running


def main() -> int:
    """Run the process; return its exit status."""
    try:
        settings = load(Role.API)
        logging.configure("api", level=settings.log_level, fmt=settings.log_format)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        asyncio.run(serve(settings))
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
