"""Orders: paying, cancelling, cash, idempotency, lists, waiting, the QR code, the receipt."""

import asyncio
import time
from datetime import timedelta
from typing import Any

import httpx
import pytest

from contracts.fill import CancelCommand, CashCommand, CommandAnswer, PayCommand, ResolveCommand
from db.tables.payment import PaymentAttempt, Refund
from domain.ids import out_refund_no, out_trade_no
from domain.order import OrderStatus
from tests.unit.api.world import PASSWORD, World


async def _pay(api: httpx.AsyncClient, order_no: str, headers: dict[str, str], **body: Any) -> httpx.Response:
    return await api.post(f"/v1/orders/{order_no}/pay", json=body, headers=headers)


async def test_each_screen_pays_in_its_own_way(world: World, api: httpx.AsyncClient) -> None:
    order_no = world.add_order()
    driver_id = world.add_driver()
    await _pay(api, order_no, world.as_driver(driver_id) | world.key(), method="wechat_jsapi")
    await _pay(api, order_no, world.add_terminal(kind="pillar") | world.key(), method="wechat_native")
    cashier = world.as_staff("cashier") | world.key()
    code = await _pay(api, order_no, cashier, method="wechat_code", auth_code="134567890123456789")
    assert code.json()["state"] == "paid"
    sent = [c for number, c in world.temporal.commands if number == order_no]
    assert [c.screen for c in sent if isinstance(c, PayCommand)] == ["phone", "pillar", "cashier"]
    assert sent[0].driver_id == driver_id
    assert sent[2].auth_code == "134567890123456789"
    slow = await _pay(api, order_no, world.add_terminal() | world.key(), method="wechat_native")
    assert (slow.status_code, slow.json()["code"]) == (409, "already_paid")
    assert slow.json()["detail"] == "已由其他终端支付"


@pytest.mark.parametrize(
    "body",
    [
        {"method": "wechat_native"},
        {"method": "cash"},
        {"method": "wechat_jsapi", "auth_code": "134567890123456789"},
        {"method": "wechat_code"},
        {"method": "wechat_code", "auth_code": "99"},
        {"method": "gold"},
    ],
)
async def test_a_driver_pays_by_jsapi_only(
    world: World, api: httpx.AsyncClient, body: dict[str, Any]
) -> None:
    order_no = world.add_order()
    answer = await _pay(api, order_no, world.as_driver() | world.key(), **body)
    assert answer.status_code == 422


async def test_a_repeated_payment_is_the_same_payment(world: World, api: httpx.AsyncClient) -> None:
    order_no = world.add_order()
    headers = world.add_terminal() | world.key()
    first = await _pay(api, order_no, headers, method="wechat_native")
    again = await _pay(api, order_no, headers, method="wechat_native")
    assert first.json() == again.json()
    other = await _pay(api, order_no, headers, method="wechat_code", auth_code="134567890123456789")
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    elsewhere = await _pay(api, world.add_order(), headers, method="wechat_native")
    assert elsewhere.json()["code"] == "idempotency_key_reused", "the key belongs to one order"


async def test_an_order_that_has_ended_answers_from_its_row(world: World, api: httpx.AsyncClient) -> None:
    paid = world.add_order(status=OrderStatus.COMPLETED, running=False, paid_fen=100)
    gone = world.add_order(status=OrderStatus.CANCELLED, running=False)
    kiosk = world.add_terminal()
    answer = await _pay(api, paid, kiosk | world.key(), method="wechat_native")
    assert (answer.status_code, answer.json()["code"]) == (409, "already_paid")
    answer = await _pay(api, gone, kiosk | world.key(), method="wechat_native")
    assert (answer.status_code, answer.json()["code"]) == (409, "not_payable")
    cash = await api.post(
        f"/v1/cashier/orders/{gone}/cash",
        json={"received_fen": 100},
        headers=world.as_staff() | world.key(),
    )
    assert (cash.status_code, cash.json()["code"]) == (409, "order_ended")


async def test_the_cashier_s_commands_reach_the_order(world: World, api: httpx.AsyncClient) -> None:
    order_no = world.add_order()
    cashier, me = world.as_staff("cashier"), world.staff_ids["cashier-ST001"]
    manager = world.staff_ids["manager-ST001"]
    base = f"/v1/cashier/orders/{order_no}"
    cash = await api.post(f"{base}/cash", json={"received_fen": 100}, headers=cashier | world.key())
    assert cash.json()["status_text"] == "已完成"
    approved = {
        "reason": "加错油",
        "approver": {"login": "manager-ST001", "password": PASSWORD},
    }
    await api.post(f"{base}/cancel", json=approved, headers=cashier | world.key())
    decision = {"action": "collect_cash", "note": "已补收", "need": "shortfall"}
    await api.post(f"{base}/resolve", json=decision, headers=cashier | world.key())
    sent = [c for number, c in world.temporal.commands if number == order_no]
    assert sent[0] == CashCommand(cashier_id=me, received_fen=100)
    assert sent[1] == CancelCommand(actor=f"staff:{me} (approved staff:{manager})", reason="加错油")
    assert isinstance(sent[2], ResolveCommand)
    assert (sent[2].actor, sent[2].note, sent[2].need) == (f"staff:{me}", "已补收", "shortfall")


async def test_cash_that_was_handed_back_says_what_it_was_for(world: World, api: httpx.AsyncClient) -> None:
    order_no = world.add_order()
    path, headers = f"/v1/cashier/orders/{order_no}/resolve", world.as_staff("cashier")
    decision = {"action": "cash_returned", "note": "已退现金"}
    refused = await api.post(path, json=decision, headers=headers | world.key())
    assert (refused.status_code, refused.json()["code"]) == (422, "need_missing")
    assert "need" in refused.json()["detail"]
    refused = await api.post(path, json=decision | {"need": "return_cash"}, headers=headers | world.key())
    assert (refused.status_code, refused.json()["code"]) == (422, "amount_missing")
    told = decision | {"need": "return_cash", "amount_fen": 2_950}
    for wrong, code in (
        (told, "refunds_missing"),
        ({"action": "retry_refund", "note": "再试一次", "amount_fen": 1}, "amount_unexpected"),
        ({"action": "retry_refund", "note": "再试一次", "refund_nos": ["X"]}, "refunds_unexpected"),
    ):
        refused = await api.post(path, json=wrong, headers=headers | world.key())
        assert (refused.status_code, refused.json()["code"]) == (422, code)
    numbers = [_closed_refund(world, order_no, turn, fen) for turn, fen in enumerate((2_000, 950), 1)]
    others = _closed_refund(world, world.add_order(), 1, 2_950)
    for refunds, fen in ((numbers, 2_951), (numbers[:1], 2_950), ([others], 2_950), ([*numbers, "X"], 2_950)):
        wrong = told | {"refund_nos": refunds, "amount_fen": fen}
        refused = await api.post(path, json=wrong, headers=headers | world.key())
        assert (refused.status_code, refused.json()["code"]) == (409, "changed"), (refunds, fen)
    for odd in ("Return Cash", "x" * 65):
        answer = await api.post(path, json=decision | {"need": odd}, headers=headers | world.key())
        assert answer.status_code == 422
    assert [c for number, c in world.temporal.commands if number == order_no] == []
    told |= {"refund_nos": numbers}
    assert (await api.post(path, json=told, headers=headers | world.key())).status_code == 200
    without = {"action": "retry_refund", "note": "再试一次"}
    assert (await api.post(path, json=without, headers=headers | world.key())).status_code == 200
    sent = [(c.need, c.refund_nos) for number, c in world.temporal.commands if number == order_no]
    assert sent == [("return_cash", tuple(numbers)), ("", ())]


async def test_staff_see_what_is_asked_and_a_driver_does_not(world: World, api: httpx.AsyncClient) -> None:
    driver_id = world.add_driver()
    order_no = world.add_order(needs_person="refund_closed", driver_id=driver_id)
    number = _closed_refund(world, order_no, 1, 2_950)
    asked = (2_950, [{"out_refund_no": number, "amount_fen": 2_950}])
    staff = world.as_staff("cashier")
    one = (await api.get(f"/v1/orders/{order_no}", headers=staff)).json()
    listed = [
        next(o for o in (await api.get(path, headers=staff)).json()["orders"] if o["order_no"] == order_no)
        for path in ("/v1/orders", "/v1/cashier/attention")
    ]
    assert [(o["asked_fen"], o["asked_refunds"]) for o in (one, *listed)] == [asked] * 3
    mine = (await api.get(f"/v1/orders/{order_no}", headers=world.as_driver(driver_id))).json()
    assert (mine["needs_person"], mine["asked_fen"], mine["asked_refunds"]) == ("", None, [])


def _closed_refund(world: World, order_no: str, turn: int, fen: int) -> str:
    """Add a payment whose refund its channel closed; return the refund's number."""
    trade, now = out_trade_no(order_no, turn), world.clock.now
    paid: dict[str, Any] = {"method": "wechat_native", "amount_fen": fen, "status": "succeeded"}
    facts: dict[str, Any] = {"out_trade_no": trade, "order_no": order_no, "created_at": now}
    with world.session() as db:
        db.add(PaymentAttempt(number=turn, command_id=trade, request_body="{}", **paid, **facts))
        db.flush()
        number = out_refund_no(trade, "surplus")
        db.add(Refund(out_refund_no=number, amount_fen=fen, status="closed", reason="退回", **facts))
    return number


async def test_a_value_out_of_bounds_is_told_its_bound(world: World, api: httpx.AsyncClient) -> None:
    path, headers = f"/v1/cashier/orders/{world.add_order()}/cash", world.as_staff("cashier")
    answer = await api.post(path, json={"received_fen": -5}, headers=headers | world.key())
    assert answer.json()["errors"] == [{"field": "body.received_fen", "reason": "greater_than", "limit": "0"}]
    broken = await api.post(
        path, content=b'{"a', headers=headers | world.key() | {"Content-Type": "application/json"}
    )
    assert broken.json()["errors"] == [{"field": "body", "reason": "json_invalid"}]


async def test_a_refused_command_says_why(world: World, api: httpx.AsyncClient) -> None:
    world.temporal.refuse = CommandAnswer(
        ok=False, status=OrderStatus.AUTHORISED, code="FUELLING", message="正在加注，不能取消"
    )
    driver_id = world.add_driver()
    order_no = world.add_order(status=OrderStatus.AUTHORISED, mode="prepaid", driver_id=driver_id)
    answer = await api.post(
        f"/v1/orders/{order_no}/cancel",
        json={"reason": "不想加了"},
        headers=world.as_driver(driver_id) | world.key(),
    )
    assert (answer.status_code, answer.json()["code"]) == (409, "fuelling")
    assert answer.json()["detail"] == "正在加注，不能取消"


@pytest.mark.parametrize("body", [{}, {"reason": ""}, {"reason": "   "}, {"reason": "x" * 201}])
async def test_a_cancellation_needs_a_reason(
    world: World, api: httpx.AsyncClient, body: dict[str, str]
) -> None:
    order_no = world.add_order()
    headers = world.as_staff() | world.key()
    answer = await api.post(f"/v1/cashier/orders/{order_no}/cancel", json=body, headers=headers)
    assert answer.status_code == 422


async def test_commands_wait_for_temporal(world: World, api: httpx.AsyncClient) -> None:
    world.temporal.away = True
    order_no = world.add_order()
    headers, body = world.as_staff() | world.key(), {"received_fen": 100}
    path = f"/v1/cashier/orders/{order_no}/cash"
    assert (await api.post(path, json=body, headers=headers)).status_code == 503
    world.temporal.away = False
    assert (await api.post(path, json=body, headers=headers)).status_code == 200


async def test_my_orders_page_by_page(world: World, api: httpx.AsyncClient) -> None:
    driver_id = world.add_driver()
    made = [
        world.add_order(driver_id=driver_id, created_at=world.clock.now - timedelta(minutes=n // 2))
        for n in range(7)
    ]
    headers, cursor, seen = world.as_driver(driver_id), "", []
    while True:
        page = await api.get("/v1/orders", params={"limit": 3, "cursor": cursor}, headers=headers)
        seen += [o["order_no"] for o in page.json()["orders"]]
        cursor = page.json()["next_cursor"]
        if not cursor:
            break
    assert sorted(seen) == sorted(made)
    times = [made.index(n) // 2 for n in seen]
    assert times == sorted(times)
    for bad in ("x", "AAAA", "%00"):
        answer = await api.get(f"/v1/orders?cursor={bad}", headers=headers)
        assert answer.status_code == 422


async def test_a_long_poll_returns_when_the_order_changes(world: World, api: httpx.AsyncClient) -> None:
    driver_id = world.add_driver()
    order_no = world.add_order(driver_id=driver_id)
    headers = world.as_driver(driver_id)
    version = (await api.get(f"/v1/orders/{order_no}", headers=headers)).json()["version"]

    async def wait() -> httpx.Response:
        return await api.get(f"/v1/orders/{order_no}", params={"wait": 10, "since": version}, headers=headers)

    waiting = [asyncio.create_task(wait()) for _ in range(5)]
    await asyncio.sleep(0.5)
    assert not any(w.done() for w in waiting)
    world.change_order(
        order_no,
        status="completed",
        paid_fen=100,
        updated_at=world.clock.now + timedelta(microseconds=1),
    )
    started = time.monotonic()
    answers = await asyncio.gather(*waiting)
    assert time.monotonic() - started < 3
    assert {a.json()["status"] for a in answers} == {"completed"}
    assert answers[0].json()["version"] == version + 1


async def test_a_long_poll_ends_by_itself(world: World, api: httpx.AsyncClient) -> None:
    driver_id = world.add_driver()
    order_no = world.add_order(driver_id=driver_id)
    headers = world.as_driver(driver_id)
    version = (await api.get(f"/v1/orders/{order_no}", headers=headers)).json()["version"]
    answer = await api.get(f"/v1/orders/{order_no}?wait=1&since={version}", headers=headers)
    assert answer.json()["version"] == version


async def test_a_long_poll_until_a_status_sleeps_through_the_others(
    world: World, api: httpx.AsyncClient
) -> None:
    driver_id = world.add_driver()
    order_no = world.add_order(driver_id=driver_id, status=OrderStatus.PAID)
    headers, later = world.as_driver(driver_id), world.clock.now
    path = f"/v1/orders/{order_no}?wait=20&until=dispensed&until=refunding"
    waiting = asyncio.create_task(api.get(path, headers=headers))
    await asyncio.sleep(0.5)
    world.change_order(order_no, status="authorised", updated_at=later + timedelta(seconds=1))
    await asyncio.sleep(0.8)
    assert not waiting.done()
    world.change_order(order_no, status="dispensed", updated_at=later + timedelta(seconds=2))
    assert (await asyncio.wait_for(waiting, 10)).json()["status"] == "dispensed"
    world.change_order(order_no, status="completed", updated_at=later + timedelta(seconds=3))
    ended = await asyncio.wait_for(api.get(path, headers=headers), 5)
    assert ended.json()["status"] == "completed", "an end is an answer whatever was waited for"
    unknown = await api.get(f"/v1/orders/{order_no}?wait=20&until=nonsense", headers=headers)
    assert unknown.status_code == 422


async def test_events_stream_until_the_order_has_ended(world: World, api: httpx.AsyncClient) -> None:
    driver_id = world.add_driver()
    order_no = world.add_order(driver_id=driver_id)
    path, headers = f"/v1/orders/{order_no}/events", world.as_driver(driver_id)
    stream = asyncio.create_task(api.get(path, headers=headers, timeout=20))
    await asyncio.sleep(0.4)
    later = world.clock.now + timedelta(seconds=1)
    world.change_order(order_no, status="completed", paid_fen=100, updated_at=later)
    answer = await asyncio.wait_for(stream, 10)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.text.count("event: order") == 2
    assert '"status":"unpaid"' in answer.text
    assert '"status":"completed"' in answer.text


@pytest.mark.feature("N18")
async def test_a_screen_is_told_when_another_was_faster(world: World, api: httpx.AsyncClient) -> None:
    order_no = world.add_order(status=OrderStatus.UNPAID)
    kiosk = world.add_terminal(kind="kiosk")
    mine = world.add_attempt(order_no, 1, screen="kiosk")
    phone = world.add_attempt(order_no, 2, screen="phone", method="wechat_jsapi", status="succeeded")
    path = f"/v1/terminal/orders/{order_no}"
    assert (await api.get(path, headers=kiosk)).json()["notice"] == ""
    world.change_order(order_no, status="completed", paid_fen=100, paid_by=phone)
    assert (await api.get(path, headers=kiosk)).json()["notice"] == "已由其他终端支付"
    assert (await api.get(f"{path}?mine={mine}", headers=kiosk)).json()["notice"] == "已由其他终端支付"
    world.change_order(order_no, paid_by=mine)
    assert (await api.get(f"{path}?mine={mine}", headers=kiosk)).json()["notice"] == ""


async def test_the_qr_code_of_an_open_payment(world: World, api: httpx.AsyncClient) -> None:
    order_no = world.add_order()
    params = '{"code_url": "weixin://wxpay/bizpayurl?pr=abc"}'
    opened = world.add_attempt(order_no, 1, client_params=params)
    closed = world.add_attempt(order_no, 2, client_params=params, status="closed")
    kiosk = world.add_terminal()
    svg = await api.get(f"/v1/terminal/qr/{opened}.svg", headers=kiosk)
    assert svg.headers["content-type"] == "image/svg+xml"
    assert b"<svg" in svg.content
    png = await api.get(f"/v1/terminal/qr/{opened}.png", headers=kiosk)
    assert png.content.startswith(b"\x89PNG")
    assert (await api.get(f"/v1/terminal/qr/{closed}.svg", headers=kiosk)).status_code == 409
    strange = world.add_terminal("ST002")
    assert (await api.get(f"/v1/terminal/qr/{opened}.svg", headers=strange)).status_code == 404


async def test_the_receipt(world: World, api: httpx.AsyncClient) -> None:
    driver_id = world.add_driver()
    order_no = world.add_order(driver_id=driver_id, status=OrderStatus.COMPLETED)
    path, headers = f"/v1/orders/{order_no}/receipt", world.as_driver(driver_id)
    assert (await api.get(path, headers=headers)).status_code == 404
    world.add_receipt(order_no)
    assert (await api.get(path, headers=headers)).json()["content"] == {"金额": "1.00"}
