"""IFSF messages: `LNAR(2) LNAO(2) MC(1) M_St(1) M_Lg(2) | DB_Ad_Lg(1) DB_Ad(1..8) | data`.

M_Lg counts from DB_Ad_Lg to the end. The data of a read is a list of ids, of an acknowledgement MS_ACK and
(id, code) pairs, of everything else a list of (id, length, bytes); a length of 255 is followed by two bytes
with the real one. Source: IFSF Part 2.02 (TCP/IP) and Part 3.01, with frames captured at stations as tests.
"""

from dataclasses import dataclass
from enum import IntEnum

from station_gateway.protocols.ifsf.errors import IfsfError

HEADER_SIZE = 8
LONG_LENGTH = 255
APPLICATION = 0
ACK_OK = 0
ACK_PARTLY_REFUSED = 5
NOT_IN_THIS_STATE = 3
"""Data_ACK of an item that is refused now and may be taken later."""
_ACKS_WITHOUT_ITEMS = frozenset({0, 1, 2, 3, 6, 9})
_MAX_ADDRESS = 8


class MessageType(IntEnum):
    """Bits 7-5 of M_St."""

    READ = 0
    ANSWER = 1
    WRITE = 2
    UNSOLICITED_WITH_ACK = 3
    UNSOLICITED = 4
    ACK = 7


@dataclass(frozen=True, slots=True)
class Address:
    """Logical node address: subnet (1 dispenser, 2 controller) and node number."""

    subnet: int
    node: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One application message.

    `ids` belongs to reads, `ack` and `ack_items` to acknowledgements, `items` to all others; an item with
    empty data is a command in a write and "no value" in an answer.
    """

    recipient: Address
    origin: Address
    type: MessageType
    database: bytes
    token: int = 0
    code: int = APPLICATION
    ids: bytes = b""
    items: tuple[tuple[int, bytes], ...] = ()
    ack: int = ACK_OK
    ack_items: tuple[tuple[int, int], ...] = ()

    @property
    def accepted(self) -> bool:
        """Return whether an acknowledgement accepted everything."""
        return self.type is MessageType.ACK and self.ack == ACK_OK

    def values(self) -> dict[int, bytes]:
        """Return the items that carry data, by id."""
        return {data_id: data for data_id, data in self.items if data}

    def refusals(self) -> dict[int, int]:
        """Return the data ids that an acknowledgement refused, with the code of each."""
        return {data_id: code for data_id, code in self.ack_items if code}


def encode(message: Message) -> bytes:
    """Return the bytes of a message. Raises IfsfError when a field is out of its range."""
    if not 0 <= message.token < 32:
        raise IfsfError(f"token out of range: {message.token}")
    if not 1 <= len(message.database) <= _MAX_ADDRESS:
        raise IfsfError("a database address has one to eight bytes")
    body = bytes((len(message.database),)) + message.database + _encode_data(message)
    to, of = message.recipient, message.origin
    status = message.type << 5 | message.token
    head = bytes((to.subnet, to.node, of.subnet, of.node, message.code, status))
    return head + len(body).to_bytes(2, "big") + body


def _encode_data(message: Message) -> bytes:
    if message.type is MessageType.READ:
        return message.ids
    if message.type is MessageType.ACK:
        return bytes((message.ack,)) + b"".join(bytes(pair) for pair in message.ack_items)
    out = bytearray()
    for data_id, data in message.items:
        size = len(data)
        out.append(data_id)
        out += bytes((size,)) if size < LONG_LENGTH else bytes((LONG_LENGTH,)) + size.to_bytes(2, "big")
        out += data
    return bytes(out)


def decode(raw: bytes) -> Message:
    """Return the message in `raw`, which must be exactly one. Raises IfsfError."""
    if len(raw) < HEADER_SIZE + 2 or int.from_bytes(raw[6:8], "big") != len(raw) - HEADER_SIZE:
        raise IfsfError("the length field and the bytes disagree")
    address_end = HEADER_SIZE + 1 + raw[8]
    if not 1 <= raw[8] <= _MAX_ADDRESS or address_end > len(raw):
        raise IfsfError("bad database address")
    kind = _TYPES.get(raw[5] >> 5)
    if kind is None:
        raise IfsfError(f"unknown message type {raw[5] >> 5}")
    ids, items, ack, ack_items = b"", _NO_ITEMS, ACK_OK, _NO_ACKS
    if kind is MessageType.READ:
        ids = raw[address_end:]
    elif kind is MessageType.ACK:
        ack, ack_items = _decode_ack(raw, address_end)
    else:
        items = _decode_items(raw, address_end)
    return Message(
        recipient=Address(raw[0], raw[1]),
        origin=Address(raw[2], raw[3]),
        code=raw[4],
        type=kind,
        token=raw[5] & 31,
        database=raw[9:address_end],
        ids=ids,
        items=items,
        ack=ack,
        ack_items=ack_items,
    )


_TYPES = {int(kind): kind for kind in MessageType}
_NO_ITEMS: tuple[tuple[int, bytes], ...] = ()
_NO_ACKS: tuple[tuple[int, int], ...] = ()


def _decode_ack(raw: bytes, at: int) -> tuple[int, tuple[tuple[int, int], ...]]:
    if at >= len(raw):
        raise IfsfError("an acknowledgement without MS_ACK")
    pairs = raw[at + 1 :]
    if len(pairs) % 2 or (pairs and raw[at] in _ACKS_WITHOUT_ITEMS):
        raise IfsfError("bad acknowledgement")
    return raw[at], tuple(zip(pairs[::2], pairs[1::2], strict=True))


def _decode_items(raw: bytes, at: int) -> tuple[tuple[int, bytes], ...]:
    items = []
    end = len(raw)
    while at < end:
        if at + 2 > end:
            raise IfsfError("a data item without length")
        data_id, size = raw[at], raw[at + 1]
        at += 2
        if size == LONG_LENGTH:
            if at + 2 > end:
                raise IfsfError("a long data item without length")
            size = int.from_bytes(raw[at : at + 2], "big")
            at += 2
        if at + size > end:
            raise IfsfError("a data item is cut off")
        items.append((data_id, raw[at : at + size]))
        at += size
    return tuple(items)
