"""A sale's whole way: simulated dispenser, IFSF, outbox, CoAP with OSCORE, inbox, workflow; and commands back."""

from pathlib import Path

import pytest

from contracts.station import CommandState, EndReason
from tests.integration.gateway_support import authorise_command, eventually, running


@pytest.mark.feature("003-D1")
@pytest.mark.feature("003-E1")
async def test_prepaid_fill_to_the_preset(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        assert rig.hub is not None
        result = await rig.hub.send(authorise_command("P-ONE"))
        assert (result.state, result.code) == (CommandState.ACCEPTED, "")
        rig.lift_and_fill(1, 0x21, 1, None)
        await eventually(lambda: rig.desk.sales, what="the sale arrives")
        sale = rig.desk.sales[0]
        assert (sale.order_no, sale.amount_fen, sale.price_fen_per_unit) == ("P-ONE", 5000, 735)
        assert sale.end_reason is EndReason.PRESET_REACHED
        assert sale.totaliser_after_milli is not None
        assert sale.totaliser_before_milli is not None
        assert sale.totaliser_after_milli - sale.totaliser_before_milli == sale.quantity_milli
        assert rig.landed() == rig.truth()
        assert rig.station is not None
        point = rig.station.point(1, 0x21)
        await eventually(lambda: not point.buffer.unpaid, what="the device's transaction is cleared")


@pytest.mark.feature("003-D3")
async def test_postpaid_nozzle_is_released_when_lifted(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        rig.lift_and_fill(2, 0x22, 2, 12_340)
        await eventually(lambda: rig.desk.sales, what="the sale arrives")
        sale = rig.desk.sales[0]
        assert (sale.order_no, sale.quantity_milli, sale.end_reason) == (
            None,
            12_340,
            EndReason.CUSTOMER_STOP,
        )
        assert rig.landed() == rig.truth()
