"""Nobody sees or moves another station's rows: in lists, counts, searches, exports, look-ups or by address."""

import pytest
from sqlalchemy import Engine
from sqlmodel import Session, select

from db.tables.payment import PaymentAttempt, Refund
from tests.unit.console.commands import FakeCommands
from tests.unit.console.till import Till

ALL = {"unpaid1", "unpaid1b", "unpaid2", "unpaid3"}
SEEN = {
    "cashier1": {"unpaid1", "unpaid1b"},
    "manager1": {"unpaid1", "unpaid1b"},
    "cashier2": {"unpaid2"},
    "operator1": {"unpaid1", "unpaid1b", "unpaid2"},
    "auditor1": {"unpaid1", "unpaid1b", "unpaid2"},
    "operator2": {"unpaid3"},
    "admin": ALL,
    "homeless": set(),
}


@pytest.mark.feature("002-5")
@pytest.mark.parametrize("person", SEEN)
def test_lists_pages_searches_and_exports_show_own_rows_only(till: Till, person: str) -> None:
    till.login(person)
    shown = till.page("/unpaid/list").text
    exported = _export(till, "unpaid")
    numbers = till.world.orders
    for name in ALL:
        visible = name in SEEN[person]
        assert (numbers[name] in shown) == visible, name
        assert (numbers[name] in exported) == visible, name
        assert (
            numbers[name] in till.page("/order/list", q=numbers[name][:12]).text.partition("<tbody>")[2]
        ) == visible
        for view in ("order", "unpaid", "attention"):
            assert till.page(f"/{view}/detail", pk=numbers[name]).status_code == (200 if visible else 404)
    assert f"共 {len(SEEN[person])} 条" in shown


def _export(till: Till, view: str, **query: str) -> str:
    form = {"scope": "page", "format": "csv", "csrftoken": till.token}
    address = f"/console/_api/{view}/action"
    answer = till.client.post(address, params={"name": "export", "all": "1", **query}, data=form)
    assert answer.status_code == 200
    assert answer.content.startswith(b"\xef\xbb\xbf"), "Excel needs the byte order mark"
    text: str = answer.content.decode("utf-8-sig")
    return text


def test_an_export_of_foreign_keys_is_empty(till: Till) -> None:
    till.login("cashier1")
    form = {"scope": "selected", "format": "csv", "csrftoken": till.token}
    query = {"name": "export", "pks": [till.world.orders["unpaid3"], till.world.orders["unpaid1"]]}
    text = till.client.post("/console/_api/order/action", params=query, data=form).text
    assert till.world.orders["unpaid1"] in text
    assert till.world.orders["unpaid3"] not in text


@pytest.mark.parametrize("view", ["payment", "refund", "journal"])
def test_money_follows_its_order(till: Till, engine: Engine, view: str) -> None:
    with Session(engine) as db:
        attempt, refund = db.exec(select(PaymentAttempt)).one(), db.exec(select(Refund)).one()
    key = {"payment": attempt.out_trade_no, "refund": refund.out_refund_no, "journal": "1"}[view]
    till.login("manager1")
    order = till.world.orders["unpaid1" if view == "journal" else "prepaid"]
    assert order in till.page(f"/{view}/list").text
    assert till.page(f"/{view}/detail", pk=key).status_code == 200
    till.login("operator2")
    assert order not in till.page(f"/{view}/list").text
    assert till.page(f"/{view}/detail", pk=key).status_code == 404
    found = till.page(f"/_api/{view}/relation-lookup", q="", pks=key).json()
    assert found["items"] == []


def test_stations_and_nozzles_of_others_are_not_there(till: Till) -> None:
    till.login("cashier1")
    assert till.page("/station/detail", pk=1).status_code == 200
    for view, key in (("station", 3), ("point", 31), ("nozzle", 31)):
        assert till.page(f"/{view}/detail", pk=key).status_code == 404
        assert "兰州北站" not in till.page(f"/{view}/list").text


def test_the_ledger_is_not_for_cashiers(till: Till) -> None:
    till.login("cashier1")
    refused = till.page("/journal/list")
    assert refused.status_code == 403
    assert "没有权限" in refused.text
    assert "Forbidden" not in refused.text
    assert "记账凭证" not in till.page("/order/detail", pk=till.world.orders["prepaid"]).text
    till.login("auditor1")
    assert till.page("/journal/list").status_code == 200


@pytest.mark.parametrize("deed", ["take_cash", "cancel", "resolve"])
def test_another_stations_order_cannot_be_moved(till: Till, commands: FakeCommands, deed: str) -> None:
    till.login("manager1")
    form = {"received_fen": "20489", "reason": "重复下单", "action": "write_off", "note": "核对过了"}
    for order in ("unpaid2", "unpaid3", "no-such-order"):
        for view in ("order", "unpaid", "attention"):
            assert till.act(view, deed, order, **form).status_code in (400, 404)
    assert commands.told == []
