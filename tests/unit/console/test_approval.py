"""The cancel form asks for a manager exactly where a cashier may not cancel alone, and shows why an approval failed."""

import pytest
from sqlalchemy import Engine
from sqlmodel import Session

from db.tables.order import FuelOrder
from tests.unit.console.commands import FakeCommands
from tests.unit.console.till import Till
from tests.unit.console.world import PASSWORD

REASON = "顾客驶离未付款"
APPROVED = {"approver_login": "manager1", "approver_password": PASSWORD}


def _form(till: Till, order: str) -> str:
    """Return the cancel form on the order's page."""
    page = till.page("/order/detail", pk=till.world.orders[order]).text
    before, found, after = page.partition("取消原因（必填）")
    assert found, before[-500:]
    return after.partition("</form>")[0].partition("&lt;/form&gt;")[0]


def _status(engine: Engine, till: Till, order: str) -> str:
    with Session(engine) as db:
        return db.get_one(FuelOrder, till.world.orders[order]).status


def _make_prepaid(engine: Engine, till: Till, order: str) -> None:
    with Session(engine) as db:
        row = db.get_one(FuelOrder, till.world.orders[order])
        row.mode, row.status, row.charge_fen, row.preset_fen = "prepaid", "awaiting_payment", 0, 20_000
        db.commit()


@pytest.mark.feature("002-5")
def test_the_form_asks_a_cashier_for_the_manager_of_delivered_fuel(till: Till) -> None:
    till.login("cashier1")
    form = _form(till, "unpaid1")
    for words in ("站长账号", "站长密码", "approver_login", "approver_password", "new-password"):
        assert words in form, words
    password = form[form.index("站长密码") :]
    assert password.index("password") < password.index("approver_password")
    assert PASSWORD not in form


@pytest.mark.parametrize("person", ["manager1", "operator1", "admin"])
def test_the_form_asks_nobody_else_for_a_second_person(till: Till, person: str) -> None:
    till.login(person)
    assert "站长密码" not in _form(till, "unpaid1")


def test_the_form_of_an_order_without_fuel_asks_for_the_reason_only(till: Till, engine: Engine) -> None:
    _make_prepaid(engine, till, "unpaid1")
    till.login("cashier1")
    assert "站长密码" not in _form(till, "unpaid1")


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({}, "站长"),
        ({"approver_login": "manager1"}, "请填写站长账号和站长密码"),
        ({"approver_password": PASSWORD}, "请填写站长账号和站长密码"),
        ({"approver_login": "manager1", "approver_password": "wrong"}, "站长账号或密码不正确"),
        ({"approver_login": "cashier1", "approver_password": PASSWORD}, "站长账号或密码不正确"),
        ({"approver_login": "manager1", "approver_password": "长" * 129}, "站长账号或密码不正确"),
        ({"approver_login": "m\x00", "approver_password": PASSWORD}, "站长账号或密码不正确"),
    ],
)
def test_a_missing_or_wrong_approval_is_said_in_chinese_and_changes_nothing(
    till: Till, engine: Engine, form: dict[str, str], words: str
) -> None:
    till.login("cashier1")
    answer = till.act("unpaid", "cancel", "unpaid1", reason=REASON, **form)
    assert answer.status_code == 400
    assert words in answer.json()["msg"]
    assert _status(engine, till, "unpaid1") == "unpaid"


@pytest.mark.feature("002-5")
def test_the_story_names_both_people(
    till: Till, engine: Engine, commands: FakeCommands, capsys: pytest.CaptureFixture[str]
) -> None:
    till.login("cashier1")
    answer = till.act("unpaid", "cancel", "unpaid1", reason=REASON, **APPROVED)
    assert answer.status_code == 200, answer.text
    assert _status(engine, till, "unpaid1") == "cancelled"
    order_no, staff = till.world.orders["unpaid1"], till.world.staff["cashier1"]
    assert commands.told == [("cancel", order_no, f"staff:{staff}", REASON, "manager1")]
    page = till.page("/order/detail", pk=order_no).text
    assert "员工 王丽（员工 陈站长 批准）" in page
    assert PASSWORD not in page + answer.text + "".join(capsys.readouterr())
