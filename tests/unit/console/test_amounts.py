"""What waits for a person shows the amount that it is about, or none: never a zero that somebody could believe."""

from typing import Any

import pytest
from sqlalchemy import Engine
from sqlmodel import Session

from db.tables.order import FuelOrder
from db.tables.payment import PaymentAttempt, Refund
from tests.unit.console.till import Till
from tests.unit.console.world import NOW


def _needs(engine: Engine, till: Till, need: str, *, refunds: dict[str, int], **changes: int) -> None:
    """Let the flagged order wait for something else, with refunds by status."""
    number = till.world.orders["flagged"]
    with Session(engine) as db:
        order = db.get_one(FuelOrder, number)
        order.needs_person = need
        for name, value in changes.items():
            setattr(order, name, value)
        trade = f"{number}A001"
        facts: dict[str, Any] = {"order_no": number, "created_at": NOW}
        db.add(
            PaymentAttempt(
                out_trade_no=trade,
                number=1,
                command_id="c1",
                method="wechat_jsapi",
                amount_fen=10_000,
                status="succeeded",
                request_body="{}",
                **facts,
            )
        )
        db.flush()
        for status, fen in refunds.items():
            db.add(
                Refund(
                    out_refund_no=f"{trade}R{status}",
                    out_trade_no=trade,
                    amount_fen=fen,
                    status=status,
                    reason="余款",
                    **facts,
                )
            )
        db.commit()


def _row(till: Till) -> str:
    page = till.page("/attention/list").text
    body = page.partition("<tbody")[2].partition("</tbody>")[0]
    return body.partition(f'data-sa-pk="{till.world.orders["flagged"]}"')[2].partition("</tr>")[0]


@pytest.mark.parametrize(
    ("need", "refunds", "changes", "shown"),
    [
        ("shortfall", {}, {"shortfall_fen": 1_234}, "¥12.34"),
        ("return_cash", {"processing": 2_950, "succeeded": 77}, {}, "¥29.50"),
        ("refund_closed", {"closed": 4_321}, {}, "¥43.21"),
        ("payment_amount_mismatch", {"held": 199}, {}, "¥1.99"),
        ("unpaid_too_long", {}, {"charge_fen": 6_500}, "¥65.00"),
    ],
)
def test_the_amount_in_question_stands_in_the_list_the_form_and_on_the_first_page(
    till: Till, engine: Engine, need: str, refunds: dict[str, int], changes: dict[str, int], shown: str
) -> None:
    _needs(engine, till, need, refunds=refunds, **changes)
    till.login("manager1")
    row = _row(till)
    assert f'jz-number">{shown}<' in row
    assert f"：{shown}" in row, "the form of the decision"
    assert shown in till.page("/").text


def test_what_waits_for_no_amount_shows_none(till: Till, engine: Engine) -> None:
    till.login("manager1")
    row = _row(till)
    assert 'jz-number">—<' in row
    assert "差额" not in till.page("/attention/list").text
    first_page = till.page("/").text
    before_link = first_page.partition("open-attention")[0].rpartition("<tr>")[2]
    assert "¥" not in before_link
