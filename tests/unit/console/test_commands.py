"""Row actions are commands: by role, with checked forms, answered in Chinese, and the pages write no row."""

import pytest
from sqlalchemy import Engine
from sqlmodel import Session

from contracts.fill import ResolveAction
from db.tables.order import FuelOrder
from tests.unit.console.commands import FakeCommands
from tests.unit.console.till import Till

FORMS = {
    "take_cash": {"received_fen": "20489"},
    "cancel": {"reason": "重复下单"},
    "resolve": {"action": "retry_refund", "note": "已核对油机", "need": "amount_mismatch"},
}
_NEED = {"need": "amount_mismatch"}
MAY = {
    "take_cash": {"cashier1", "manager1"},
    "cancel": {"cashier1", "manager1", "operator1", "admin"},
    "resolve": {"cashier1", "manager1", "operator1", "admin"},
}


def hidden_need(need: str) -> str:
    """Return what a form, itself kept in an attribute of the page, says about what the person was shown."""
    return f"name=&#34;need&#34; value=&#34;{need}&#34;"


@pytest.mark.parametrize("person", ["cashier1", "manager1", "operator1", "auditor1", "admin"])
def test_each_role_gives_its_own_commands_only(till: Till, commands: FakeCommands, person: str) -> None:
    till.login(person)
    orders = {"take_cash": "unpaid1", "cancel": "unpaid1b", "resolve": "flagged"}
    for deed, order in orders.items():
        page = till.page("/order/detail", pk=till.world.orders[order]).text
        assert (f'data-sa-name="{deed}"' in page) == (person in MAY[deed])
        answer = till.act("order", deed, order, **FORMS[deed])
        if person not in MAY[deed]:
            assert answer.status_code == 400, deed
    told = {words[0] for words in commands.told}
    assert told == {deed for deed, people in MAY.items() if person in people}


@pytest.mark.feature("002-5")
def test_cash_is_recorded_for_the_person_at_the_till(till: Till, commands: FakeCommands) -> None:
    till.login("cashier1")
    answer = till.act("unpaid", "take_cash", "unpaid1", received_fen="20489")
    assert answer.status_code == 200, answer.text
    staff = str(till.world.staff["cashier1"])
    assert commands.told == [("take_cash", till.world.orders["unpaid1"], staff, "20489")]
    assert "操作成功，订单状态：已完成" in till.page("/unpaid/list").text


def test_a_refusal_is_shown_with_its_reason(till: Till, commands: FakeCommands) -> None:
    till.login("cashier1")
    till.act("unpaid", "take_cash", "unpaid1", received_fen="20489")
    again = till.act("unpaid", "take_cash", "unpaid1", received_fen="20489")
    assert again.status_code == 400
    assert again.json()["msg"] == "订单已由其他终端支付"
    other = till.act("unpaid", "take_cash", "unpaid1b", received_fen="1")
    assert other.json()["msg"] == "应收金额已变化，请刷新页面后重试。"
    assert len(commands.told) == 3


def test_no_answer_says_that_the_outcome_is_open(till: Till, commands: FakeCommands) -> None:
    commands.away = True
    till.login("cashier1")
    answer = till.act("unpaid", "take_cash", "unpaid1", received_fen="20489")
    assert answer.status_code == 400
    assert "是否完成尚不确定" in answer.json()["msg"]


@pytest.mark.parametrize(
    ("deed", "order", "form"),
    [
        ("take_cash", "unpaid1", {}),
        ("take_cash", "unpaid1", {"received_fen": "-20489"}),
        ("take_cash", "unpaid1", {"received_fen": "204.89"}),
        ("take_cash", "unpaid1", {"received_fen": "٢٠٤٨٩"}),
        ("take_cash", "unpaid1", {"received_fen": "9" * 400}),
        ("cancel", "unpaid1", {}),
        ("cancel", "unpaid1", {"reason": "  "}),
        ("cancel", "unpaid1", {"reason": "试\x00机"}),
        ("cancel", "unpaid1", {"reason": "长" * 201}),
        ("resolve", "flagged", {"note": "已核对", **_NEED}),
        ("resolve", "flagged", {"action": "drop_table", "note": "已核对", **_NEED}),
        ("resolve", "flagged", {"action": "write_off", **_NEED}),
        ("resolve", "flagged", {"action": "write_off", "note": "已核对"}),
        ("resolve", "flagged", {"action": "write_off", "note": "已核对", "need": "a b"}),
        ("resolve", "flagged", {"action": "charge_amount", "note": "已核对", **_NEED}),
        ("resolve", "flagged", {"action": "cash_returned", "note": "已核对", **_NEED}),
        ("resolve", "flagged", {"action": "charge_amount", "note": "已核对", "amount": "1.234", **_NEED}),
        ("resolve", "flagged", {"action": "charge_amount", "note": "已核对", "amount": "-1", **_NEED}),
        ("resolve", "flagged", {"action": "charge_amount", "note": "已核对", "amount": "1e3", **_NEED}),
    ],
)
def test_bad_forms_reach_no_workflow(
    till: Till, commands: FakeCommands, deed: str, order: str, form: dict[str, str]
) -> None:
    till.login("manager1")
    answer = till.act("order", deed, order, **form)
    assert answer.status_code == 400
    assert answer.json()["msg"]
    assert commands.told == []


def test_a_decision_carries_amount_and_note(till: Till, commands: FakeCommands) -> None:
    till.login("manager1")
    form = {"action": "charge_amount", "amount": "65.5", "note": "现场核对", **_NEED}
    assert hidden_need("amount_mismatch") in till.page("/attention/list").text
    assert till.act("attention", "resolve", "flagged", **form).status_code == 200
    actor = f"staff:{till.world.staff['manager1']}"
    assert commands.told == [
        (
            "resolve",
            till.world.orders["flagged"],
            actor,
            "charge_amount",
            "现场核对",
            "6550",
            "amount_mismatch",
        )
    ]


def test_a_cashier_decides_nothing_that_costs_the_station(till: Till, commands: FakeCommands) -> None:
    till.login("cashier1")
    page = till.page("/attention/list").text
    for action in (ResolveAction.WRITE_OFF, ResolveAction.CHARGE_AMOUNT, ResolveAction.NOTHING_DISPENSED):
        assert f"&#34;{action.value}&#34;" not in page
        form = {"action": action.value, "amount": "1", "note": "已核对", **_NEED}
        assert "无权" in till.act("attention", "resolve", "flagged", **form).json()["msg"]
    assert commands.told == []
    assert "须由站长处理" in page


@pytest.mark.parametrize("view", ["order", "payment", "refund", "journal", "station", "nozzle", "point"])
def test_no_page_creates_edits_deletes_or_imports(till: Till, view: str) -> None:
    till.login("admin")
    token = {"csrftoken": till.token}
    for path in ("create", "edit"):
        assert till.page(f"/{view}/{path}", pk="1").status_code == 403
        assert till.client.post(f"/console/{view}/{path}?pk=1", data=token).status_code == 403
    assert till.client.post(f"/console/_api/{view}/import", data=token).status_code == 403
    assert (
        till.client.post(f"/console/_api/{view}/inline-edit?pk=1&field=code", data=token).status_code == 403
    )
    key = till.world.orders["unpaid1"] if view == "order" else "1"
    for address in ("action", "row-action"):
        query = {"name": "delete", "pk": key, "pks": key}
        assert till.client.post(f"/console/_api/{view}/{address}", params=query, data=token).status_code in (
            400,
            404,
        )


def test_pages_read_in_read_only_transactions(till: Till, engine: Engine) -> None:
    from starlette.requests import Request

    from api.console.views.orders import AllOrders

    seen: list[str] = []
    original = AllOrders.prepare

    async def watching(self: AllOrders, request: Request, rows: list[FuelOrder]) -> None:
        setting = request.state.session.connection().exec_driver_sql("SHOW transaction_read_only")
        seen.append(setting.scalar_one())
        await original(self, request, rows)

    till.login("manager1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AllOrders, "prepare", watching)
        assert till.page("/order/list").status_code == 200
    assert seen == ["on"]
    with Session(engine) as db:
        assert db.get(FuelOrder, till.world.orders["unpaid1"]) is not None
