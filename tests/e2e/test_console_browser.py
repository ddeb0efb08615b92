"""A cashier's work in a real browser: find the unpaid sale, take cash, cancel another with a reason.

With JIAZHU_SCREENSHOTS=1 pictures of its made-up data are put into build/pictures.
"""

import asyncio
import os
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
import uvicorn
from fastapi import FastAPI
from sqlalchemy import Engine

from api.console import ConsoleDeps, mount_console
from db.session import make_engine
from tests.unit.console.chrome import BINARY, Chrome
from tests.unit.console.commands import FakeCommands
from tests.unit.console.world import NOW, PASSWORD, World, build

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not Path(BINARY).exists(), reason="needs Debian's Chromium"),
]
PICTURES = Path(__file__).resolve().parents[2] / "build" / "pictures"
MAX_PICTURE = 300 * 1024


@dataclass
class Served:
    """A console that answers at `url`."""

    url: str
    world: World
    commands: FakeCommands


@pytest.fixture
def served(fresh_database_url: str) -> Iterator[Served]:
    """The console over HTTP on a free port, with a database of its own."""
    engine = make_engine(fresh_database_url, pool_size=5)
    world = build(engine)
    commands = FakeCommands(engine=engine, now=NOW)
    server, listener = _server(engine, commands)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    deadline = time.monotonic() + 15
    while not server.started:
        assert time.monotonic() < deadline, "the console did not start"
        time.sleep(0.05)
    yield Served(f"http://127.0.0.1:{listener.getsockname()[1]}/console", world, commands)
    server.should_exit = True
    thread.join(15)
    engine.dispose()


def _server(engine: Engine, commands: FakeCommands) -> tuple[uvicorn.Server, socket.socket]:
    app = FastAPI()
    deps = ConsoleDeps(
        engine=engine,
        commands=commands,
        secret_key="browser-secret",
        clock=lambda: NOW,
        temporal_ui_url="http://127.0.0.1:8233",
        sandbox=True,
        phone_mask=lambda cipher: f"{cipher[-11:-8]}****{cipher[-4:]}",
    )
    mount_console(app, deps)
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    return uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off")), listener


@pytest.fixture
def chrome(tmp_path: Path) -> Iterator[Chrome]:
    """A fresh browser."""
    with Chrome(tmp_path / "profile") as browser:
        yield browser


def _login(chrome: Chrome, url: str, name: str) -> None:
    chrome.open(f"{url}/login")
    chrome.type("#username", name)
    chrome.type("#password", PASSWORD)
    chrome.click("button[type=submit]")
    chrome.sees("今日概况")


def _picture(chrome: Chrome, name: str, *, whole: bool = False) -> None:
    if os.environ.get("JIAZHU_SCREENSHOTS"):
        path = PICTURES / f"console-{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        chrome.picture(path, whole=whole)
        assert path.stat().st_size < MAX_PICTURE, f"{path} is too large"


def _row_button(order_no: str, action: str) -> str:
    return f"tr[data-sa-pk='{order_no}'] a[data-sa-name='{action}']"


def test_a_cashier_takes_cash_and_cancels(served: Served, chrome: Chrome) -> None:
    """Two clicks from the home page to the window that takes the money."""
    paid, other = served.world.orders["unpaid1"], served.world.orders["unpaid1b"]
    _login(chrome, served.url, "cashier1")
    _picture(chrome, "home")
    chrome.click("a.card-link[href$='/unpaid/list']")
    chrome.sees("自动刷新")
    _picture(chrome, "unpaid")
    chrome.click(_row_button(paid, "take_cash"))
    chrome.wait("document.querySelector('.modal.show [data-jz=due]')?.innerText === '¥204.89'")
    chrome.type("[data-jz-tendered]", "250")
    chrome.sees("找零 ¥45.11")
    time.sleep(0.4)  # the window slides in; a picture of it half-way is no use
    _picture(chrome, "take-cash")
    chrome.click("[data-sa-action='action-submit']")
    chrome.sees("操作成功")
    chrome.wait(f"!document.querySelector(\"tr[data-sa-pk='{paid}']\")")

    chrome.click(_row_button(other, "cancel"))
    chrome.wait("document.querySelector('.modal.show input[name=reason]')")
    time.sleep(0.4)
    chrome.click("[data-sa-action='action-submit']")
    assert chrome.run("Boolean(document.querySelector('.modal.show'))"), (
        "a missing reason must keep the window open"
    )
    chrome.type(".modal.show input[name=reason]", "试机加注")
    chrome.type(".modal.show input[name=approver_login]", "manager1")
    chrome.type(".modal.show input[name=approver_password]", PASSWORD)
    _picture(chrome, "cancel")
    chrome.click("[data-sa-action='action-submit']")
    chrome.sees("目前没有待付款订单")

    cashier = served.world.staff["cashier1"]
    assert served.commands.told == [
        ("take_cash", paid, str(cashier), "20489"),
        ("cancel", other, f"staff:{cashier}", "试机加注", "manager1"),
    ]
    chrome.open(f"{served.url}/order/detail?pk={paid}")
    chrome.sees("员工 王丽")
    assert "已完成" in chrome.text()
    assert chrome.exceptions == []


def test_the_page_of_an_order_tells_its_story(served: Served, chrome: Chrome) -> None:
    """Facts, timeline, payments, journals, and the way into the Temporal UI."""
    order = served.world.orders["prepaid"]
    _login(chrome, served.url, "manager1")
    chrome.open(f"{served.url}/order/list")
    chrome.sees("先付后加")
    _picture(chrome, "orders")
    chrome.open(f"{served.url}/order/detail?pk={order}")
    chrome.sees("订单经过")
    text = chrome.text()
    for words in (
        "¥151.60",
        "20.00 升",
        "138****5678",
        "2026-03-02 13:48:00",
        "油机已授权",
        "微信清算",
        "沙盒 sandbox",
    ):
        assert words in text, words
    link = chrome.run("[...document.links].find(a => a.innerText.includes('在 Temporal 中查看')).href")
    assert link == f"http://127.0.0.1:8233/namespaces/default/workflows/fill-{order}"
    _picture(chrome, "order", whole=True)
    assert chrome.exceptions == []


def test_a_decision_and_a_refusal(served: Served, chrome: Chrome) -> None:
    """A decision is asked for with a note; a refused command shows its reason as a banner."""
    flagged, unpaid = served.world.orders["flagged"], served.world.orders["unpaid1"]
    _login(chrome, served.url, "manager1")
    chrome.open(f"{served.url}/unpaid/list")
    chrome.click(_row_button(unpaid, "take_cash"))
    chrome.wait("document.querySelector('.modal.show [data-jz=due]')")
    _pay_elsewhere(served, unpaid)
    time.sleep(0.4)
    chrome.click("[data-sa-action='action-submit']")
    chrome.sees("订单已由其他终端支付")

    chrome.open(f"{served.url}/attention/list")
    chrome.click(_row_button(flagged, "resolve"))
    chrome.wait("document.querySelector('.modal.show select[name=action]')")
    chrome.run("document.querySelector('select[name=action]').value = 'charge_amount'")
    time.sleep(0.4)
    chrome.type(".modal.show input[name=amount]", "65.00")
    chrome.type(".modal.show textarea[name=note]", "现场核对油机小票")
    _picture(chrome, "resolve")
    chrome.click("[data-sa-action='action-submit']")
    chrome.sees("操作成功")
    manager = served.world.staff["manager1"]
    decision = (
        "resolve",
        flagged,
        f"staff:{manager}",
        "charge_amount",
        "现场核对油机小票",
        "6500",
        "amount_mismatch",
    )
    assert served.commands.told[-1] == decision


def test_the_unpaid_list_renews_itself(served: Served, chrome: Chrome) -> None:
    """A sale that another screen paid leaves the list without a touch."""
    order = served.world.orders["unpaid1"]
    _login(chrome, served.url, "cashier1")
    chrome.open(f"{served.url}/unpaid/list")
    chrome.sees("¥204.89")
    _pay_elsewhere(served, order)
    chrome.wait("!document.body.innerText.includes('¥204.89')", 20)


def _pay_elsewhere(served: Served, order_no: str) -> None:
    with ThreadPoolExecutor(1) as pool:  # a thread of its own: the session's event loop lives in this one
        answer = pool.submit(asyncio.run, served.commands.take_cash(order_no, 1, 20_489)).result(10)
    assert answer.ok
