"""The codec of the simulated dispenser against frames captured from real ones."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.station import ifsf_wire as wire
from sandbox.station.ifsf_wire import Heartbeat, Item, Kind, Lna, Message, StreamCutter, WireError

DEVICE = Lna(1, 9)
OTHER_DEVICE = Lna(1, 3)
CONTROLLER = Lna(2, 1)
PRICE_735 = bytes.fromhex("04000735")
AMOUNT_50 = bytes.fromhex("0600005000")


def to_device(kind: Kind, token: int, db: str, *items: Item, ids: tuple[int, ...] = ()) -> Message:
    return Message(
        to=DEVICE, sender=CONTROLLER, kind=kind, token=token, db=bytes.fromhex(db), items=items, ids=ids
    )


def to_controller(kind: Kind, token: int, db: str, *items: Item, sender: Lna = DEVICE) -> Message:
    return Message(to=CONTROLLER, sender=sender, kind=kind, token=token, db=bytes.fromhex(db), items=items)


def ack(token: int, db: str) -> Message:
    return Message(to=CONTROLLER, sender=DEVICE, kind=Kind.ACK, token=token, db=bytes.fromhex(db))


GOLDEN = [
    ("01.09.02.01.00.01.00.03.01.00.04", to_device(Kind.READ, 1, "00", ids=(4,))),
    ("02.01.01.09.00.21.00.05.01.00.04.01.0a", to_controller(Kind.ANSWER, 1, "00", Item(4, b"\x0a"))),
    (
        "01.09.02.01.00.41.00.0d.06.61.00.00.00.01.11.02.04.04.00.07.35",
        to_device(Kind.WRITE, 1, "610000000111", Item(2, PRICE_735)),
    ),
    (
        "02.01.01.09.00.80.00.0c.03.21.41.99.64.00.01.01.99.05.01.03",
        to_controller(Kind.EVENT, 0, "214199", Item(0x64), Item(1, b"\x99"), Item(5, b"\x03")),
    ),
    ("01.09.02.01.00.42.00.04.01.21.3c.00", to_device(Kind.WRITE, 2, "21", Item(0x3C))),
    ("02.01.01.09.00.e2.00.03.01.21.00", ack(2, "21")),
    (
        "01.09.02.01.00.43.00.12.01.21.1b.05.06.00.00.50.00.19.01.01.1e.02.02.01.3e.00",
        to_device(
            Kind.WRITE,
            3,
            "21",
            Item(0x1B, AMOUNT_50),
            Item(0x19, b"\x01"),
            Item(0x1E, b"\x02\x01"),
            Item(0x3E),
        ),
    ),
    ("02.01.01.09.00.e3.00.03.01.21.00", ack(3, "21")),
    (
        "02.01.01.03.00.EC.00.0B.01.21.05.1B.00.1E.00.19.00.3E.03",
        Message(
            to=CONTROLLER,
            sender=OTHER_DEVICE,
            kind=Kind.ACK,
            token=12,
            db=b"\x21",
            ms_ack=5,
            results=((0x1B, 0), (0x1E, 0), (0x19, 0), (0x3E, 3)),
        ),
    ),
    (
        "02.01.01.03.00.80.00.12.01.21.66.00.22.05.06.00.00.01.41.23.05.06.00.00.00.17",
        to_controller(
            Kind.EVENT,
            0,
            "21",
            Item(0x66),
            Item(0x22, wire.amount(141)),
            Item(0x23, wire.volume(17)),
            sender=OTHER_DEVICE,
        ),
    ),
    (
        "02.01.01.09.00.80.00.20.04.21.21.29.97.64.00.01.02.29.97.15.01.02.14.02.00.00"
        ".05.05.06.00.00.50.00.06.05.06.00.00.06.80",
        to_controller(
            Kind.EVENT,
            0,
            "21212997",
            Item(0x64),
            Item(1, b"\x29\x97"),
            Item(0x15, b"\x02"),
            Item(0x14, b"\x00\x00"),
            Item(5, wire.amount(5000)),
            Item(6, wire.volume(680)),
        ),
    ),
    ("01.09.02.01.00.45.00.07.04.21.21.29.97.1e.00", to_device(Kind.WRITE, 5, "21212997", Item(0x1E))),
    ("02.01.01.09.00.e5.00.06.04.21.21.29.97.00", ack(5, "21212997")),
    ("01.09.02.01.00.1a.00.05.02.21.10.14.15", to_device(Kind.READ, 26, "2110", ids=(0x14, 0x15))),
    (
        "02.01.01.09.00.3a.00.15.02.21.11.14.07.0a.00.00.02.12.71.13.15.07.0a.00.00.10.58.43.64",
        to_controller(
            Kind.ANSWER,
            26,
            "2111",
            Item(0x14, wire.long_total(2127113)),
            Item(0x15, wire.long_total(10584364)),
        ),
    ),
]
GOLDEN_BEATS = [
    ("7f.00.00.01.49.d3.01.09.01.03", Heartbeat(ip="127.0.0.1", tcp_port=18899, lna=DEVICE, status=3)),
    ("7f.00.00.01.1a.0a.02.01.01.00", Heartbeat(ip="127.0.0.1", tcp_port=6666, lna=CONTROLLER)),
]


def raw(text: str) -> bytes:
    return bytes.fromhex(text.replace(".", ""))


@pytest.mark.parametrize(("text", "message"), GOLDEN)
def test_captured_frames_are_encoded_and_decoded_byte_by_byte(text: str, message: Message) -> None:
    assert wire.decode(raw(text)) == message
    assert wire.encode(message) == raw(text)


@pytest.mark.parametrize(("text", "beat"), GOLDEN_BEATS)
def test_captured_heartbeats(text: str, beat: Heartbeat) -> None:
    assert wire.decode_heartbeat(raw(text)) == beat
    assert wire.encode_heartbeat(beat) == raw(text)


@given(cuts=st.lists(st.integers(min_value=1, max_value=40), max_size=60))
def test_a_stream_is_cut_by_length_whatever_the_segments(cuts: list[int]) -> None:
    stream = b"".join(raw(text) for text, _ in GOLDEN)
    cutter = StreamCutter()
    found: list[Message] = []
    at = 0
    for cut in [*cuts, len(stream)]:
        found += cutter.feed(stream[at : at + cut])
        at += cut
    assert found == [message for _, message in GOLDEN]


def test_long_data_uses_the_two_byte_length() -> None:
    message = to_device(Kind.WRITE, 1, "a1", Item(1, bytes(300)), Item(2, b"\x01"))
    assert wire.decode(wire.encode(message)) == message


def test_the_exponent_of_a_number_is_decoded_not_assumed() -> None:
    assert wire.decode_number(bytes.fromhex("0412345678")) == Decimal("1234.5678")
    assert wire.decode_number(bytes.fromhex("0800001234")) == Decimal(1234)
    assert wire.hundredths(bytes.fromhex("0700012345")) == 123450


@pytest.mark.parametrize(
    "text",
    [
        "01.09.02.01.00.41",
        "01.09.02.01.00.41.00.02.01.21.3c",
        "01.09.02.01.00.41.00.04.01.21.3c.05",
        "01.09.02.01.00.a1.00.03.01.21.3c",
        "01.09.02.01.00.41.00.01.00",
    ],
)
def test_bytes_that_are_no_message_are_refused(text: str) -> None:
    with pytest.raises(WireError):
        wire.decode(raw(text))


def test_numbers_that_lose_digits_are_refused() -> None:
    with pytest.raises(WireError):
        wire.amount(10**8)
    with pytest.raises(WireError):
        wire.encode_number(Decimal("1.234"), integer_digits=6, digits=8)
    with pytest.raises(WireError):
        wire.decode_bcd(b"\x0a")
