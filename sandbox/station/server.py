"""`python -m sandbox.station.server --config FILE`: the simulated station as a process of its own."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import signal
import socket
import sys
from pathlib import Path

import structlog
import uvicorn

from sandbox.station.config import StationConfig, load
from sandbox.station.control import build_app
from sandbox.station.station import Station

log = structlog.get_logger(__name__)


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(description="Simulated fuelling station (sandbox).")
    parser.add_argument("--config", type=Path, required=True, help="JSON file, see sandbox/station/config.py")
    parser.add_argument("--log-level", default="warning", choices=("debug", "info", "warning"))
    args = parser.parse_args()
    _log_to_stderr(args.log_level)
    asyncio.run(run(load(args.config)))


async def run(config: StationConfig) -> None:
    """Bind everything, print one JSON line `{"ready": true, ...}` on standard output, serve."""
    station = Station(config)
    await station.start()
    listener = _listen(config.control_host, config.control_port)
    settings = uvicorn.Config(build_app(station), log_config=None, access_log=False, lifespan="off")
    server = uvicorn.Server(settings)
    for one in (signal.SIGTERM, signal.SIGINT):
        # uvicorn raises the signal again when it is done; without a handler the sockets would not be closed
        signal.signal(one, lambda *_: setattr(server, "should_exit", True))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    sys.stdout.write(json.dumps(_ready_line(station, listener)) + "\n")
    sys.stdout.flush()
    log.info("sandbox.station.ready", nodes=list(station.links))
    try:
        await serving
    finally:
        await station.stop()


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket whose protocol is named, or asyncio would leave Nagle's 40 ms delay on."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    listener.listen()
    return listener


def _ready_line(station: Station, listener: socket.socket) -> dict[str, object]:
    host, port = listener.getsockname()[:2]
    nodes = [
        {"node": node, "ip": link.config.ip, "tcp_port": link.tcp_port, "udp_port": link.udp_port}
        for node, link in station.links.items()
    ]
    return {"ready": True, "sandbox": True, "control": f"http://{host}:{port}", "dispensers": nodes}


def _log_to_stderr(level: str) -> None:
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
    )


if __name__ == "__main__":
    main()
