"""The codec server: lets Temporal's Web UI show encrypted payloads to people who may see them.

`python -m workers.codec_server`. It answers POST /encode and /decode in Temporal's remote codec protocol (a
JSON `Payloads` message). Only pages of the UI's own origin get answers; with `JIAZHU_CODEC_TOKEN` set a bearer
token is asked for, and without one nobody but such a page is served. In production it stands behind the same
sign-in as the UI.
"""

import hmac
import json
import sys
from collections.abc import Callable, Iterable
from urllib.parse import urlsplit

import structlog
import uvicorn
from google.protobuf import json_format
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from temporalio.api.common.v1 import Payload, Payloads

from config.logging import configure
from config.payload_codec import AesGcmCodec
from config.settings import Role, Settings, SettingsError, load

log = structlog.get_logger(__name__)
_BODY_LIMIT = 8 * 1024 * 1024


def allowed_origins(ui_url: str) -> frozenset[str]:
    """The origin of the UI; for a UI on this machine both of its names."""
    parts = urlsplit(ui_url)
    port = f":{parts.port}" if parts.port else ""
    hosts = {parts.hostname or ""}
    if hosts & {"127.0.0.1", "localhost"}:
        hosts = {"127.0.0.1", "localhost"}
    return frozenset(f"{parts.scheme}://{host}{port}" for host in hosts)


class CodecEndpoints:
    """The two conversions behind the checks of origin and token."""

    def __init__(self, codec: AesGcmCodec, origins: frozenset[str], token: str | None) -> None:
        self._codec = codec
        self._origins = origins
        self._token = token

    async def encode(self, request: Request) -> Response:
        """Encrypt: the UI sends it what a person types into a signal or an update."""
        return await self._convert(request, self._codec.seal)

    async def decode(self, request: Request) -> Response:
        """Decrypt what the UI shows."""
        return await self._convert(request, self._codec.open)

    async def preflight(self, request: Request) -> Response:
        """The question that a browser asks before the real request."""
        if request.headers.get("origin") not in self._origins:
            return Response(status_code=403)
        return Response(status_code=204, headers=self._cors(request))

    def _cors(self, request: Request) -> dict[str, str]:
        origin = request.headers.get("origin")
        if origin not in self._origins:
            return {}
        return {
            "Access-Control-Allow-Origin": origin,
            "Access-Control-Allow-Methods": "POST, OPTIONS",
            "Access-Control-Allow-Headers": "content-type, x-namespace, authorization",
            "Access-Control-Allow-Credentials": "true",
            "Vary": "Origin",
        }

    def _refusal(self, request: Request) -> Response | None:
        origin = request.headers.get("origin")
        by_token = origin is None and self._token is not None
        if origin not in self._origins and not by_token:
            return JSONResponse({"error": "origin"}, status_code=403)
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        if self._token is not None and not hmac.compare_digest(given.encode(), self._token.encode()):
            return JSONResponse({"error": "token"}, status_code=401, headers=self._cors(request))
        return None

    async def _convert(
        self, request: Request, convert: Callable[[Iterable[Payload]], list[Payload]]
    ) -> Response:
        refusal = self._refusal(request)
        if refusal is not None:
            return refusal
        body = await request.body()
        headers = self._cors(request)
        if len(body) > _BODY_LIMIT:
            return JSONResponse({"error": "too large"}, status_code=413, headers=headers)
        try:
            parsed = json.loads(body)
            payloads = json_format.ParseDict(parsed if isinstance(parsed, dict) else {"": parsed}, Payloads())
            converted = Payloads(payloads=convert(payloads.payloads))
        except (json_format.ParseError, ValueError) as error:
            log.warning("codec.refused", reason=type(error).__name__)
            return JSONResponse({"error": "payloads"}, status_code=400, headers=headers)
        return Response(json_format.MessageToJson(converted), media_type="application/json", headers=headers)


async def _healthz(_request: Request) -> Response:
    return JSONResponse({"status": "ok"})


def make_app(codec: AesGcmCodec, ui_url: str, token: str | None) -> Starlette:
    """The ASGI application."""
    ends = CodecEndpoints(codec, allowed_origins(ui_url), token)
    return Starlette(
        routes=[
            Route("/encode", ends.encode, methods=["POST"]),
            Route("/decode", ends.decode, methods=["POST"]),
            Route("/{path:path}", ends.preflight, methods=["OPTIONS"]),
            Route("/healthz", _healthz, methods=["GET"]),
            Route("/readyz", _healthz, methods=["GET"]),
        ]
    )


class _AnnouncedServer(uvicorn.Server):
    """Says on standard output when it listens; the supervisor waits for that line."""

    async def startup(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        await super().startup()
        if self.started:
            sys.stdout.write(json.dumps({"ready": True, "port": self.config.port}) + "\n")
            sys.stdout.flush()


def serve(settings: Settings) -> None:
    """Run until a signal ends it."""
    token = None if settings.codec_token is None else settings.codec_token.get_secret_value()
    codec = AesGcmCodec(settings.codec_key_ring, clear_passes=True)
    app = make_app(codec, settings.temporal_ui_url or "", token)
    config = uvicorn.Config(
        app, host=settings.codec_host, port=settings.codec_port, log_config=None, access_log=False
    )
    _AnnouncedServer(config).run()


def main() -> int:
    """Run the process; return its exit status."""
    try:
        settings = load(Role.CODEC)
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    configure("codec", level=settings.log_level, fmt=settings.log_format)
    serve(settings)
    return 0


if __name__ == "__main__":
    sys.exit(main())
