"""Temporal's dev server with its Web UI, from a wheel.

On disk, surviving kill -9, with our search attributes.
"""

import shutil
import socket
import sys
from pathlib import Path

from contracts.names import SearchAttribute
from workers.embedded.ports import LOOPBACK
from workers.embedded.process import ServiceSpec, StackError

# One shard, and by default 20 task dispatches a second for it: every hop would wait for a 50 ms tick.
DYNAMIC_CONFIG = ("history.transferProcessorMaxPollRPS=200",)
# Write-ahead log and no fsync a transaction: survives the death of the process, not of the machine's power.
_PRAGMAS = ("journal_mode=WAL", "synchronous=NORMAL")
_BOOLEANS = (SearchAttribute.NEEDS_PERSON,)


def attribute_type(attribute: SearchAttribute) -> str:
    """The type of a search attribute, by the name that Temporal's command line uses."""
    return "Bool" if attribute in _BOOLEANS else "Keyword"


def temporal_binary() -> str:
    """The `temporal` program of this virtual environment. Raises StackError when it is not installed."""
    beside = Path(sys.executable).parent / "temporal"
    found = str(beside) if beside.exists() else shutil.which("temporal")
    if found is None:
        raise StackError("Temporal is missing: run `make setup`, or set TEMPORAL_ADDRESS to a server")
    return found


def temporal_spec(
    folder: Path, *, port: int, ui_port: int, http_port: int, metrics_port: int, codec_url: str | None = None
) -> ServiceSpec:
    """How the supervisor runs it; the database is one SQLite file in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [temporal_binary(), "server", "start-dev", "--ip", LOOPBACK, "--port", str(port)]
    command += ["--ui-ip", LOOPBACK, "--ui-port", str(ui_port), "--http-port", str(http_port)]
    command += ["--metrics-port", str(metrics_port), "--db-filename", str(folder / "temporal.db")]
    command += ["--log-level", "error", "--ui-disable-news-fetch"]
    for pragma in _PRAGMAS:
        command += ["--sqlite-pragma", pragma]
    for value in DYNAMIC_CONFIG:
        command += ["--dynamic-config-value", value]
    for attribute in SearchAttribute:
        command += ["--search-attribute", f"{attribute.value}={attribute_type(attribute)}"]
    if codec_url is not None:
        command += ["--ui-codec-endpoint", codec_url]
    return ServiceSpec(
        name="temporal",
        command=tuple(command),
        ready=lambda: _accepts(port) and _accepts(ui_port),
        stop_timeout_s=10,
    )


def _accepts(port: int) -> bool:
    try:
        socket.create_connection((LOOPBACK, port), timeout=1).close()
    except OSError:
        return False
    return True
