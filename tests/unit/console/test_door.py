"""Who gets in, who is locked out, and what the cookies are like."""

from datetime import timedelta

import pytest
from sqlalchemy import Engine, update
from sqlmodel import Session, col, select

from api.console.auth import ENDED_ZH, REFUSED_ZH
from api.console.door import LOCK_FOR, MAX_FAILURES, SESSION_FOR
from db.tables.identity import Session as StoredSession
from db.tables.identity import Staff
from tests.unit.console.commands import FakeCommands
from tests.unit.console.till import Till
from tests.unit.console.world import PASSWORD


def test_nothing_is_shown_without_a_login(till: Till) -> None:
    for path in ("/", "/order/list", "/unpaid/list", "/journal/list"):
        answer = till.page(path)
        assert answer.status_code == 303
        assert "/console/login" in answer.headers["location"]
    token_page = till.client.get("/console/login")
    assert "员工登录" in token_page.text
    form = {"csrftoken": till.token}
    assert (
        till.client.post("/console/_api/order/action", data=form, follow_redirects=False).status_code == 303
    )


def test_the_session_cookie_is_kept_from_scripts_and_other_sites(till: Till, engine: Engine) -> None:
    cookie = next(
        value
        for value in till.login("cashier1").headers.get_list("set-cookie")
        if value.startswith("jiazhu_console")
    )
    for attribute in ("HttpOnly", "SameSite=strict", "Path=/console"):
        assert attribute in cookie
    token = cookie.split(";")[0].split("=")[1]
    with Session(engine) as db:
        stored = db.exec(select(StoredSession)).one()
    assert token not in (stored.id, stored.refresh_hash)


@pytest.mark.parametrize(
    ("name", "password"), [("cashier1", "falsch"), ("nobody", PASSWORD), ("cashier1\x00", "x")]
)
def test_every_refusal_reads_the_same(till: Till, name: str, password: str) -> None:
    answer = till.login(name, password)
    assert answer.status_code == 400
    assert REFUSED_ZH in answer.text
    assert till.page("/").status_code == 303


def test_five_wrong_passwords_lock_the_account_for_a_while(till: Till) -> None:
    for _ in range(MAX_FAILURES):
        assert till.login("cashier1", "wrong").status_code == 400
    assert till.login("cashier1").status_code == 400, "the right password must not open a locked account"
    assert till.login("manager1").status_code == 303, "other accounts are not locked"
    till.now += LOCK_FOR + timedelta(seconds=1)
    assert till.login("cashier1").status_code == 303


def test_a_lock_that_ran_out_starts_the_count_afresh(till: Till) -> None:
    for _ in range(MAX_FAILURES):
        till.login("cashier1", "wrong")
    till.now += LOCK_FOR + timedelta(seconds=1)
    for _ in range(MAX_FAILURES - 1):
        assert till.login("cashier1", "wrong").status_code == 400
    assert till.login("cashier1").status_code == 303


def test_dismissal_and_time_end_a_session(till: Till, engine: Engine) -> None:
    till.login("cashier1")
    assert till.page("/").status_code == 200
    with Session(engine) as db:
        db.execute(update(Staff).where(col(Staff.login) == "cashier1").values(is_active=False))
        db.commit()
    assert till.page("/").status_code == 303
    assert till.login("cashier1").status_code == 400
    till.login("manager1")
    till.now += SESSION_FOR + timedelta(seconds=1)
    assert till.page("/").status_code == 303


@pytest.mark.parametrize("deed", ["take_cash", "cancel", "resolve"])
def test_an_action_after_the_session_ended_says_that_nothing_was_done(
    till: Till, commands: FakeCommands, deed: str
) -> None:
    till.login("cashier1")
    till.now += SESSION_FOR + timedelta(seconds=1)
    answer = till.act("unpaid", deed, "unpaid1", received_fen="20489", reason="重复下单")
    assert answer.status_code == 400, "the page's script shows the words of a 400 only"
    assert answer.json() == {"msg": ENDED_ZH}
    assert commands.told == []


def test_logout_ends_the_session_at_the_server(till: Till) -> None:
    till.login("cashier1")
    kept = till.client.cookies.get("jiazhu_console")
    answer = till.client.post("/console/logout", data={"csrftoken": till.token}, follow_redirects=False)
    assert answer.status_code == 303
    till.client.cookies.set("jiazhu_console", kept or "", path="/console")
    assert till.page("/").status_code == 303


def test_a_command_needs_the_token_of_the_page(till: Till) -> None:
    till.login("cashier1")
    address = "/console/_api/unpaid/row-action"
    query = {"name": "take_cash", "pk": till.world.orders["unpaid1"]}
    answer = till.client.post(address, params=query, data={"received_fen": "20489"})
    assert answer.status_code == 403
    assert answer.text == "页面已过期，请返回上一页，刷新后再提交"


def test_a_login_from_a_page_that_is_too_old_says_what_to_do(till: Till) -> None:
    form = {"username": "cashier1", "password": "x", "csrftoken": "of another day"}
    answer = till.client.post("/console/login", data=form)
    assert answer.status_code == 403
    assert "刷新" in answer.text
    assert answer.headers["content-type"].startswith("text/plain; charset=utf-8")
