"""CoAP settings that both ends share: transports, timing, OSCORE contexts (RFC 7252, 8323, 8613)."""

import asyncio
import logging
import socket
from pathlib import Path
from typing import Any

import aiocoap
from aiocoap.oscore import FilesystemSecurityContext

UDP, TCP = "udp", "tcp"


def quiet() -> None:
    """Keep the library's own log to errors: lost datagrams and replays are ordinary here and counted by us."""
    for name in ("coap", "coap-server", "coap-server.oscore-site"):
        logging.getLogger(name).setLevel(logging.ERROR)


def tuning(*, ack_timeout_s: float, max_retransmit: int) -> Any:
    """Return how long a message waits for its acknowledgement and how often it is repeated."""
    chosen = aiocoap.TransportTuning()
    chosen.ACK_TIMEOUT = ack_timeout_s
    chosen.MAX_RETRANSMIT = max_retransmit
    return chosen


def span_s(ack_timeout_s: float, max_retransmit: int) -> float:
    """Return how long a confirmable message may travel before it counts as lost (MAX_TRANSMIT_WAIT)."""
    return float(ack_timeout_s * (2 ** (max_retransmit + 1) - 1) * 1.5)


def has_ipv6() -> bool:
    """Return whether an IPv6 socket can be made; aiocoap's best UDP transport needs one even for IPv4 peers."""
    try:
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).close()
    except OSError:
        return False
    return True


def client_transports(transport: str) -> list[str]:
    """Return aiocoap's names of what a client needs."""
    if transport == TCP:
        return ["oscore", "tcpclient"]
    return ["oscore", "udp6" if has_ipv6() else "simple6"]


def server_transports(*, tcp: bool) -> list[str]:
    """Return aiocoap's names of what a server listens on."""
    return [*(["tcpserver"] if tcp else []), "udp6" if has_ipv6() else "simplesocketserver"]


def load_context(folder: Path, station_code: str) -> Any:
    """Return the OSCORE context in a folder, bound to a station code.

    The folder is locked: one process per context. Raises filelock.Timeout when another one has it, ValueError
    when it is damaged.
    """
    context = FilesystemSecurityContext(str(folder))
    context.authenticated_claims = [station_code]
    return context


def release_context(context: Any) -> None:
    """Write the sequence number and unlock the folder now, not when the object happens to be collected."""
    if context.lockfile is not None:
        context._destroy()


def drop_context(context: Any) -> None:
    """Let go of a context whose folder is gone or holds another key now: nothing is written into it any more."""
    context._store = lambda: None
    if context.lockfile is not None:
        context.lockfile.release()
        context.lockfile = None


async def shutdown(context: Any) -> None:
    """Close a CoAP context; a peer that never answers must not hold us up.

    Requests that are still open end inside the library with an exception that it cannot report (0.4.17 calls its
    log with a wrong argument); only those are kept out of our log while the context closes.
    """
    loop = asyncio.get_running_loop()
    usual = loop.get_exception_handler()
    loop.set_exception_handler(_without_open_requests)
    try:
        async with asyncio.timeout(3):
            await context.shutdown()
        await asyncio.sleep(0)
    except TimeoutError:
        logging.getLogger("coap").warning("closing took too long")
    finally:
        loop.set_exception_handler(usual)


def _without_open_requests(loop: asyncio.AbstractEventLoop, problem: dict[str, Any]) -> None:
    if "TransportOSCORE.request" not in repr(problem.get("handle")):
        loop.default_exception_handler(problem)
