"""Money that came in another currency: recorded and shown to a person, never booked as fen."""

from dataclasses import replace

from contracts.fill import PayCommand
from contracts.orders import BeginAttempt, PostPayment, PostVerdict
from domain.payment import PayMethod
from tests.integration.activity_world import open_world, paid


def test_money_in_another_currency_waits_for_a_person(fresh_database_url: str) -> None:
    """The channel adapter reports it as SUCCEEDED with 0 fen and the code CURRENCY."""
    with open_world(fresh_database_url) as world:
        order_no = world.open_sale(1)
        pay = PayCommand(method=PayMethod.WECHAT_NATIVE, screen="phone")
        begun = world.opening.begin_attempt(BeginAttempt(order_no=order_no, command_id="c", pay=pay))
        assert begun.attempt is not None
        number = begun.attempt.out_trade_no
        outcome = replace(paid(number, 0), code="CURRENCY", message="300 USD", payer_amount_fen=0)
        posted = [world.money.post_payment(PostPayment(order_no=order_no, outcome=outcome)) for _ in range(2)]
        assert [one.verdict for one in posted] == [PostVerdict.QUARANTINED] * 2
        asked = posted[0].refund
        assert asked is not None
        assert asked.held, "the run stays open until a manager has seen it"
        assert asked.refund_fen == 0, "nothing of ours says how much of what to give back"
        mine = f"order_no = '{order_no}'"
        assert world.count("fuel_order", f"{mine} AND needs_person = 'payment_amount_mismatch'") == 1
        assert world.count("fuel_order", f"{mine} AND paid_fen = 0 AND status = 'unpaid'") == 1
        proof = f"out_trade_no = '{number}' AND status = 'succeeded' AND code = 'CURRENCY'"
        assert world.count("payment_attempt", f"{proof} AND transaction_id <> ''") == 1
        assert world.count("order_event", f"{mine} AND kind = 'quarantined'") == 1
        assert world.count("order_event", f"{mine} AND detail LIKE '%外币到账 300 USD%'") == 1
        assert world.count("refund", mine) == 0
        assert world.count("ledger_journal", f"key = 'pay:{number}'") == 0
