"""Ports of the embedded stack.

A default each, another free one when a stranger has it, never a silent fight.
"""

import errno
import random
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from workers.embedded.process import StackError

LOOPBACK = "127.0.0.1"
_USUAL = (20_000, 32_000)
"""Above the well-known ports, below what systems give out by themselves (Linux, unless it is set: from 32768)."""
_LOWEST, _ENOUGH = 10_000, 2_000
"""Never below, and how many ports have to be left between that and the system's own."""
_GIVEN_OUT = Path("/proc/sys/net/ipv4/ip_local_port_range")
"""Where Linux says which ports it gives out by itself: the first and the last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PortWish:
    """A port that the stack needs: `variable` is the environment variable that fixes it."""

    name: str
    variable: str
    default: int
    udp: bool = False


def is_free(port: int, *, udp: bool = False) -> bool:
    """Whether a server could listen there now."""
    kind = socket.SOCK_DGRAM if udp else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET, kind) as probe:
        if not udp:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise
    return True


def ours(given_out: Path) -> range:
    """The ports that are chosen from: below those that the system gives out, where that leaves enough of them."""
    first, end = _USUAL
    try:
        end = min(end, int(given_out.read_text(encoding="ascii").split()[0]))
    except (OSError, ValueError, IndexError):
        return range(first, end)
    first = max(_LOWEST, min(first, end - (_USUAL[1] - _USUAL[0])))
    return range(first, end) if end - first >= _ENOUGH else range(*_USUAL)


def any_free(taken: Iterable[int] = (), *, udp: bool = False) -> int:
    """A port that is free now and not in `taken`.

    Not one that the system gives out by itself: those go to any connection, and to the inner ports of the Temporal
    server, before the service that it was chosen for has started.
    """
    avoid, choice = set(taken), ours(_GIVEN_OUT)
    for _ in range(200):
        port = random.choice(choice)
        if port not in avoid and is_free(port, udp=udp):
            return port
    raise StackError("this machine gives out no free port")


def holder(port: int) -> str:
    """Who listens on a port, as a few words; what an unprivileged user may see of it."""
    try:
        for entry in psutil.net_connections(kind="inet"):
            if entry.laddr and entry.laddr.port == port and entry.pid and entry.status in ("LISTEN", "NONE"):
                return f"{psutil.Process(entry.pid).name()} (pid {entry.pid})"
    except psutil.Error:
        return "another process"
    return "another process"


def choose(
    wishes: Iterable[PortWish], environment: Mapping[str, str], earlier: Mapping[str, int]
) -> tuple[dict[str, int], list[str]]:
    """Pick every port; returns them by name, and the remarks a person should read.

    A port fixed by its variable is used or refused (StackError); else the port of the last start, else the
    default, else any free one.
    """
    chosen: dict[str, int] = {}
    remarks: list[str] = []
    for wish in wishes:
        fixed = environment.get(wish.variable)
        if fixed:
            chosen[wish.name] = _fixed(wish, fixed)
            continue
        for port in (earlier.get(wish.name, wish.default), wish.default):
            if port not in chosen.values() and is_free(port, udp=wish.udp):
                chosen[wish.name] = port
                break
        else:
            chosen[wish.name] = any_free(chosen.values(), udp=wish.udp)
        if chosen[wish.name] != wish.default:
            remarks.append(_moved(wish, chosen[wish.name]))
    return chosen, remarks


def _moved(wish: PortWish, port: int) -> str:
    """Say why a port is not the well-known one, at every start: people look for it at its default."""
    if is_free(wish.default, udp=wish.udp):
        what = f"is free again, this data folder keeps {port}; once with {wish.variable}={wish.default} goes back"
    else:
        what = f"is held by {holder(wish.default)}; using {port} ({wish.variable} sets it)"
    return f"port {wish.default} ({wish.name}) {what}"


def malformed(wishes: Iterable[PortWish], environment: Mapping[str, str]) -> dict[str, str]:
    """Return what is wrong with the variables that fix ports, by variable."""
    set_ = {wish.variable: environment.get(wish.variable) for wish in wishes}
    return {
        name: "must be a port number, 1 to 65535"
        for name, text in set_.items()
        if text and not _is_port(text)
    }


def _is_port(text: str) -> bool:
    return text.isdecimal() and 0 < int(text) < 65536


def _fixed(wish: PortWish, text: str) -> int:
    if not _is_port(text):
        raise StackError(f"{wish.variable}={text!r} is no port number")
    if not is_free(int(text), udp=wish.udp):
        raise StackError(
            f"port {text} ({wish.name}) is held by {holder(int(text))}: end it, or change {wish.variable}"
        )
    return int(text)
