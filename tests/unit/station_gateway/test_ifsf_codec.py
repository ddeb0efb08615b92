"""The codec against frames captured at stations, and against hostile bytes."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.station import PointState
from station_gateway.protocols.ifsf import ids
from station_gateway.protocols.ifsf.errors import IfsfError
from station_gateway.protocols.ifsf.framing import Reassembler
from station_gateway.protocols.ifsf.heartbeat import Heartbeat, decode_heartbeat, encode_heartbeat
from station_gateway.protocols.ifsf.messages import Address, Message, MessageType, decode, encode
from station_gateway.protocols.ifsf.numbers import (
    decode_number,
    decode_scaled,
    encode_amount,
    encode_number,
    encode_unit_price,
)

DISPENSER, CONTROLLER = Address(1, 9), Address(2, 1)


def raw(dotted: str) -> bytes:
    return bytes.fromhex(dotted.replace(".", ""))


def to_device(kind: MessageType, token: int, database: str, **fields: Any) -> Message:
    return Message(
        recipient=DISPENSER, origin=CONTROLLER, type=kind, token=token, database=raw(database), **fields
    )


def from_device(kind: MessageType, token: int, database: str, **fields: Any) -> Message:
    return Message(
        recipient=CONTROLLER, origin=DISPENSER, type=kind, token=token, database=raw(database), **fields
    )


GOLDEN = {
    "read heartbeat interval": (
        "01.09.02.01.00.01.00.03.01.00.04",
        to_device(MessageType.READ, 1, "00", ids=b"\x04"),
    ),
    "heartbeat interval": (
        "02.01.01.09.00.21.00.05.01.00.04.01.0a",
        from_device(MessageType.ANSWER, 1, "00", items=((4, b"\x0a"),)),
    ),
    "price 7.35": (
        "01.09.02.01.00.41.00.0d.06.61.00.00.00.01.11.02.04.04.00.07.35",
        to_device(MessageType.WRITE, 1, "61.00.00.00.01.11", items=((2, encode_unit_price(735)),)),
    ),
    "price applied": (
        "02.01.01.09.00.80.00.0c.03.21.41.99.64.00.01.01.99.05.01.03",
        from_device(MessageType.UNSOLICITED, 0, "21.41.99", items=((0x64, b""), (1, b"\x99"), (5, b"\x03"))),
    ),
    "open": (
        "01.09.02.01.00.42.00.04.01.21.3c.00",
        to_device(MessageType.WRITE, 2, "21", items=((0x3C, b""),)),
    ),
    "open ack": ("02.01.01.09.00.e2.00.03.01.21.00", from_device(MessageType.ACK, 2, "21")),
    "prepay 50.00": (
        "01.09.02.01.00.43.00.12.01.21.1b.05.06.00.00.50.00.19.01.01.1e.02.02.01.3e.00",
        to_device(
            MessageType.WRITE,
            3,
            "21",
            items=((0x1B, encode_amount(5000)), (0x19, b"\x01"), (0x1E, b"\x02\x01"), (0x3E, b"")),
        ),
    ),
    "prepay ack": ("02.01.01.09.00.e3.00.03.01.21.00", from_device(MessageType.ACK, 3, "21")),
    "refused": (
        "02.01.01.03.00.EC.00.0B.01.21.05.1B.00.1E.00.19.00.3E.03",
        Message(
            recipient=CONTROLLER,
            origin=Address(1, 3),
            type=MessageType.ACK,
            token=12,
            database=b"\x21",
            ack=5,
            ack_items=((0x1B, 0), (0x1E, 0), (0x19, 0), (0x3E, 3)),
        ),
    ),
    "running": (
        "02.01.01.03.00.80.00.12.01.21.66.00.22.05.06.00.00.01.41.23.05.06.00.00.00.17",
        Message(
            recipient=CONTROLLER,
            origin=Address(1, 3),
            type=MessageType.UNSOLICITED,
            database=b"\x21",
            items=((0x66, b""), (0x22, raw("06.00.00.01.41")), (0x23, raw("06.00.00.00.17"))),
        ),
    ),
    "finished": (
        "02.01.01.09.00.80.00.20.04.21.21.29.97.64.00.01.02.29.97.15.01.02.14.02.00.00"
        ".05.05.06.00.00.50.00.06.05.06.00.00.06.80",
        from_device(
            MessageType.UNSOLICITED,
            0,
            "21.21.29.97",
            items=(
                (0x64, b""),
                (1, raw("29.97")),
                (0x15, b"\x02"),
                (0x14, b"\0\0"),
                (5, raw("06.00.00.50.00")),
                (6, raw("06.00.00.06.80")),
            ),
        ),
    ),
    "clear": (
        "01.09.02.01.00.45.00.07.04.21.21.29.97.1e.00",
        to_device(MessageType.WRITE, 5, "21.21.29.97", items=((0x1E, b""),)),
    ),
    "clear ack": (
        "02.01.01.09.00.e5.00.06.04.21.21.29.97.00",
        from_device(MessageType.ACK, 5, "21.21.29.97"),
    ),
    "read totals": (
        "01.09.02.01.00.1a.00.05.02.21.10.14.15",
        to_device(MessageType.READ, 26, "21.10", ids=b"\x14\x15"),
    ),
    "totals": (
        "02.01.01.09.00.3a.00.15.02.21.11.14.07.0a.00.00.02.12.71.13.15.07.0a.00.00.10.58.43.64",
        from_device(
            MessageType.ANSWER,
            26,
            "21.11",
            items=((0x14, raw("0a.00.00.02.12.71.13")), (0x15, raw("0a.00.00.10.58.43.64"))),
        ),
    ),
}


@pytest.mark.feature("003-D3")
@pytest.mark.parametrize("name", GOLDEN)
def test_golden_frame_both_ways(name: str) -> None:
    dotted, message = GOLDEN[name]
    assert decode(raw(dotted)) == message
    assert encode(message) == raw(dotted)


@pytest.mark.parametrize(
    ("dotted", "beat"),
    [
        (
            "7f.00.00.01.49.d3.01.09.01.03",
            Heartbeat(ip="127.0.0.1", tcp_port=18899, sender=DISPENSER, status=3),
        ),
        ("7f.00.00.01.1a.0a.02.01.01.00", Heartbeat(ip="127.0.0.1", tcp_port=6666, sender=CONTROLLER)),
    ],
)
def test_golden_heartbeats(dotted: str, beat: Heartbeat) -> None:
    assert decode_heartbeat(raw(dotted)) == beat
    assert encode_heartbeat(beat) == raw(dotted)


def test_golden_values() -> None:
    finished = decode(raw(GOLDEN["finished"][0]))
    values = finished.values()
    assert ids.sequence_of(finished.database) == 2997
    assert decode_scaled(values[ids.TransactionId.AMOUNT], 2) == 5000
    assert decode_scaled(values[ids.TransactionId.VOLUME], 3) == 6800
    assert decode(raw(GOLDEN["refused"][0])).refusals() == {0x3E: 3}
    totals = decode(raw(GOLDEN["totals"][0])).values()
    assert decode_number(totals[ids.NozzleId.VOLUME_TOTAL]) == Decimal("21271.13")
    assert ids.point_state(b"\x08") is PointState.FUELLING
    assert ids.price_db(1) == raw("61.00.00.00.01.11")
    assert ids.transaction_db(0x21, 2997) == raw("21.21.29.97")


@pytest.mark.parametrize(
    ("number", "decimals", "expected"),
    [
        ("06.00.00.06.80", 3, 6800),
        ("05.00.00.06.80", 3, 680),
        ("08.00.00.06.80", 3, 680_000),
        ("04.00.01", 0, 1),
    ],
)
def test_exponent_comes_with_the_value(number: str, decimals: int, expected: int) -> None:
    assert decode_scaled(raw(number), decimals) == expected


@pytest.mark.parametrize(
    "number",
    ["ff.99.99", "0a.00.01", "05.00.01", "c8" + ".99" * 100],
)
def test_a_number_beyond_its_field_or_any_meter_is_refused(number: str) -> None:
    with pytest.raises(IfsfError):
        decode_scaled(raw(number), 3)


def test_numbers_are_never_rounded() -> None:
    with pytest.raises(IfsfError):
        decode_scaled(raw("05.00.00.06.81"), 2)
    with pytest.raises(IfsfError):
        encode_number(Decimal("0.005"), integer_digits=6, size=4)
    with pytest.raises(IfsfError):
        encode_amount(100_000_000)
    with pytest.raises(IfsfError):
        decode_scaled(raw("06.00.0a"), 2)


@given(st.integers(0, 99_999_999), st.integers(0, 8))
def test_numbers_round_trip(digits: int, integer_digits: int) -> None:
    value = Decimal(digits).scaleb(integer_digits - 8)
    assert decode_number(encode_number(value, integer_digits=integer_digits, size=4)) == value


@pytest.mark.feature("003-E5")
@given(st.lists(st.sampled_from(sorted(GOLDEN)), max_size=6), st.integers(1, 60))
def test_glued_and_split_frames(names: list[str], step: int) -> None:
    stream = b"".join(raw(GOLDEN[name][0]) for name in names)
    cutter, found = Reassembler(), []
    for at in range(0, len(stream), step):
        found += cutter.feed(stream[at : at + step])
    assert found == [GOLDEN[name][1] for name in names]
    assert cutter.feed(b"") == []


def test_partial_frame_waits() -> None:
    frame = raw(GOLDEN["finished"][0])
    cutter = Reassembler()
    for byte in frame[:-1]:
        assert cutter.feed(bytes((byte,))) == []
    assert len(cutter.feed(frame[-1:])) == 1


@pytest.mark.feature("003-E5")
@given(st.lists(st.binary(max_size=80), max_size=5))
def test_hostile_bytes_raise_only_the_typed_error(chunks: list[bytes]) -> None:
    cutter = Reassembler()
    for chunk in chunks:
        try:
            for message in cutter.feed(chunk):
                assert decode(encode(message)) == message
                message.values()
                ids.sequence_of(message.database)
        except IfsfError:
            return


@given(st.binary(max_size=60))
def test_hostile_single_messages(body: bytes) -> None:
    for head in (0x00, 0x20, 0x80, 0xA0, 0xE0):
        frame = bytes((2, 1, 1, 9, 0, head)) + len(body).to_bytes(2, "big") + body
        try:
            message = decode(frame)
        except IfsfError:
            continue
        for data in message.values().values():
            try:
                decode_scaled(data, 3)
            except IfsfError:
                continue


@given(st.binary(max_size=14))
def test_hostile_heartbeats(datagram: bytes) -> None:
    try:
        beat = decode_heartbeat(datagram)
    except IfsfError:
        return
    assert encode_heartbeat(beat) == datagram
