"""Damage: a field that cannot be read costs no sale, a report that cannot be read is asked about, one point no other."""

from pathlib import Path

import pytest

from contracts.station import CommandState, PointState
from domain.quantity import Unit
from station_gateway.client import ifsf_driver
from station_gateway.client.config import ClientConfig, DispenserConfig, NozzleConfig, PointConfig
from station_gateway.client.health import pause_s
from station_gateway.client.ifsf_driver import Dispenser
from station_gateway.client.outbox import Outbox
from station_gateway.client.sales import content_of, is_same_transaction
from station_gateway.protocols.ifsf.errors import IfsfError
from station_gateway.protocols.ifsf.ids import FpId, TransactionId, transaction_db
from station_gateway.protocols.ifsf.messages import Message, MessageType
from station_gateway.protocols.ifsf.numbers import encode_amount
from tests.unit.station_gateway.hostile_device import (
    AUTHORISED,
    CONTROLLER,
    DEVICE,
    FP,
    IDLE,
    NOW,
    Device,
)
from tests.unit.station_gateway.lagging_device import STATE, Board, endings, quiet, until
from tests.unit.station_gateway.test_later_looks import Moody
from tests.unit.station_gateway.test_one_fuel_one_sale import bare, fills, told
from tests.unit.station_gateway.test_point import OWN, authorise, ready_point, sales
from tests.unit.station_gateway.test_unreadable_buffers import FUELLING, payable, said, state, until_told

NO_NUMBER = b"\x0a" + b"\xff" * 6
Fields = dict[int, bytes | None]


class Damaged(Board):
    """Changes fields of its records; None leaves one out. `shapes` are used up, the last one stays."""

    def __init__(self, *shapes: Fields) -> None:
        super().__init__()
        self.shapes = list(shapes)

    def _transaction(
        self, sequence: int, fen: int, centi: int, after: int
    ) -> tuple[bytes, tuple[tuple[int, bytes], ...]]:
        database, items = super()._transaction(sequence, fen, centi, after)
        shape = (self.shapes.pop(0) if len(self.shapes) > 1 else self.shapes[0]) if self.shapes else {}
        fields = {**dict(items), **shape}
        return database, tuple((number, data) for number, data in fields.items() if data is not None)


# -- a field ---------------------------------------------------------------------------------------------------------


@pytest.mark.feature("003-E1")
@pytest.mark.parametrize("field", [TransactionId.TOTAL_BEFORE, TransactionId.TOTAL_AFTER])
async def test_a_damaged_totaliser_in_a_record_costs_no_sale(tmp_path: Path, field: int) -> None:
    device = Damaged({field: NO_NUMBER})
    point = await ready_point(device, tmp_path)
    assert (await authorise(point)).state is CommandState.ACCEPTED
    point.heard(state(FUELLING))
    fills(device, OWN)
    point.heard(payable(7))
    point.heard(state(IDLE))
    await until_told(point, [(7, "P1")])
    (sale,) = sales(point)
    assert (sale["a"], sale.get("y"), sale["x"]) == (20_000, None, OWN[3]), (
        "the meter's own total where it has none"
    )
    assert (await authorise(point, "P2")).state is CommandState.ACCEPTED


@pytest.mark.feature("003-E1")
async def test_a_damaged_amount_is_no_sale_and_releases_nothing_over_it(tmp_path: Path) -> None:
    device = Damaged({TransactionId.AMOUNT: NO_NUMBER[:6]})
    point = await ready_point(device, tmp_path)
    fills(device, OWN)
    point.heard(payable(7))
    refused = await authorise(point)
    assert (refused.state, told(point), device.buffer) == (CommandState.REFUSED, [], [OWN])
    device.shapes = []
    await until_told(point, [(7, None)])
    assert (await authorise(point, "P2")).state is CommandState.ACCEPTED


@pytest.mark.feature("003-E1")
async def test_a_post_paid_record_that_was_torn_is_read_again(tmp_path: Path) -> None:
    """The point is at rest and nothing is open: only that the read failed says that something is there."""
    device = Moody()
    point = await ready_point(device, tmp_path)
    await quiet(point)
    fills(device, OWN)
    device.torn = 1
    point.heard(payable(7))
    await until_told(point, [(7, None)])


# -- a report --------------------------------------------------------------------------------------------------------


@pytest.mark.feature("003-D2")
@pytest.mark.parametrize(
    "garbled",
    [
        said(bytes((FP,)), (FpId.STATE, b"\x0f")),
        said(bytes((FP,)), (FpId.STATE, b""), (FpId.NOZZLE_STATE, b"\0")),
        said(bytes((FP,)), (FpId.CURRENT_AMOUNT, NO_NUMBER), (FpId.CURRENT_VOLUME, NO_NUMBER)),
        said(transaction_db(FP, 7)[:2] + b"\xff\xff", (TransactionId.STATE, b"\2")),
    ],
    ids=["state", "no state", "running amount", "transaction"],
)
@pytest.mark.parametrize("has_fuel", [False, True])
async def test_a_report_that_cannot_be_read_is_asked_about(
    tmp_path: Path, garbled: Message, has_fuel: bool
) -> None:
    device = Board()
    point = await ready_point(device, tmp_path)
    assert (await authorise(point)).state is CommandState.ACCEPTED
    await quiet(point)
    device.state = IDLE
    if has_fuel:
        fills(device, OWN)
    with pytest.raises(IfsfError):
        point.heard(garbled)
    await until_told(point, [(7 if has_fuel else 0, "P1")])
    assert (await authorise(point, "P2")).state is CommandState.ACCEPTED


@pytest.mark.feature("003-E1")
@pytest.mark.parametrize("first", [{}, {"clear_code": 2}])
async def test_a_post_paid_sale_whose_report_has_no_state_is_found(
    tmp_path: Path, first: dict[str, int]
) -> None:
    device = Board()
    point = await ready_point(device, tmp_path)
    await quiet(point)
    fills(device, OWN)
    device.clear_code = first.get("clear_code", 0)
    point.heard(said(transaction_db(FP, 7), (TransactionId.AMOUNT, encode_amount(OWN[1]))))
    await until(lambda: told(point) == [(7, None)])
    device.clear_code = 0
    await until(lambda: not device.buffer)
    await until_told(point, [(7, None)])


@pytest.mark.feature("003-E1")
async def test_a_clear_that_was_refused_once_is_repeated_by_itself(tmp_path: Path) -> None:
    device = Board()
    point = await ready_point(device, tmp_path)
    await quiet(point)
    fills(device, OWN)
    device.clear_code = 2
    point.heard(payable(7))
    await until(lambda: told(point) == [(7, None)])
    device.clear_code = 0
    await until(lambda: not device.buffer)
    await until_told(point, [(7, None)])


# -- one record, two shapes ------------------------------------------------------------------------------------------

LATER: Fields = {TransactionId.TOTAL_AFTER: None}
CLOCK: Fields = {TransactionId.DATE: b"\x20\x26\x08\x01", TransactionId.TIME: b"\x12\0\0"}


@pytest.mark.feature("003-D2")
@pytest.mark.parametrize(
    "shapes", [(LATER, {}), ({}, LATER), (LATER, CLOCK), (LATER, {**CLOCK, **LATER}, {})]
)
async def test_a_record_read_in_two_shapes_is_one_sale(tmp_path: Path, shapes: tuple[Fields, ...]) -> None:
    device = Damaged(*shapes)
    point = await ready_point(device, tmp_path)
    assert (await authorise(point)).state is CommandState.ACCEPTED
    point.heard(state(FUELLING))
    device.buffer, device.state, device.clear_code = [OWN], IDLE, 2  # the meter's own totaliser lags
    point.heard(payable(7))
    await until(lambda: len(device.shapes) == 1 and told(point))
    device.total, device.clear_code = device.meter(OWN[3]), 0
    await until(lambda: not device.buffer)
    await quiet(point)
    assert endings(point) == [("normal", 7, "P1")]


@pytest.mark.feature("003-D2")
@pytest.mark.parametrize(
    "other", [(7, 5_000, 680, OWN[3]), (7, 20_000, 2_721, OWN[3] + 27_210)], ids=["amount", "totaliser"]
)
async def test_two_transactions_of_one_number_that_contradict_each_other_are_two_sales(
    tmp_path: Path, other: tuple[int, int, int, int]
) -> None:
    device = Damaged(CLOCK) if other[1] == 5_000 else Damaged()
    if device.shapes:
        bare(device)
    point = await ready_point(device, tmp_path)
    fills(device, OWN)
    device.clear_code = 2
    assert not await point.collect_unpaid(1)
    device.buffer, device.clear_code, device.shapes = [other], 0, []
    assert await point.collect_unpaid(1)
    assert [(one["q"], one["a"]) for one in sales(point)] == [(7, 20_000), (7, other[1])]


def test_a_record_that_leaves_out_what_was_sold_is_not_the_same() -> None:
    whole = dict(Device()._transaction(*OWN)[1])
    assert is_same_transaction(content_of(whole), content_of({**whole, TransactionId.STATE: b"\3"}))
    for field in (
        TransactionId.NOZZLE,
        TransactionId.UNIT_PRICE,
        TransactionId.VOLUME,
        TransactionId.AMOUNT,
    ):
        part = {number: value for number, value in whole.items() if number != field}
        assert not is_same_transaction(content_of(whole), content_of(part))
        assert not is_same_transaction(content_of(part), content_of(whole))
        assert not is_same_transaction(
            content_of(whole), content_of({**whole, field: b"\x99" * len(whole[field])})
        )


# -- an answer that names nothing ------------------------------------------------------------------------------------


@pytest.mark.feature("003-D2")
@pytest.mark.parametrize(
    "items",
    [
        ((TransactionId.AMOUNT, encode_amount(20_000)), (TransactionId.STATE, b"\0")),
        ((TransactionId.AMOUNT, encode_amount(20_000)),),
        ((TransactionId.AMOUNT, bytes(6)), (TransactionId.STATE, b"\2")),
        ((TransactionId.STATE, b"\3"),),
    ],
    ids=["amount, state 0", "amount", "payable", "locked"],
)
async def test_an_answer_without_a_number_that_tells_of_fuel_is_no_empty_buffer(
    tmp_path: Path, items: tuple[tuple[int, bytes], ...]
) -> None:
    class Nameless(Board):
        has_name = False

        async def read(self, database: bytes, ids: bytes) -> Message:
            """Answer a read of the oldest transaction without its number."""
            if len(database) != 4 or self.has_name or not self.buffer:
                return await super().read(database, ids)
            return Message(
                recipient=CONTROLLER, origin=DEVICE, type=MessageType.ANSWER, database=database, items=items
            )

    device = Nameless()
    point = await ready_point(device, tmp_path)
    fills(device, OWN)
    refused = await authorise(point)
    assert (refused.code, device.releases) == ("FP_BUSY", 0)
    device.has_name = True
    await until_told(point, [(7, None)])


# -- one point of several --------------------------------------------------------------------------------------------


class Node:
    """Two points behind one connection in memory; each is a device of its own."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, bad: Device) -> None:
        self.opens = 0
        nozzle = NozzleConfig(nozzle=1, number=1, product=92, unit=Unit.LITRE)
        points = tuple(PointConfig(fp=fp, nozzles=(nozzle,)) for fp in (FP, FP + 1))
        node = DispenserConfig(node=1, ip="127.0.0.1", points=points)
        config = ClientConfig(
            station_code="ST",
            server="x:1",
            oscore_dir="",
            data_dir="",
            dispensers=(node,),
            reconnect_s=0.01,
            backoff_most_s=0.04,
            settle_retry_s=0.01,
        )
        self.dispenser = Dispenser(
            config,
            node,
            Outbox(folder / "node.sqlite3"),
            on_change=lambda: None,
            on_result=lambda: None,
            now=lambda: NOW,
        )
        good = Device()

        async def read(database: bytes, ids: bytes) -> Message:
            return await (good if database[0] == FP + 1 else bad).read(database, ids)

        async def write(database: bytes, *items: tuple[int, bytes]) -> Message:
            return await (good if database[0] == FP + 1 else bad).write(database, *items)

        async def opened(ip: str, port: int) -> None:
            self.opens += 1
            self.dispenser.link.closed.clear()

        monkeypatch.setattr(self.dispenser.link, "read", read)
        monkeypatch.setattr(self.dispenser.link, "write", write)
        monkeypatch.setattr(self.dispenser.link, "open", opened)

    def is_ready(self, fp: int) -> bool:
        return self.dispenser.points[fp].ready

    def start(self) -> None:
        self.dispenser._port = 1
        self.dispenser._alive.set()
        self.dispenser.start()


@pytest.mark.feature("003-E1")
async def test_an_unreadable_record_keeps_no_point_offline_and_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = Damaged({TransactionId.AMOUNT: None})
    device.buffer = [OWN]
    node = Node(tmp_path, monkeypatch, device)
    node.start()
    try:
        await until(lambda: node.is_ready(FP + 1) and node.is_ready(FP))
        assert node.dispenser.online
        point = node.dispenser.points[FP]
        read = device.reads(4)
        await until(lambda: device.reads(4) >= read + 2)
        assert ((await authorise(point)).state, device.releases) == (CommandState.REFUSED, 0)
        device.shapes = []
        await until(lambda: told(point) == [(7, None)])
        assert node.opens == 1
    finally:
        await node.dispenser.stop()


@pytest.mark.feature("003-E1")
async def test_a_state_that_cannot_be_read_keeps_no_other_point_offline_and_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []

    def noted(*figures: float) -> float:
        pauses.append(pause_s(int(figures[0]), *figures[1:]))
        return pauses[-1]

    monkeypatch.setattr(ifsf_driver, "pause_s", noted)
    device = Board()
    device.reported = 15
    node = Node(tmp_path, monkeypatch, device)
    node.start()
    try:
        await until(lambda: len(pauses) >= 4)
        assert pauses[:4] == [0.01, 0.02, 0.04, 0.04]
        assert (node.is_ready(FP + 1), node.is_ready(FP), node.opens) == (True, False, 1)
        assert node.dispenser.points[FP + 1].state is PointState.IDLE
        assert device.reads(STATE) <= len(pauses) + 1
        device.reported, device.state = None, AUTHORISED
        await until(lambda: node.dispenser.online)
        assert node.opens == 1
        device.reported = 15
        node.dispenser.link.closed.set()  # the wire breaks while it cannot be read: it is connected anew
        await until(lambda: node.opens > 1)
    finally:
        await node.dispenser.stop()
