"""What waits for a person shows the amount that it is about, or none: never a zero that somebody could believe."""

from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlmodel import Session

from db.repositories.asked import asked_of
from db.tables.order import FuelOrder
from db.tables.payment import PaymentAttempt, Refund
from domain import ids
from domain.payment import PayMethod, RefundKind
from tests.unit.console.commands import FakeCommands
from tests.unit.console.till import Till
from tests.unit.console.world import NOW

K = RefundKind
Owed = tuple[PayMethod, str, RefundKind, int]
"""A refund: how its money came, its purpose and turn, how it stands, and its amount in fen."""
CASH, QR = PayMethod.CASH, PayMethod.WECHAT_NATIVE


def _needs(engine: Engine, till: Till, need: str, refunds: Sequence[Owed] = (), **changes: int) -> None:
    """Let the flagged order wait for something else, with these refunds of a payment in cash and one by QR code."""
    number = till.world.orders["flagged"]
    trades = {method: f"{number}A{n:03d}" for n, method in enumerate((CASH, QR), 1)}
    facts: dict[str, Any] = {"order_no": number, "created_at": NOW}
    with Session(engine) as db:
        order = db.get_one(FuelOrder, number)
        order.needs_person = need
        for name, value in changes.items():
            setattr(order, name, value)
        for method, trade in trades.items():
            attempt: dict[str, Any] = {"number": int(trade[-3:]), "command_id": trade, "method": method.value}
            paid: dict[str, Any] = {"amount_fen": 20_000, "status": "succeeded", "request_body": "{}"}
            db.add(PaymentAttempt(out_trade_no=trade, **attempt, **paid, **facts))
        db.flush()
        for method, purpose, kind, fen in refunds:
            trade = trades[method]
            owed: dict[str, Any] = {
                "out_refund_no": ids.out_refund_no(trade, purpose),
                "amount_fen": fen,
                "status": kind.value,
            }
            db.add(Refund(out_trade_no=trade, reason="余款", **owed, **facts))
        db.commit()


def _row(till: Till) -> str:
    page = till.page("/attention/list").text
    body = page.partition("<tbody")[2].partition("</tbody>")[0]
    return body.partition(f'data-sa-pk="{till.world.orders["flagged"]}"')[2].partition("</tr>")[0]


@pytest.mark.parametrize(
    ("need", "refunds", "changes", "shown"),
    [
        ("shortfall", [], {"shortfall_fen": 1_234}, "¥12.34"),
        ("return_cash", [(CASH, "rest", K.REJECTED, 2_950), (CASH, "all", K.SUCCEEDED, 77)], {}, "¥29.50"),
        ("refund_closed", [(QR, "rest", K.CLOSED, 4_321)], {}, "¥43.21"),
        ("payment_amount_mismatch", [(QR, "mismatch", K.HELD, 199)], {}, "¥1.99"),
        ("unpaid_too_long", [], {"charge_fen": 6_500}, "¥65.00"),
    ],
)
def test_the_amount_in_question_stands_in_the_list_the_form_and_on_the_first_page(
    till: Till, engine: Engine, need: str, refunds: list[Owed], changes: dict[str, int], shown: str
) -> None:
    _needs(engine, till, need, refunds, **changes)
    till.login("manager1")
    row = _row(till)
    assert f'jz-number">{shown}<' in row
    assert f"：{shown}" in row, "the form of the decision"
    assert shown in till.page("/").text


_REST = 5_300
_REFUSED_CASH = (CASH, "rest", K.REJECTED, _REST)
_REFUSED = (QR, "rest", K.REJECTED, _REST)


@pytest.mark.parametrize(
    ("need", "refunds"),
    [
        ("refund_closed", [(QR, "rest", K.CLOSED, _REST), (QR, "rest-2", K.CLOSED, _REST)]),
        (
            "refund_closed",
            [(QR, "surplus", K.CLOSED, _REST), (QR, "rest", K.CLOSED, 1), (QR, "rest-2", K.SUCCEEDED, 1)],
        ),
        ("return_cash", [_REFUSED_CASH, (QR, "surplus", K.PROCESSING, 20_000)]),
        ("return_cash", [_REFUSED_CASH, (QR, "mismatch", K.HELD, 20_000)]),
        ("return_cash", [_REFUSED_CASH, (QR, "surplus", K.REJECTED, 20_000)]),
        ("refund_rejected", [_REFUSED, (CASH, "surplus", K.REJECTED, 20_000)]),
        ("payment_amount_mismatch", [(QR, "mismatch", K.HELD, _REST), (QR, "surplus", K.CLOSED, 20_000)]),
        ("refund_slow", [(QR, "rest", K.PROCESSING, _REST), _REFUSED_CASH]),
        ("refund_closed", [(QR, f"rest-{n}" if n > 1 else "rest", K.CLOSED, _REST) for n in range(1, 11)]),
    ],
)
def test_only_the_refunds_that_the_need_is_about_are_summed_each_once(
    till: Till, engine: Engine, need: str, refunds: list[Owed]
) -> None:
    _needs(engine, till, need, refunds)
    with Session(engine) as db:
        number = till.world.orders["flagged"]
        assert asked_of(db, [db.get_one(FuelOrder, number)])[number].fen == _REST


def test_what_waits_for_no_amount_shows_none(till: Till, engine: Engine) -> None:
    till.login("manager1")
    row = _row(till)
    assert 'jz-number">—<' in row
    assert "差额" not in till.page("/attention/list").text
    first_page = till.page("/").text
    before_link = first_page.partition("open-attention")[0].rpartition("<tr>")[2]
    assert "¥" not in before_link


def test_cash_handed_back_names_the_refunds_whose_sum_the_form_showed(
    till: Till, engine: Engine, commands: FakeCommands
) -> None:
    _needs(engine, till, "return_cash", [_REFUSED_CASH, (QR, "surplus", K.CLOSED, 20_000)])
    till.login("cashier1")
    number = till.world.orders["flagged"]
    seen = ids.out_refund_no(f"{number}A001", "rest")
    assert f"refunds&#34; value=&#34;{seen}&#34;" in till.page("/attention/list").text
    form = {"action": "cash_returned", "need": "return_cash", "note": "已退现金"}
    for refunds in ("", "a,,b", "no such", f"{seen},X1", "X1"):
        refused = till.act("attention", "resolve", "flagged", refunds=refunds, **form)
        assert "刷新" in refused.json()["msg"], refunds
    assert commands.told == []
    assert till.act("attention", "resolve", "flagged", refunds=f"{seen},{seen}", **form).status_code == 200
    actor = f"staff:{till.world.staff['cashier1']}"
    told = ("resolve", number, actor, "cash_returned", "已退现金", "None", "return_cash")
    assert commands.told == [(*told, seen)]


@pytest.mark.parametrize(("need", "warned"), [("refund_rejected", True), ("return_cash", False)])
def test_who_turns_a_channel_s_refund_into_cash_is_told_to_look_there_first(
    till: Till, engine: Engine, need: str, warned: bool
) -> None:
    _needs(engine, till, need, [_REFUSED, _REFUSED_CASH])
    till.login("manager1")
    assert ("微信支付商户平台" in _row(till)) is warned
