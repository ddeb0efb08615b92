"""A cashier's and a manager's day in a real browser against the running stack, down to the order in the Temporal UI.

With JIAZHU_SCREENSHOTS=1 those pictures docs/img/console-running-*.png that are there are taken anew.
"""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from db.seed import STAFF_PASSWORD, STATION
from tests.e2e.running import Running
from tests.unit.console.chrome import BINARY, Chrome
from workers.story.people import Json, new_key

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not Path(BINARY).exists(), reason="needs Debian's Chromium"),
]
PICTURES = Path(__file__).resolve().parents[2] / "docs" / "img"
MAX_PICTURE = 300 * 1024
_SLIDE_S = 0.4
"""A window slides in; a click or a picture half-way is no use."""


_IN_FRAMES = (
    "[...document.querySelectorAll('iframe')].map(f => (f.srcdoc || '') + decodeURIComponent(f.src)"
    " + (f.contentDocument ? f.contentDocument.body.innerText : '')).join()"
)
"""The Temporal UI shows Markdown in frames of their own."""


@pytest.fixture
def chrome(tmp_path: Path) -> Iterator[Chrome]:
    """A fresh browser."""
    with Chrome(tmp_path / "profile") as browser:
        yield browser


def _picture(chrome: Chrome, name: str, *, whole: bool = False) -> None:
    path = PICTURES / f"console-running-{name}.png"
    if os.environ.get("JIAZHU_SCREENSHOTS") and path.exists():
        chrome.picture(path, whole=whole)
        assert path.stat().st_size < MAX_PICTURE, f"{path} is too large"


def _login(chrome: Chrome, running: Running, name: str) -> str:
    console = f"{running.stack.api_url}/console"
    chrome.open(f"{console}/login")
    chrome.type("#username", name)
    chrome.type("#password", STAFF_PASSWORD)
    chrome.click("button[type=submit]")
    chrome.sees("今日概况")
    return console


def _press(chrome: Chrome, order_no: str, action: str) -> None:
    chrome.click(f"tr[data-sa-pk='{order_no}'] a[data-sa-name='{action}']")
    chrome.wait("document.querySelector('.modal.show [data-sa-action=\"action-submit\"]')")
    time.sleep(_SLIDE_S)


def _submit(chrome: Chrome) -> None:
    chrome.click("[data-sa-action='action-submit']")


def _approve(chrome: Chrome, password: str) -> None:
    """The manager types at the cashier's screen; nobody reads the password over the shoulder."""
    chrome.type(".modal.show input[name=approver_login]", "manager1")
    chrome.type(".modal.show input[type=password][name=approver_password]", password)


def _gone(chrome: Chrome, order_no: str) -> None:
    chrome.wait(f"!document.querySelector(\"tr[data-sa-pk='{order_no}']\")")


def _cash_prepaid(running: Running) -> Json:
    """A prepaid start with cash at the counter that stops early: the rest waits in the till."""
    cashier = running.cashier()
    place = {"station_code": STATION, "nozzle_no": 5, "amount_fen": 10_000}
    quote = cashier.line.must("POST", "/v1/fills/quote", place)
    price = {name: quote[name] for name in ("price_fen_per_unit", "price_version")}
    started = cashier.line.must("POST", "/v1/fills", {**place, **price, "method": "cash"}, new_key())
    order = cashier.wait_for(started["order_no"], "awaiting_payment", "authorised")
    if order["status"] == "awaiting_payment":
        cashier.take_cash(order["order_no"], 10_000)
        cashier.wait_for(order["order_no"], "authorised")
    running.forecourt().fill(5, quantity_milli=10_000, prepaid=True)
    return cashier.wait_for(order["order_no"], "dispensed")


@pytest.mark.feature("002-5")
def test_the_cashier_takes_cash_and_cancels(running: Running, chrome: Chrome) -> None:
    sold, driven_off = running.sell(3, 27_270), running.sell(7, 6_000)
    console = _login(chrome, running, "cashier1")
    _picture(chrome, "home")
    chrome.click("a.card-link[href$='/unpaid/list']")
    chrome.sees("自动刷新")
    chrome.sees("¥200.43")
    _picture(chrome, "unpaid")
    _press(chrome, sold["order_no"], "take_cash")
    assert chrome.run("document.querySelector('.modal.show [data-jz=due]').innerText") == "¥200.43"
    chrome.type("[data-jz-tendered]", "210")
    chrome.sees("找零 ¥9.57")
    _picture(chrome, "take-cash")
    _submit(chrome)
    chrome.sees("已收现金 200.43 元")
    _gone(chrome, sold["order_no"])
    _picture(chrome, "taken")
    _press(chrome, driven_off["order_no"], "cancel")
    chrome.type(".modal.show input[name=reason]", "顾客驶离未付款")
    _approve(chrome, "not the manager's")
    _submit(chrome)
    chrome.sees("站长账号或密码不正确")
    cashier = running.cashier()
    assert cashier.order(driven_off["order_no"])["status"] == "unpaid"
    chrome.open(f"{console}/unpaid/list")
    _press(chrome, driven_off["order_no"], "cancel")
    chrome.type(".modal.show input[name=reason]", "顾客驶离未付款")
    _approve(chrome, STAFF_PASSWORD)
    _picture(chrome, "cancel")
    _submit(chrome)
    chrome.sees("已取消")
    chrome.sees("目前没有待付款订单")
    paid, cancelled = cashier.order(sold["order_no"]), cashier.order(driven_off["order_no"])
    assert (paid["status"], paid["paid_method"], paid["paid_fen"]) == ("completed", "cash", 20_043)
    assert (cancelled["status"], cancelled["end_reason"]) == ("cancelled", "顾客驶离未付款")
    chrome.open(f"{console}/order/detail?pk={sold['order_no']}")
    for words in ("订单经过", "员工 张收银", "¥200.43", "27.27 升", "小票号", "现金 200.43 元"):
        chrome.sees(words)
    _picture(chrome, "order", whole=True)
    chrome.open(f"{console}/order/detail?pk={driven_off['order_no']}")
    chrome.sees("员工 张收银（员工 李站长 批准）")
    assert chrome.exceptions == []


@pytest.mark.feature("002-5")
def test_the_manager_hands_the_rest_back_and_looks_into_temporal(running: Running, chrome: Chrome) -> None:
    order_no = _cash_prepaid(running)["order_no"]
    console = _login(chrome, running, "manager1")
    chrome.open(f"{console}/attention/list")
    chrome.sees("现金余款")
    _picture(chrome, "attention")
    _press(chrome, order_no, "resolve")
    what = "document.querySelector('.modal.show [data-jz=what]').innerText"
    assert chrome.run(what) == "现金余款待退还顾客：¥29.50"
    assert chrome.run("document.querySelector('select[name=action]').value") == "cash_returned"
    chrome.type(".modal.show textarea[name=note]", "已退顾客现金 29.50 元")
    _picture(chrome, "resolve")
    _submit(chrome)
    chrome.sees("已处理")
    _gone(chrome, order_no)
    done = running.cashier().wait_for(order_no, "completed")
    assert (done["status"], done["refunded_fen"]) == ("completed", 2_950)
    chrome.open(f"{console}/order/detail?pk={order_no}")
    chrome.sees("已退顾客现金 29.50 元")
    _picture(chrome, "returned", whole=True)
    link = chrome.run("[...document.links].find(a => a.innerText.includes('在 Temporal 中查看')).href")
    assert link == f"{running.stack.ui_url}/namespaces/default/workflows/fill-{order_no}"
    assert chrome.exceptions == []
    chrome.open(link)
    # The browser itself asks the codec server: the page shows what only the payload key opens.
    for words in ("FillAndPay", '"amount_fen": 10000'):
        chrome.sees(words)
    time.sleep(2)  # the page still draws its timeline
    _picture(chrome, "temporal")
    chrome.run("[...document.links].find(a => a.innerText.includes('User Metadata')).click()")
    for words in ("预付 ST001 5号枪 ¥100.00", "已完成", "0号柴油", "订单已结束，无需处理"):
        chrome.wait(f"{_IN_FRAMES}.includes({json.dumps(words)})")
    _picture(chrome, "temporal-details")
