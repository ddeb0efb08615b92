"""The pages show the right facts in Chinese, in China's time, and stand whatever is sent."""

import re
from datetime import timedelta
from html import unescape

import pytest
from markupsafe import escape

from api.console.labels import ATTENTION, RESOLVE, amount_with_unit, time_text
from contracts.fill import ResolveAction
from domain.settlement import SaleFlag
from tests.unit.console.till import Till
from tests.unit.console.world import NOW, PASSWORD
from workflows.wording import PERSON_ZH

VIEWS = ("unpaid", "attention", "order", "payment", "refund", "journal", "station", "point", "nozzle")


@pytest.mark.parametrize("view", VIEWS)
def test_every_list_opens_and_has_chinese_headings(till: Till, view: str) -> None:
    till.login("operator1")
    answer = till.page(f"/{view}/list")
    assert answer.status_code == 200, answer.text[:500]
    heads = answer.text.partition("<thead>")[2].partition("</thead>")[0]
    assert heads.count("<th scope") >= 5
    labels = [part.partition("<")[0].strip() for part in heads.split(">")]
    for link in re.findall(r'href="([^"]*[?&;]sort=[^"]*)"', heads):
        assert till.client.get(unescape(link)).status_code == 200, link
    assert not [word for word in labels if word.isascii() and word.isalpha()]
    assert "null" not in answer.text.partition("<tbody")[2].partition("</tbody>")[0]


def test_home_shows_who_waits(till: Till) -> None:
    till.login("cashier1")
    text = till.page("/").text
    for words in (
        "沙盒 sandbox",
        "¥204.89",
        ATTENTION["amount_mismatch"],
        "合计 ¥269.89",
        "1 / 1",
        "14:30:00",
    ):
        assert words in text, words
    assert "rsms.me" not in text, "nothing is fetched from the Internet"
    till.login("operator1")
    assert "1 / 2" in till.page("/").text


def test_the_page_of_an_order(till: Till) -> None:
    till.login("manager1")
    order = till.world.orders["prepaid"]
    text = till.page("/order/detail", pk=order).text
    for words in (
        "预付金额",
        "¥200.00",
        "20.00 升",
        "¥7.58/升",
        "2026-03-02 13:48:00",
        "收到付款",
        "138****5678",
    ):
        assert words in text, words
    assert f"http://temporal.example:8233/namespaces/default/workflows/fill-{order}" in text
    assert "13812345678" not in text
    assert text.index("发起第 1 次支付") < text.index("收到付款 · 已支付") < text.index("结算 · 已加注")


def test_staff_are_named_in_the_story(till: Till) -> None:
    till.login("cashier1")
    form = {"approver_login": "manager1", "approver_password": PASSWORD}
    till.act("order", "cancel", "unpaid1", reason="<b>试机</b>", **form)
    text = till.page("/order/detail", pk=till.world.orders["unpaid1"]).text
    assert "员工 王丽（员工 陈站长 批准）" in text
    assert str(escape("<b>试机</b>")) in text
    assert "<b>试机</b>" not in text


def test_search_by_nozzle_number_and_filter_by_state(till: Till) -> None:
    till.login("cashier1")
    numbers = till.world.orders
    rows = till.page("/unpaid/list", q="2号枪").text
    assert numbers["unpaid1b"] in rows
    assert numbers["unpaid1"] not in rows
    found = till.page("/order/list", filter="status__eq=completed").text.partition("<tbody>")[2]
    assert numbers["prepaid"] in found
    assert numbers["unpaid1"] not in found


def test_a_percent_sign_is_searched_for_literally(till: Till) -> None:
    till.login("cashier1")
    assert "共 0 条" in till.page("/order/list", q="%").text


NASTY = ("\x00", "%00", "'", "9" * 30, "-1", "0x1", "١", "a,b", "\ud7ff", "; drop table", "\n", "")


@pytest.mark.parametrize("view", VIEWS)
def test_nothing_that_is_sent_breaks_a_page(till: Till, view: str) -> None:
    till.login("admin")
    for word in NASTY:
        for path, query in (
            (f"/{view}/detail", {"pk": word}),
            (f"/{view}/list", {"q": word}),
            (f"/{view}/list", {"page": word, "page_size": "25"}),
            (f"/{view}/list", {"sort": f"{word}__asc", "cols": word}),
            (f"/{view}/list", {"filter": f"status__eq={word}"}),
            (f"/_api/{view}/relation-lookup", {"pks": word}),
            (f"/_api/{view}/relation-lookup", {"skip": word, "q": word}),
        ):
            answer = till.page(path, **query)
            assert answer.status_code < 500, (path, query, answer.status_code)
        form = {"scope": "selected", "format": "csv", "filename": f"表{word}", "csrftoken": till.token}
        query = {"name": "export", "pks": word}
        answer = till.client.post(
            f"/console/_api/{view}/action", params=query, data=form, follow_redirects=False
        )
        assert answer.status_code < 500, (view, word, answer.status_code)
        assert till.act(view, "take_cash", word).status_code < 500


def test_addresses_that_are_no_text_are_refused(till: Till) -> None:
    till.login("admin")
    for path in (
        "/order/list?q=%ff",
        "/order/detail?pk=%00",
        "/order/%00/list",
        "/order/list?page=99999999999999999999",
    ):
        assert till.client.get(f"/console{path}").status_code in (400, 404), path


def test_words_for_every_decision_and_flag() -> None:
    assert set(RESOLVE) == set(ResolveAction)
    assert {flag.value for flag in SaleFlag if flag.value} <= set(ATTENTION)
    assert set(PERSON_ZH) <= set(ATTENTION), "a reason of the workflow without words at the till"


def test_units_and_times() -> None:
    assert amount_with_unit(12_345, "kg") == "12.345 公斤"
    assert time_text(NOW + timedelta(hours=10)) == "2026-03-03 00:30:00"


@pytest.mark.parametrize(
    ("view", "deed", "orders"),
    [
        ("unpaid", "take_cash", {"unpaid1": "1 号枪", "unpaid1b": "2 号枪"}),
        ("unpaid", "cancel", {"unpaid1": "1 号枪", "unpaid1b": "2 号枪"}),
        ("attention", "resolve", {"flagged": "2 号枪"}),
    ],
)
def test_a_form_names_the_nozzle_and_the_order(
    till: Till, view: str, deed: str, orders: dict[str, str]
) -> None:
    till.login("cashier1")
    page = till.page(f"/{view}/list").text
    for order, nozzle in orders.items():
        row = page.partition(f'data-sa-pk="{till.world.orders[order]}"')[2].partition("</tr>")[0]
        form = unescape(row.partition(f'data-sa-name="{deed}"')[0].rpartition("data-sa-form=")[2])
        which = form.partition('data-jz="which"')[2].partition("<label")[0]
        assert f">{nozzle}<" in which
        assert f">{till.world.orders[order]}<" in which
    detail = till.page("/order/detail", pk=till.world.orders[next(iter(orders))]).text
    assert "&#34;which&#34;" in detail
