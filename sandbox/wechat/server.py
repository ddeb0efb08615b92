"""HTTP front: `python -m sandbox.wechat.server --port 0 --data DIR`.

One asyncio loop parses HTTP/1.1 with httptools and runs the core inline (a call is one or two
milliseconds, most of it one
RSA signature); slow admin calls run on a thread. Both simulated hosts share the port: /v3/... is WeChat
Pay, /sns/...,
/cgi-bin/... and /wxa/... are the mini-program host, /_sandbox/... is the admin API. State lives in SQLite
under DIR.
"""

from __future__ import annotations

import argparse
import asyncio
import http
import json
import signal
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import cast

import httptools
import structlog
import uvloop

from sandbox.wechat.admin import PREFIX, Admin
from sandbox.wechat.calls import Reply
from sandbox.wechat.keys import load_or_create
from sandbox.wechat.notify import ANSWER_WITHIN_S, HttpSink
from sandbox.wechat.world import World

log = structlog.get_logger(__name__)
_REASONS = {status.value: status.phrase for status in http.HTTPStatus}
_LOCAL = ("127.0.0.1", "localhost", "::1")
MAX_BODY_BYTES = 1 << 20


class Connection(asyncio.Protocol):
    """One kept-alive HTTP/1.1 connection."""

    def __init__(self, world: World, admin: Admin) -> None:
        self._world = world
        self._admin = admin
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.on_message_begin()

    # --- callbacks of asyncio ---------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where to write."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Feed the parser; nonsense ends the connection."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError:
            # A fault of the sandbox itself: the merchant sees a cut connection, the log sees the reason.
            log.exception("sandbox.wechat.call.broken")
            self._close()
        except httptools.HttpParserError:
            self._close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody listens any more; what is executed stays executed."""
        self._transport = None

    # --- callbacks of the parser ------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A new request starts."""
        self._url = b""
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._size = 0

    def on_url(self, url: bytes) -> None:
        """Collect the request target."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect one header."""
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        """Collect the body, within reason."""
        self._size += len(body)
        if self._size > MAX_BODY_BYTES:
            self._close()
            return
        self._body.append(body)

    def on_message_complete(self) -> None:
        """Answer at once when nothing has to wait, else from a task."""
        method = self._parser.get_method().decode()
        target = self._url.decode("latin-1")
        keep = self._parser.should_keep_alive()
        raw = b"".join(self._body)
        if target.startswith(PREFIX):
            self._later(self._answer_admin(method, target, raw, keep))
        elif target == "/healthz":
            self._write_json(200, {"status": "ok", "service": "sandbox.wechat", "sandbox": True}, keep)
        else:
            reply = self._world.execute(method, target, self._headers, raw)
            if reply.delay_ms or reply.wait_notify:
                self._later(self._answer_later(reply, keep))
            else:
                self._write_reply(reply, keep)

    # --- answers ----------------------------------------------------------------------------------

    def _later(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer_admin(self, method: str, target: str, raw: bytes, keep: bool) -> None:
        status, payload = await asyncio.to_thread(self._admin.handle, method, target, raw)
        self._write_json(status, payload, keep)

    async def _answer_later(self, reply: Reply, keep: bool) -> None:
        if reply.wait_notify:
            await asyncio.to_thread(self._world.couriers.wait, reply.wait_notify, ANSWER_WITHIN_S)
        if reply.delay_ms:
            await asyncio.sleep(reply.delay_ms / 1000)
        self._write_reply(reply, keep)

    def _write_reply(self, reply: Reply, keep: bool) -> None:
        if reply.lost or reply.reset:
            self._close()
            return
        self._write(reply.status, reply.headers, reply.body, keep)

    def _write_json(self, status: int, payload: dict[str, object], keep: bool) -> None:
        body = json.dumps(payload, ensure_ascii=False).encode()
        self._write(status, {"Content-Type": "application/json; charset=utf-8"}, body, keep)

    def _write(self, status: int, headers: dict[str, str], body: bytes, keep: bool) -> None:
        if self._transport is None:
            return
        lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Unknown')}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if status != http.HTTPStatus.NO_CONTENT:
            lines.append(f"Content-Length: {len(body)}")
        lines.append(f"Connection: {'keep-alive' if keep else 'close'}")
        self._transport.write("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
        if not keep:
            self._transport.close()

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.abort()


async def serve(world: World, host: str, port: int, stopping: asyncio.Event) -> None:
    """Serve until `stopping` is set; the address goes to standard output as one JSON line."""
    loop = asyncio.get_running_loop()
    admin = Admin(world)
    server = await loop.create_server(lambda: Connection(world, admin), host, port)
    bound = server.sockets[0].getsockname()
    ready = {"ready": True, "base_url": f"http://{bound[0]}:{bound[1]}", "port": bound[1], "sandbox": True}
    sys.stdout.write(json.dumps(ready) + "\n")
    sys.stdout.flush()
    log.info("sandbox.wechat.ready", port=bound[1])
    async with server:
        await stopping.wait()


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Command line of the server."""
    parser = argparse.ArgumentParser(description="WeChat Pay v3 and mini-program sandbox")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 lets the system choose")
    parser.add_argument("--data", type=Path, required=True, help="folder of the database")
    parser.add_argument("--keys", type=Path, help="folder of the key material, default DATA/keys")
    parser.add_argument("--seed", type=int, default=0, help="seed of all chances")
    parser.add_argument("--couriers", type=int, default=4, help="threads that deliver notifications")
    parser.add_argument(
        "--notify-allow", action="append", default=[], help="further host that may be notified"
    )
    return parser.parse_args(arguments)


async def _run(options: argparse.Namespace) -> None:
    material = load_or_create(options.keys or options.data / "keys")
    world = World(
        material,
        sink=HttpSink((*_LOCAL, *options.notify_allow)),
        seed=options.seed,
        store_path=options.data / "wechat.sqlite",
        couriers=options.couriers,
    )
    stopping = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stopping.set)
    world.start()
    try:
        await serve(world, options.host, options.port, stopping)
    finally:
        world.stop()


def main(arguments: list[str] | None = None) -> None:
    """Entry point."""
    # Standard output belongs to the one JSON line of `serve`.
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    uvloop.run(_run(parse_arguments(arguments)))


if __name__ == "__main__":
    main()
