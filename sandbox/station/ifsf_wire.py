"""IFSF messages as bytes, seen from the dispenser's side.

Source of the layout: IFSF Part 2.02 (communication over TCP/IP) and Part 3.01 (dispenser application), as
used at Chinese fuelling stations. A message is::

    LNAR(2) LNAO(2) MC(1) M_St(1) M_Lg(2, big endian) | DB_Ad_Lg(1) DB_Ad(1..8) | body

The body of a read is a list of data ids, the body of an acknowledgement is MS_ACK and (data id, code) pairs,
every other body is a list of (data id, length, data). There is no other framing, so a TCP stream is cut by
M_Lg alone.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from decimal import Decimal
from enum import IntEnum

HEADER_BYTES = 8
HEARTBEAT_BYTES = 10
LONG_LENGTH_MARK = 255
MAX_BODY_BYTES = 4096
CODE_APPLICATION = 0
CODE_HEARTBEAT = 1
ACK_ALL = 0
ACK_SOME_REFUSED = 5
ACK_UNKNOWN_ADDRESS = 6


class WireError(ValueError):
    """Bytes that are not an IFSF message. The TCP stream cannot be cut any further and must be closed."""


class Kind(IntEnum):
    """Message type, bits 7-5 of M_St."""

    READ = 0
    ANSWER = 1
    WRITE = 2
    EVENT_WANTS_ACK = 3
    EVENT = 4
    ACK = 7


class DataAck(IntEnum):
    """Result of one data item of a write."""

    OK = 0
    INVALID_VALUE = 1
    READ_ONLY = 2
    WRONG_STATE = 3
    UNKNOWN = 4


@dataclass(frozen=True, slots=True, order=True)
class Lna:
    """Logical node address: subnet (the kind of device, 1 dispenser, 2 controller) and node number."""

    subnet: int
    node: int

    def encode(self) -> bytes:
        """The two bytes of the address."""
        return bytes((self.subnet, self.node))

    @classmethod
    def decode(cls, raw: bytes) -> Lna:
        """Read the first two bytes."""
        return cls(raw[0], raw[1])


@dataclass(frozen=True, slots=True)
class Item:
    """One data item; empty data is a command in a write, and 'not available' in an answer."""

    data_id: int
    data: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One IFSF message. Which of `ids`, `items` and `ms_ack` + `results` is used depends on `kind`."""

    to: Lna
    sender: Lna
    kind: Kind
    db: bytes
    token: int = 0
    code: int = CODE_APPLICATION
    ids: tuple[int, ...] = ()
    items: tuple[Item, ...] = ()
    ms_ack: int = ACK_ALL
    results: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """The ten bytes that a node sends by UDP; they tell the peer which TCP port to connect to."""

    ip: str
    tcp_port: int
    lna: Lna
    status: int = 0


def encode_heartbeat(beat: Heartbeat) -> bytes:
    """Ten bytes: IPv4, TCP port, LNA, message code 1, status."""
    head = socket.inet_aton(beat.ip) + struct.pack(">H", beat.tcp_port)
    return head + beat.lna.encode() + bytes((CODE_HEARTBEAT, beat.status))


def decode_heartbeat(raw: bytes) -> Heartbeat:
    """Raise WireError unless `raw` is exactly one heartbeat."""
    if len(raw) != HEARTBEAT_BYTES or raw[8] != CODE_HEARTBEAT:
        raise WireError("not a heartbeat")
    port = int.from_bytes(raw[4:6], "big")
    return Heartbeat(ip=socket.inet_ntoa(raw[:4]), tcp_port=port, lna=Lna.decode(raw[6:8]), status=raw[9])


def encode(message: Message) -> bytes:
    """Message to bytes."""
    body = bytes((len(message.db),)) + message.db + _encode_body(message)
    state = (message.kind << 5) | message.token
    head = message.to.encode() + message.sender.encode() + bytes((message.code, state))
    return head + struct.pack(">H", len(body)) + body


def _encode_body(message: Message) -> bytes:
    if message.kind is Kind.READ:
        return bytes(message.ids)
    if message.kind is Kind.ACK:
        return bytes((message.ms_ack,)) + b"".join(bytes(pair) for pair in message.results)
    return b"".join(_encode_item(item) for item in message.items)


def _encode_item(item: Item) -> bytes:
    size = len(item.data)
    if size < LONG_LENGTH_MARK:
        return bytes((item.data_id, size)) + item.data
    return bytes((item.data_id, LONG_LENGTH_MARK)) + struct.pack(">H", size) + item.data


def decode(raw: bytes) -> Message:
    """Bytes of exactly one message. Raises WireError."""
    if len(raw) < HEADER_BYTES or len(raw) != message_bytes(raw):
        raise WireError("length field and bytes disagree")
    body = raw[HEADER_BYTES:]
    db_end = 1 + body[0] if body else 0
    if not 2 <= db_end <= min(9, len(body)):
        raise WireError("bad database address")
    kind = _kind(raw[5] >> 5)
    rest = body[db_end:]
    ids: tuple[int, ...] = tuple(rest) if kind is Kind.READ else ()
    ms_ack, results = _decode_ack(rest) if kind is Kind.ACK else (ACK_ALL, ())
    items = () if kind in (Kind.READ, Kind.ACK) else _decode_items(rest)
    return Message(
        to=Lna.decode(raw),
        sender=Lna.decode(raw[2:]),
        code=raw[4],
        kind=kind,
        token=raw[5] & 0x1F,
        db=body[1:db_end],
        ids=ids,
        items=items,
        ms_ack=ms_ack,
        results=results,
    )


def _kind(value: int) -> Kind:
    try:
        return Kind(value)
    except ValueError:
        raise WireError(f"unknown message type {value}") from None


def _decode_ack(rest: bytes) -> tuple[int, tuple[tuple[int, int], ...]]:
    if len(rest) % 2 != 1:
        raise WireError("bad acknowledgement")
    return rest[0], tuple(zip(rest[1::2], rest[2::2], strict=True))


def _decode_items(rest: bytes) -> tuple[Item, ...]:
    items: list[Item] = []
    at = 0
    while at < len(rest):
        size = rest[at + 1] if at + 1 < len(rest) else MAX_BODY_BYTES
        start = at + 2
        if size == LONG_LENGTH_MARK:
            size, start = int.from_bytes(rest[at + 2 : at + 4], "big"), at + 4
        if start + size > len(rest):
            raise WireError("a data item is cut off")
        items.append(Item(rest[at], rest[start : start + size]))
        at = start + size
    return tuple(items)


def message_bytes(head: bytes) -> int:
    """Length in bytes of the whole message that starts with the eight header bytes `head`."""
    return HEADER_BYTES + int.from_bytes(head[6:8], "big")


class StreamCutter:
    """Cut a TCP stream into messages; segments may hold several messages, or a part of one."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, chunk: bytes) -> list[Message]:
        """Every message that `chunk` completes. Raises WireError when the stream cannot be IFSF."""
        self._buffer += chunk
        found: list[Message] = []
        while len(self._buffer) >= HEADER_BYTES:
            size = message_bytes(bytes(self._buffer[:HEADER_BYTES]))
            if size > HEADER_BYTES + MAX_BODY_BYTES:
                raise WireError("message too long")
            if len(self._buffer) < size:
                break
            found.append(decode(bytes(self._buffer[:size])))
            del self._buffer[:size]
        return found


def encode_bcd(value: int, digits: int) -> bytes:
    """Unsigned `value` as packed decimal digits. Raises WireError when it does not fit."""
    text = str(value).zfill(digits)
    if value < 0 or len(text) > digits or digits % 2:
        raise WireError(f"{value} does not fit {digits} digits")
    return bytes.fromhex(text)


def decode_bcd(raw: bytes) -> int:
    """Packed decimal digits to an integer. Raises WireError on a digit above 9."""
    text = raw.hex()
    if not text.isdecimal():
        raise WireError("not packed decimal")
    return int(text)


def encode_number(value: Decimal, *, integer_digits: int, digits: int) -> bytes:
    """bin8 + BCD: the first byte is the count of integer digits. Raises WireError when digits would be
    lost.
    """
    scaled = value.scaleb(digits - integer_digits)
    if scaled != scaled.to_integral_value():
        raise WireError(f"{value} has too many decimals")
    return bytes((integer_digits,)) + encode_bcd(int(scaled), digits)


def decode_number(raw: bytes) -> Decimal:
    """bin8 + BCD, with whatever exponent the sender chose."""
    if len(raw) < 2:
        raise WireError("a number has at least two bytes")
    return Decimal(decode_bcd(raw[1:])).scaleb(raw[0] - 2 * (len(raw) - 1))


def amount(fen: int) -> bytes:
    """AMOUNT 6.2 from integer fen."""
    return encode_number(Decimal(fen).scaleb(-2), integer_digits=6, digits=8)


def volume(centi: int) -> bytes:
    """VOLUME 6.2 from hundredths of the nozzle's unit."""
    return encode_number(Decimal(centi).scaleb(-2), integer_digits=6, digits=8)


def unit_price(fen_per_unit: int) -> bytes:
    """UNIT_PRICE 4.2 from fen per unit."""
    return encode_number(Decimal(fen_per_unit).scaleb(-2), integer_digits=4, digits=6)


def long_total(hundredths: int) -> bytes:
    """Long volume or amount 10.2; totalisers wrap at twelve digits."""
    return encode_number(Decimal(hundredths % 10**12).scaleb(-2), integer_digits=10, digits=12)


def long_count(count: int) -> bytes:
    """Long number without decimals, 12.0."""
    return encode_number(Decimal(count % 10**12), integer_digits=12, digits=12)


def hundredths(raw: bytes) -> int:
    """bin8 + BCD to integer hundredths. Raises WireError when the value is finer than that."""
    value = decode_number(raw).scaleb(2)
    if value != value.to_integral_value():
        raise WireError("finer than a hundredth")
    return int(value)
