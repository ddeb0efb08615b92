"""The station client's process: `python -m station_gateway.client.main --config FILE`."""

import argparse
import asyncio
import json
import logging
import signal
import sqlite3
import sys
from datetime import timedelta
from pathlib import Path

import structlog
from structlog.typing import Processor

from station_gateway.client.coap import CoapPoster
from station_gateway.client.commands import CommandDesk
from station_gateway.client.config import ClientConfig, ConfigError, load
from station_gateway.client.health import broken, serve
from station_gateway.client.ifsf_driver import IfsfDriver
from station_gateway.client.lifetime import utc_now
from station_gateway.client.outbox import Outbox
from station_gateway.client.uplink import Uplink

log = structlog.get_logger(__name__)

_PRUNE_EVERY_S = 86_400.0


class StationClient:
    """Outbox, driver and uplink wired together; also what tests run in their own process."""

    def __init__(self, config: ClientConfig, poster: CoapPoster) -> None:
        self._config = config
        self._poster = poster
        self.outbox = Outbox(Path(config.data_dir) / "outbox.sqlite3")
        self.driver = IfsfDriver(config, self.outbox, on_change=self._changed, on_result=self._result_ready)
        self.desk = CommandDesk(
            self.outbox,
            authorise=self.driver.authorise,
            stop=self.driver.stop_order,
            on_result=self._result_ready,
            now=utc_now,
        )
        self.uplink = Uplink(
            config,
            self.outbox,
            poster,
            take=self.desk.take,
            reports=self.driver.reports,
            boot=int(utc_now().timestamp() * 1000),
            now=utc_now,
        )
        self._pruning: asyncio.TimerHandle | None = None

    @classmethod
    async def open(cls, config: ClientConfig) -> "StationClient":
        """Return a client with an open CoAP socket. Raises OSError, ValueError, filelock.Timeout."""
        return cls(config, await CoapPoster.open(config))

    def _changed(self) -> None:
        self.uplink.changed()

    def _result_ready(self) -> None:
        self.uplink.result_ready()

    async def start(self) -> None:
        """Start dispensers first, then the uplink. Raises OSError when a port is taken."""
        await self.driver.start()
        self.uplink.start()
        self._prune()

    async def stop(self) -> None:
        """Stop the uplink, then the dispensers; nothing that is not acknowledged is lost."""
        if self._pruning is not None:
            self._pruning.cancel()
        await self._poster.close()
        await self.uplink.stop()
        self._poster.release()
        await self.driver.stop()
        self.outbox.close()

    def _prune(self) -> None:
        before = utc_now() - timedelta(days=self._config.keep_acked_days)
        try:
            self.outbox.prune(int(before.timestamp() * 1000))
        except sqlite3.Error as error:
            broken("prune", error)
        self._pruning = asyncio.get_running_loop().call_later(_PRUNE_EVERY_S, self._prune)


def _configure_log() -> None:
    shared: list[Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    renderer = structlog.processors.JSONRenderer(ensure_ascii=False)
    # Libraries log through the standard library: their lines are JSON too.
    lines = logging.StreamHandler(sys.stderr)
    lines.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
        )
    )
    logging.basicConfig(level=logging.WARNING, handlers=[lines])
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


async def run(config: ClientConfig) -> None:
    """Run until SIGTERM or SIGINT."""
    client = await StationClient.open(config)
    metrics = serve(config.metrics_port) if config.metrics_port else None
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    await client.start()
    udp_port, tcp_port = client.driver.ports
    ready = {
        "ready": True,
        "service": "station-client",
        "station": config.station_code,
        "heartbeat_port": udp_port,
        "tcp_port": tcp_port,
        "metrics_port": metrics.server_port if metrics else 0,
    }
    sys.stdout.write(json.dumps(ready) + "\n")
    sys.stdout.flush()
    await stopping.wait()
    await client.stop()
    if metrics is not None:
        metrics.shutdown()
        metrics.server_close()


def main(arguments: list[str] | None = None) -> int:
    """Return the exit status: 2 for a configuration that cannot work."""
    parser = argparse.ArgumentParser(prog="station_gateway.client", description="Jiazhu station client")
    parser.add_argument("--config", type=Path, required=True, help="JSON file, see docs of ClientConfig")
    options = parser.parse_args(arguments)
    _configure_log()
    try:
        asyncio.run(run(load(options.config)))
    except ConfigError as error:
        log.error("client.config.invalid", error=str(error))
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
