"""Dispensers that go away, forget, repeat and lie: every sale still lands once, every order ends."""

from pathlib import Path

import pytest

from contracts.station import CommandState, EndReason
from sandbox.station.data_ids import Fp, Tr
from sandbox.station.ifsf_wire import Item
from tests.integration.gateway_support import Rig, authorise_command, eventually, running


@pytest.mark.feature("003-D3")
async def test_dispenser_offline_before_the_authorise(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        assert rig.hub is not None
        rig.inflict(1, kind="offline", ms=11_000)
        assert rig.client is not None
        point = rig.client.driver.point(1, 0x21)
        assert point is not None
        await eventually(lambda: point.state.value == "offline", what="noticed")
        result = await rig.hub.send(authorise_command("P-OFF"))
        assert (result.state, result.code) == (CommandState.REFUSED, "FP_OFFLINE")
        assert (
            await rig.hub.send(authorise_command("P-ON"))
        ).state is CommandState.ACCEPTED  # comes back in time


@pytest.mark.feature("003-D3")
@pytest.mark.parametrize("kind", ["offline", "power_cut"])
async def test_dispenser_away_during_the_fill(tmp_path: Path, kind: str) -> None:
    async with running(tmp_path, station_options={"rate": 30}) as rig:
        assert rig.hub is not None
        rig.inflict(1, kind=kind, fp=0x21, ms=1500, while_fuelling=1, after_ms=150)
        assert (await rig.hub.send(authorise_command("P-MID"))).state is CommandState.ACCEPTED
        rig.lift_and_fill(1, 0x21, 1, None)
        await eventually(lambda: rig.desk.sales, what="the recovered sale", within_s=20)
        sale = rig.desk.sales[0]
        assert (sale.order_no, sale.quantity_milli > 0) == ("P-MID", True)
        if kind == "power_cut":
            assert (sale.end_reason, sale.offline) == (EndReason.RECOVERED, True)
        await eventually(lambda: rig.landed() == rig.truth(), what="ledgers agree")
        await rig.online()
        assert (await rig.hub.send(authorise_command("P-THEN"))).state is CommandState.ACCEPTED


@pytest.mark.feature("003-D3")
async def test_dispenser_away_after_the_fill_before_it_was_read(tmp_path: Path) -> None:
    async with running(tmp_path, device_options={"resend_max": 0}) as rig:
        assert rig.hub is not None
        assert rig.client is not None
        assert (await rig.hub.send(authorise_command("P-AFT"))).state is CommandState.ACCEPTED
        await rig.stop_client()
        rig.lift_and_fill(1, 0x21, 1, None)
        await eventually(lambda: rig.truth(), what="dispensed")
        await rig.start_client()
        await eventually(lambda: rig.desk.sales, what="recovered")
        sale = rig.desk.sales[0]
        assert (sale.order_no, sale.end_reason, sale.amount_fen) == ("P-AFT", EndReason.RECOVERED, 5000)


@pytest.mark.feature("003-D3")
@pytest.mark.parametrize("fault", ["missing_completion", "late_completion", "duplicate_completion"])
async def test_completion_message_missing_late_or_doubled(tmp_path: Path, fault: str) -> None:
    async with running(tmp_path) as rig:
        rig.inflict(1, kind=fault, fp=0x21)
        rig.lift_and_fill(1, 0x21, 2, 5_000)
        await eventually(lambda: rig.desk.sales, what="the sale", within_s=10)
        rig.lift_and_fill(1, 0x21, 2, 6_000)
        await eventually(lambda: len(rig.desk.sales) == 2, what="the next sale")
        assert rig.landed() == rig.truth()


@pytest.mark.feature("003-D3")
@pytest.mark.parametrize(
    ("kind", "options"), [("glue", {"frames": 4, "hold_ms": 50}), ("split", {"count": 8, "bytes": 3})]
)
async def test_glued_and_split_segments(tmp_path: Path, kind: str, options: dict[str, int]) -> None:
    async with running(tmp_path) as rig:
        assert rig.hub is not None
        rig.inflict(1, kind=kind, **options)
        assert (await rig.hub.send(authorise_command("P-SEG"))).state is CommandState.ACCEPTED
        rig.lift_and_fill(1, 0x21, 1, None)
        await eventually(lambda: rig.desk.sales, what="the sale")
        assert rig.landed() == rig.truth()


async def test_half_open_connection_is_given_up_and_read_again(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        assert rig.hub is not None
        rig.inflict(1, kind="half_open", ms=1500)
        result = await rig.hub.send(authorise_command("P-HALF"))
        assert (result.state, result.code) == (CommandState.REFUSED, "FP_OFFLINE")
        await rig.online()
        rig.lift_and_fill(1, 0x21, 2, 7_000)
        await eventually(lambda: rig.desk.sales, what="the sale")


async def test_nozzle_hung_up_before_flow_ends_the_order(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        assert rig.hub is not None
        assert rig.station is not None
        assert (await rig.hub.send(authorise_command("P-ZERO"))).state is CommandState.ACCEPTED
        point, link = rig.station.point(1, 0x21), rig.station.link(1)
        assert point.lift(0x11)
        link.pump()
        await eventually(lambda: point.state.name == "STARTED", what="lifted")
        assert point.hang_up()
        link.pump()
        await eventually(lambda: rig.desk.sales, what="the zero sale")
        sale = rig.desk.sales[0]
        assert (sale.order_no, sale.quantity_milli, sale.end_reason) == ("P-ZERO", 0, EndReason.ZERO)


async def test_authorise_timeout_ends_the_order(tmp_path: Path) -> None:
    async with running(tmp_path, device_options={"auth_timeout_s": 1}) as rig:
        assert rig.hub is not None
        assert (await rig.hub.send(authorise_command("P-TIME"))).state is CommandState.ACCEPTED
        await eventually(lambda: rig.desk.sales, what="the zero sale")
        sale = rig.desk.sales[0]
        assert (sale.order_no, sale.end_reason) == ("P-TIME", EndReason.AUTHORISE_TIMEOUT)


async def test_totaliser_moved_without_a_transaction_is_synthesised(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        assert rig.hub is not None
        assert rig.client is not None
        assert rig.station is not None
        assert (await rig.hub.send(authorise_command("P-LOST"))).state is CommandState.ACCEPTED
        await rig.stop_client()
        rig.lift_and_fill(1, 0x21, 1, 4_000)
        await eventually(lambda: rig.truth(), what="dispensed")
        point = rig.station.point(1, 0x21)
        await eventually(lambda: point.buffer.unpaid, what="in the buffer")
        sale = point.buffer.unpaid[0]
        point.buffer.write(sale, (Item(Tr.CLEAR),), sale.controller)
        await rig.start_client()
        await eventually(lambda: rig.desk.sales, what="the synthesised record")
        told = rig.desk.sales[0]
        assert (told.order_no, told.end_reason) == ("P-LOST", EndReason.SYNTHESISED)
        assert (told.quantity_milli, told.amount_fen) == (4_000, 2_940)


@pytest.mark.feature("003-D1")
async def test_sequence_wraps_without_losing_a_sale(tmp_path: Path) -> None:
    async with running(tmp_path, nodes=1) as rig:
        rig.inflict(1, kind="sequence", fp=0x21, next=9998)
        for number, milli in enumerate((1_000, 2_000, 3_000, 1_000), start=1):
            rig.lift_and_fill(1, 0x21, 2, milli)
            await eventually(lambda: len(rig.desk.sales) == number, what=f"sale {number}")  # noqa: B023
        assert [sale.sequence for sale in rig.desk.sales] == [9998, 9999, 1, 2]
        assert len({sale.natural_key for sale in rig.desk.sales}) == 4
        assert rig.landed() == rig.truth()


@pytest.mark.feature("003-D3")
async def test_prepaid_order_across_the_wrap(tmp_path: Path) -> None:
    async with running(tmp_path, nodes=1) as rig:
        assert rig.hub is not None
        rig.inflict(1, kind="sequence", fp=0x21, next=9999)
        for order in ("P-W1", "P-W2"):
            assert (await rig.hub.send(authorise_command(order))).state is CommandState.ACCEPTED
            rig.lift_and_fill(1, 0x21, 1, None)
            await eventually(lambda: order in [s.order_no for s in rig.desk.sales], what=order)  # noqa: B023


@pytest.mark.feature("003-E1")
async def test_client_restarts_in_mid_fill(tmp_path: Path) -> None:
    async with running(tmp_path, station_options={"rate": 30}) as rig:
        assert rig.hub is not None
        assert rig.client is not None
        assert (await rig.hub.send(authorise_command("P-RE"))).state is CommandState.ACCEPTED
        rig.lift_and_fill(1, 0x21, 1, None)
        point = rig.client.driver.point(1, 0x21)
        assert point is not None
        await eventually(lambda: point.state.value == "fuelling", what="fuel flows")
        await rig.stop_client()
        await rig.start_client()
        await eventually(lambda: rig.desk.sales, what="the sale", within_s=15)
        assert (rig.desk.sales[0].order_no, rig.desk.sales[0].amount_fen) == ("P-RE", 5000)
        assert rig.landed() == rig.truth()


async def test_amount_that_does_not_match_is_kept_as_the_meter_says(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        rig.inflict(1, kind="amount_mismatch", fp=0x22, delta_fen=500)
        rig.lift_and_fill(1, 0x22, 2, 10_000)
        await eventually(lambda: rig.desk.sales, what="the sale")
        assert rig.desk.sales[0].amount_fen == 7850 + 500
        assert rig.landed() == rig.truth()


async def test_two_unpaid_sales_are_read_back_after_a_long_absence(tmp_path: Path) -> None:
    rig = Rig(folder=tmp_path, nodes=1)
    try:
        await rig.start_station()
        await rig.start_server()
        await rig.start_client()
        await rig.online()
        await rig.stop_client()
        assert rig.station is not None
        point, link = rig.station.point(1, 0x21), rig.station.link(1)
        for milli in (1_000, 2_000):
            point.write((Item(Fp.RELEASE),), b"\x02\x01")
            link.pump()
            rig.lift_and_fill(1, 0x21, 1, milli)
            await eventually(lambda: point.state.name == "IDLE" and point.nozzle_out is None, what="done")
        await eventually(lambda: len(rig.truth()) == 2, what="both dispensed")
        await rig.start_client()
        await eventually(lambda: len(rig.desk.sales) == 2, what="both recovered")
        assert [sale.quantity_milli for sale in rig.desk.sales] == [1_000, 2_000]
        assert all(sale.offline for sale in rig.desk.sales)
    finally:
        await rig.stop()
