"""What money means that reached an order: said again after a crash, credited to who paid, held when it is not ours."""

from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import text

from contracts.fill import PayCommand
from contracts.orders import BeginAttempt, OpenOrder, OweRefund, PostedPayment, PostPayment, PostVerdict
from db.repositories import views
from db.repositories.views import OrderScope
from domain import ids
from domain.payment import PayMethod
from tests.integration.activity_world import World, open_world, paid

_SALE_FEN = 14_700
_PRESET_FEN = 20_000


@pytest.fixture
def world(fresh_database_url: str) -> Iterator[World]:
    """A seeded database of this test."""
    with open_world(fresh_database_url) as found:
        yield found


def ask(world: World, order_no: str, method: PayMethod, driver_id: int | None = None) -> str:
    """Ask for a payment from a screen of its own; return its number."""
    pay = PayCommand(method=method, screen="phone", driver_id=driver_id)
    command = f"c{world.count('payment_attempt')}"
    begun = world.opening.begin_attempt(BeginAttempt(order_no=order_no, command_id=command, pay=pay))
    assert begun.attempt is not None
    return begun.attempt.out_trade_no


def post(world: World, number: str, amount_fen: int, *, cancelled: bool = False) -> PostedPayment:
    """Post money that the channel confirmed."""
    order_no = ids.order_no_of_trade(number)
    outcome = paid(number, amount_fen)
    return world.money.post_payment(PostPayment(order_no=order_no, outcome=outcome, cancelled=cancelled))


def accepted(world: World) -> tuple[str, int]:
    """A payment that pays its sale."""
    return ask(world, world.open_sale(1), PayMethod.WECHAT_NATIVE), _SALE_FEN


def second(world: World) -> tuple[str, int]:
    """A payment that comes second."""
    order_no = world.open_sale(1)
    first, number = (ask(world, order_no, method) for method in (PayMethod.WECHAT_NATIVE, PayMethod.CASH))
    post(world, first, _SALE_FEN)
    return number, _SALE_FEN


def wrong(world: World) -> tuple[str, int]:
    """A payment of another amount than was asked for."""
    return ask(world, world.open_sale(1), PayMethod.WECHAT_NATIVE), 1


@pytest.mark.parametrize(
    ("arrange", "verdict"),
    [
        (accepted, PostVerdict.ACCEPTED),
        (second, PostVerdict.SURPLUS),
        (wrong, PostVerdict.QUARANTINED),
    ],
)
def test_a_repeated_post_says_what_the_first_one_meant(
    world: World, arrange: Callable[[World], tuple[str, int]], verdict: PostVerdict
) -> None:
    number, amount_fen = arrange(world)
    found = [post(world, number, amount_fen) for _ in range(3)]
    assert [one.verdict for one in found] == [verdict] * 3
    assert found[0].refund == found[1].refund == found[2].refund
    assert world.count("ledger_journal", f"key = 'pay:{number}'") == 1


@pytest.mark.parametrize(
    ("cancelled", "verdict"), [(False, PostVerdict.ACCEPTED), (True, PostVerdict.NOZZLE_LOST)]
)
def test_a_repeated_post_of_a_prepayment_says_whether_it_goes_back(
    world: World, cancelled: bool, verdict: PostVerdict
) -> None:
    start = world.start("k")
    world.opening.open_order(OpenOrder(start=start))
    number = ids.out_trade_no(start.order_no, 1)
    found = [post(world, number, _PRESET_FEN, cancelled=cancelled) for _ in range(2)]
    assert [one.verdict for one in found] == [verdict] * 2
    assert found[0].refund == found[1].refund
    assert (found[0].refund is not None) is cancelled


def test_a_repeated_owe_meets_the_whole_refund_and_not_an_open_surplus(world: World) -> None:
    start = world.start("k")
    world.opening.open_order(OpenOrder(start=start))
    other = ask(world, start.order_no, PayMethod.WECHAT_NATIVE)
    post(world, ids.out_trade_no(start.order_no, 1), _PRESET_FEN)
    assert post(world, other, _PRESET_FEN).verdict is PostVerdict.SURPLUS
    owe = OweRefund(order_no=start.order_no, reason="r")
    found = [world.money.owe_refund(owe).refund for _ in range(2)]
    assert found[0] is not None
    assert found[0] == found[1]


def test_the_payer_becomes_the_driver_of_the_sale(world: World) -> None:
    order_no, winner = world.open_sale(1), world.add_driver("o_winner")
    first = ask(world, order_no, PayMethod.WECHAT_JSAPI, world.driver_id)
    won = ask(world, order_no, PayMethod.WECHAT_JSAPI, winner)
    assert world.count("fuel_order", "driver_id IS NULL") == 1, "only money makes a driver the customer"
    post(world, won, _SALE_FEN)
    assert world.count("fuel_order", f"driver_id = {winner}") == 1
    assert world.count("outbox", f"kind = 'receipt' AND driver_id = {winner}") == 1
    assert post(world, first, _SALE_FEN).verdict is PostVerdict.SURPLUS
    with world.engine.connect() as db:
        mine, theirs = OrderScope(driver_id=world.driver_id), OrderScope(driver_id=winner)
        assert views.order_by_no(db, order_no, mine) is not None
        assert [row.order_no for row in views.orders(db, theirs, limit=9)] == [order_no]
        assert views.orders(db, mine, limit=9) == []
        assert views.receipt_of(db, order_no, theirs) is not None
        assert views.receipt_of(db, order_no, mine) is None


def test_an_attempt_from_before_attempts_kept_their_driver_keeps_the_orders(world: World) -> None:
    order_no = world.open_sale(1)
    number = ask(world, order_no, PayMethod.WECHAT_JSAPI, world.driver_id)
    with world.engine.begin() as db:
        db.execute(text("UPDATE fuel_order SET driver_id = :id"), {"id": world.driver_id})
        db.execute(text("UPDATE payment_attempt SET driver_id = NULL"))
    post(world, number, _SALE_FEN)
    assert world.count("fuel_order", f"driver_id = {world.driver_id} AND status = 'completed'") == 1
    assert world.count("outbox", f"kind = 'receipt' AND driver_id = {world.driver_id}") == 1


def test_a_sale_paid_at_the_counter_belongs_to_no_driver_who_only_asked(world: World) -> None:
    order_no = world.open_sale(1)
    ask(world, order_no, PayMethod.WECHAT_JSAPI, world.driver_id)
    post(world, ask(world, order_no, PayMethod.CASH), _SALE_FEN)
    assert world.count("fuel_order", "driver_id IS NULL AND status = 'completed'") == 1
    assert world.count("outbox") == 0
