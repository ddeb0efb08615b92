"""The UDP heartbeat: ten bytes that say who is alive and on which TCP port. Source: IFSF Part 2.02."""

import socket
from dataclasses import dataclass

from station_gateway.protocols.ifsf.errors import IfsfError
from station_gateway.protocols.ifsf.messages import Address

HEARTBEAT_SIZE = 10
HEARTBEAT_CODE = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """`status` is the sender's own; dispensers at Chinese stations put 3 there, controllers 0."""

    ip: str
    tcp_port: int
    sender: Address
    status: int = 0


def encode_heartbeat(beat: Heartbeat) -> bytes:
    """Return the ten bytes. Raises IfsfError on an impossible address or port."""
    try:
        ip, port = socket.inet_aton(beat.ip), beat.tcp_port.to_bytes(2, "big")
    except (OSError, OverflowError) as error:
        raise IfsfError(f"not an address: {beat.ip}:{beat.tcp_port}") from error
    return ip + port + bytes((beat.sender.subnet, beat.sender.node, HEARTBEAT_CODE, beat.status))


def decode_heartbeat(raw: bytes) -> Heartbeat:
    """Return the heartbeat in a datagram. Raises IfsfError unless it is exactly one."""
    if len(raw) != HEARTBEAT_SIZE or raw[8] != HEARTBEAT_CODE:
        raise IfsfError("not a heartbeat")
    return Heartbeat(
        ip=socket.inet_ntoa(raw[:4]),
        tcp_port=int.from_bytes(raw[4:6], "big"),
        sender=Address(raw[6], raw[7]),
        status=raw[9],
    )
