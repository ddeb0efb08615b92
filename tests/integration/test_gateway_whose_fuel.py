"""Whose fuel it is, over a real wire: only the answer to one read of the dispenser's buffer is slow."""

from pathlib import Path

import pytest

from contracts.station import AuthoriseCommand, CommandState, PointState
from station_gateway.protocols.ifsf.ids import sequence_of
from station_gateway.protocols.ifsf.messages import Message
from tests.integration.gateway_support import authorise_command, eventually, running


def command_of(order_no: str) -> AuthoriseCommand:
    """Return the command of a prepaid order at the post-paid nozzle."""
    return authorise_command(order_no, nozzle=2, price=785)


@pytest.mark.feature("003-D2")
@pytest.mark.feature("003-D5")
async def test_the_fuel_of_a_customer_who_hangs_up_while_an_order_is_checked_is_not_the_orders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path, station_options={"instant": False}) as rig:
        assert rig.client is not None
        assert rig.hub is not None
        assert rig.station is not None
        pump, point = rig.station.point(1, 0x21), rig.client.driver.point(1, 0x21)
        assert point is not None
        read, is_slow = point.link.read, [False]

        async def read_slowly(database: bytes, ids: bytes) -> Message:
            answer = await read(database, ids)
            if is_slow[0] and database[0] == 0x21 and sequence_of(database) == 0:
                is_slow[0] = False  # the answer "nothing there" is on its way while the customer hangs up
                await eventually(lambda: pump.buffer.unpaid, what="the customer has hung up")
            return answer

        monkeypatch.setattr(point.link, "read", read_slowly)
        rig.lift_and_fill(1, 0x21, 2, 1_000)
        await eventually(
            lambda: point.state is PointState.FUELLING, what="the post-paid customer is fuelling"
        )
        is_slow[0] = True
        refused = await rig.hub.send(command_of("P-ONE"))
        is_slow[0] = False
        assert (refused.state, refused.code) == (CommandState.REFUSED, "FP_BUSY")
        await eventually(lambda: rig.desk.sales, what="the post-paid sale arrives")
        await eventually(
            lambda: point.state is PointState.IDLE and not point.background.tasks, what="all is told"
        )
        assert [sale.order_no for sale in rig.desk.sales] == [None]
        assert (await rig.hub.send(command_of("P-TWO"))).state is CommandState.ACCEPTED
        rig.lift_and_fill(1, 0x21, 2, 300)
        await eventually(lambda: len(rig.desk.sales) > 1, what="the order's sale arrives")
        assert [sale.order_no for sale in rig.desk.sales] == [None, "P-TWO"]
        assert rig.landed() == rig.truth()
