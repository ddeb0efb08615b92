"""Sales as a dispenser may report them whose price, unit or figures nobody should believe, and keys booked twice."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from contracts.orders import OpenOrder, OpenSale, OrderView, PostPayment, SettledSale, SettleSale
from contracts.station import EndReason, SaleRecord
from db.seed import STATION
from domain import ids, policy
from domain.quantity import Unit
from tests.integration.activity_world import NOW, World, open_world, paid

_HUGE = 2**40
_BEYOND_EVERY_COLUMN = 10**60


@pytest.fixture
def world(fresh_database_url: str) -> Iterator[World]:
    """A seeded database of this test; 92# costs 7.35 yuan since an hour."""
    with open_world(fresh_database_url) as found:
        yield found


def sale(key: str = "lie", **changes: Any) -> SaleRecord:
    """Return 20.00 L of 92# at 7.35, with changes."""
    values: dict[str, Any] = {
        "natural_key": f"{STATION}:1:33:{key}",
        "station_code": STATION,
        "node": 1,
        "fp": 0x21,
        "nozzle": 1,
        "sequence": 1,
        "unit": Unit.LITRE,
        "quantity_milli": 20_000,
        "amount_fen": 14_700,
        "price_fen_per_unit": 735,
        "end_reason": EndReason.NORMAL,
        "recorded_at": NOW,
    }
    return SaleRecord(**{**values, **changes})


def opened(world: World, one: SaleRecord) -> OrderView:
    """Open the post-paid order of a sale."""
    request = OpenSale(order_no=ids.order_no_of_sale(one.natural_key), sale=one)
    view = world.opening.open_sale(request).view
    assert view is not None
    return view


def decide(world: World, order_no: str, one: SaleRecord, charge_fen: int) -> SettledSale:
    """A manager decides the amount."""
    request = SettleSale(order_no=order_no, sale=one, charge_fen=charge_fen, actor="staff:1", note="已核对")
    return world.money.settle_sale(request)


def price_since(world: World, price_fen: int, effective_at: datetime) -> None:
    """Set the price of 92# from a moment on, as the next version."""
    world.execute(
        "INSERT INTO price (station_id, product_id, version, price_fen_per_unit, effective_at)"
        " SELECT station_id, product_id, 2, :price, :at FROM price WHERE price_fen_per_unit = 735",
        price=price_fen,
        at=effective_at,
    )


@pytest.mark.feature("003-K1")
@pytest.mark.parametrize(
    ("changes", "flag"),
    [
        pytest.param({"price_fen_per_unit": 0, "amount_fen": 0}, "price_mismatch", id="free"),
        pytest.param({"price_fen_per_unit": 1, "amount_fen": 20}, "price_mismatch", id="a fen a litre"),
        pytest.param({"price_fen_per_unit": 73, "amount_fen": 1_460}, "price_mismatch", id="a tenth"),
        pytest.param({"price_fen_per_unit": 736, "amount_fen": 14_720}, "price_mismatch", id="a fen more"),
        pytest.param({"unit": Unit.KILOGRAM}, "unit_mismatch", id="kilograms at a litre nozzle"),
        pytest.param({"quantity_milli": 10, "amount_fen": 0}, "zero_amount", id="fuel for nothing"),
        pytest.param(
            {"price_fen_per_unit": _HUGE, "amount_fen": _HUGE * 20}, "out_of_range", id="price beyond 32 bits"
        ),
        pytest.param({"sequence": _HUGE}, "out_of_range", id="sequence beyond 32 bits"),
        pytest.param(
            dict.fromkeys(("quantity_milli", "amount_fen"), _BEYOND_EVERY_COLUMN), "out_of_range", id="absurd"
        ),
        pytest.param({"totaliser_after_milli": _BEYOND_EVERY_COLUMN}, "out_of_range", id="absurd totaliser"),
        pytest.param({"amount_fen": -14_700}, "out_of_range", id="negative"),
    ],
)
def test_a_postpaid_sale_that_cannot_be_believed_is_decided_by_a_person(
    world: World, changes: dict[str, Any], flag: str
) -> None:
    lie = sale(**changes)
    view = opened(world, lie)
    assert (view.needs_person, view.charge_fen) == (flag, 0)
    assert world.count("ledger_journal") == 0
    story = f"kind = 'flagged' AND order_no = '{view.order_no}' AND detail LIKE '%待人工核定'"
    assert world.count("order_event", story) == 1
    decided = decide(world, view.order_no, lie, 14_700)
    assert (decided.view.charge_fen, decided.view.needs_person) == (14_700, "")
    assert world.count("ledger_journal") == 1


def test_a_decision_of_nothing_ends_a_sale_of_nothing(world: World) -> None:
    lie = sale(price_fen_per_unit=0, amount_fen=0)
    view = opened(world, lie)
    assert decide(world, view.order_no, lie, 0).view.status == "cancelled"


@pytest.mark.parametrize(
    ("changed", "recorded", "version"),
    [
        pytest.param(timedelta(minutes=-1), timedelta(), 1, id="the price changed during the fill"),
        pytest.param(timedelta(minutes=-50), timedelta(minutes=-20), 1, id="the edge was late"),
        pytest.param(timedelta(hours=-5), timedelta(hours=-6), 1, id="filled offline before the change"),
        pytest.param(timedelta(hours=-5), timedelta(hours=-3), None, id="filled long after the change"),
        pytest.param(timedelta(days=-40), timedelta(days=-50), None, id="a clock set back to an old price"),
    ],
)
def test_the_price_before_a_change_is_believed_for_a_while(
    world: World, changed: timedelta, recorded: timedelta, version: int | None
) -> None:
    world.execute("UPDATE price SET effective_at = effective_at - interval '60 days'")
    price_since(world, 800, NOW + changed)
    view = opened(world, sale(recorded_at=NOW + recorded))
    assert view.needs_person == ("" if version else "price_mismatch")
    assert view.charge_fen == (14_700 if version else 0)
    assert world.count("fuel_order", f"price_version = {version or 2}") == 1


def test_the_limits_of_an_old_price_are_policy(world: World) -> None:
    price_since(world, 800, NOW - policy.PRICE_STILL_SHOWN - timedelta(seconds=1))
    world.execute("UPDATE price SET effective_at = effective_at - interval '1 day' WHERE version = 1")
    assert opened(world, sale("late")).needs_person == "price_mismatch"
    assert opened(world, sale("new", price_fen_per_unit=800, amount_fen=16_000)).needs_person == ""


def paid_order(world: World, key: str) -> str:
    """Open a prepaid order and take its money; return the number."""
    start = world.start(key)
    world.opening.open_order(OpenOrder(start=start))
    number = ids.out_trade_no(start.order_no, 1)
    request = PostPayment(order_no=start.order_no, outcome=paid(number, 20_000), cancelled=False)
    world.money.post_payment(request)
    return start.order_no


def settle(world: World, order_no: str, one: SaleRecord) -> SettledSale:
    """The dispenser's sale reaches the order."""
    return world.money.settle_sale(SettleSale(order_no=order_no, sale=one))


@pytest.mark.parametrize(
    ("changes", "flag"),
    [
        pytest.param({"unit": Unit.KILOGRAM}, "unit_mismatch", id="unit"),
        pytest.param({"amount_fen": _BEYOND_EVERY_COLUMN}, "out_of_range", id="amount"),
        pytest.param({"price_fen_per_unit": _HUGE}, "out_of_range", id="price"),
        pytest.param({"price_fen_per_unit": 1, "amount_fen": 20}, "price_mismatch", id="another price"),
    ],
)
def test_a_prepaid_sale_that_cannot_be_believed_is_decided_by_a_person(
    world: World, changes: dict[str, Any], flag: str
) -> None:
    order_no = paid_order(world, "k")
    lie = replace(sale(order_no=order_no), **changes)
    assert settle(world, order_no, lie).flagged == flag
    assert world.count("fuelling_point", "holder_order_no IS NOT NULL") == 0
    decided = decide(world, order_no, lie, 14_700)
    assert (decided.view.charge_fen, decided.refund is not None) == (14_700, True)


def test_a_sale_whose_key_another_order_has_is_decided_by_a_person(world: World) -> None:
    taken = opened(world, sale(amount_fen=147, quantity_milli=200)).order_no
    order_no = paid_order(world, "k")
    one = sale(order_no=order_no)
    for _ in range(2):
        settled = settle(world, order_no, one)
        assert (settled.flagged, settled.view.needs_person) == ("sale_key_taken", "sale_key_taken")
    assert world.count("fuelling_point", "holder_order_no IS NOT NULL") == 0
    told = f"order_no = '{order_no}' AND kind = 'flagged' AND detail LIKE '%{taken}%20.00 升，147.00 元%'"
    assert world.count("order_event", told) == 1
    assert world.count("sale", f"order_no = '{order_no}'") == 0
    decided = decide(world, order_no, one, 14_700)
    assert (decided.view.charge_fen, decided.view.needs_person) == (14_700, "")
    kept = f"order_no = '{order_no}' AND amount_fen = 14700 AND flag = 'sale_key_taken'"
    assert world.count("sale", kept) == 1
    assert world.count("sale", f"order_no = '{taken}' AND amount_fen = 147") == 1
