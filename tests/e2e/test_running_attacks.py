"""Against the running stack: wrong people, forged and repeated messages, odd numbers, and everybody at once."""

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import pytest
import requests

from tests.e2e.running import Running, until
from workers.story.people import Driver, Json, Line, StoryError, new_key

Answer = TypeVar("Answer")
Response = tuple[int, Json]


def together(deed: Callable[[int], Answer], times: int) -> list[Answer]:
    """Do something many times at the same moment."""
    gate = threading.Barrier(times)

    def one(number: int) -> Answer:
        gate.wait(30)
        return deed(number)

    with ThreadPoolExecutor(times) as pool:
        return list(pool.map(one, range(times)))


def start_body(quote: Json) -> Json:
    """A start at the quoted price."""
    names = ("station_code", "nozzle_no", "amount_fen", "price_fen_per_unit", "price_version")
    return {**{name: quote[name] for name in names}, "method": "wechat_jsapi"}


def cancel(driver: Driver, order_no: str) -> Response:
    """Cancel with a key of its own."""
    return driver.line.call("POST", f"/v1/orders/{order_no}/cancel", {"reason": "不加了"}, new_key())


def test_twenty_taps_with_one_key_are_one_order(running: Running) -> None:
    driver, key = running.driver(), new_key()
    body = start_body(driver.quote(1, 5_000))
    answers = together(lambda _: driver.line.call("POST", "/v1/fills", body, key), 20)
    assert {status for status, _ in answers} == {201}
    numbers = {answer["order_no"] for _, answer in answers}
    assert len(numbers) == 1
    assert len({answer["pay"]["out_trade_no"] for _, answer in answers}) == 1
    order_no = numbers.pop()
    found = running.rows("SELECT count(*) AS n FROM payment_attempt WHERE order_no = :no", no=order_no)
    assert found == [{"n": 1}]
    assert cancel(driver, order_no)[0] == 200


def test_twenty_people_at_one_nozzle_are_one_order(running: Running) -> None:
    drivers = [running.driver() for _ in range(20)]
    body = start_body(drivers[0].quote(1, 5_000))
    answers = together(lambda n: drivers[n].line.call("POST", "/v1/fills", body, new_key()), 20)
    codes = Counter(answer.get("code", status) for status, answer in answers)
    assert codes == {201: 1, "nozzle_taken": 19}
    winner = next(n for n, (status, _) in enumerate(answers) if status == 201)
    assert cancel(drivers[winner], answers[winner][1]["order_no"])[0] == 200


def test_one_cancel_tapped_twenty_times(running: Running) -> None:
    driver = running.driver()
    order_no = running.authorised(driver, 1, 4_000)
    path, key = f"/v1/orders/{order_no}/cancel", new_key()
    answers = together(lambda _: driver.line.call("POST", path, {"reason": "不加了"}, key), 20)
    assert len({json.dumps(answer, sort_keys=True) for answer in answers}) == 1
    assert answers[0][0] == 200
    assert driver.wait_for(order_no, "refunded")["refunded_fen"] == 4_000


@pytest.mark.feature("N18")
def test_two_cashiers_take_the_same_cash(running: Running) -> None:
    sale = running.sell(3, 5_000)
    order_no, till = sale["order_no"], {"received_fen": sale["due_fen"]}
    people = [running.cashier("cashier1"), running.cashier("manager1")]
    path = f"/v1/cashier/orders/{order_no}/cash"
    answers = together(lambda n: people[n % 2].line.call("POST", path, till, new_key()), 6)
    codes = Counter(status for status, _ in answers)
    assert codes == {200: 1, 409: 5}, answers
    done = people[0].wait_for(order_no, "completed")
    assert (done["paid_fen"], done["surplus_fen"], done["needs_person"]) == (sale["due_fen"], 0, "")


def race(*deeds: Callable[[], Response]) -> list[Response]:
    """Let deeds run at the same moment."""
    return together(lambda number: deeds[number](), len(deeds))


def confirm(driver: Driver, pay: Json, pause_s: float = 0) -> Response:
    """Confirm a payment on the phone, after a moment; returns what the phone shows."""
    time.sleep(pause_s)
    form = {"prepay": pay["client_params"], "openid": driver.openid}
    return driver.wechat.call("POST", "/_sandbox/phone/confirm", form)


def cash_against_phone(running: Running) -> None:
    """A cashier takes the cash in the moment in which the customer confirms on the phone."""
    sale, driver, cashier = running.sell(3, 2_000), running.driver(), running.cashier()
    order_no, pay = sale["order_no"], driver.pay_sale(sale["order_no"])
    path, till = f"/v1/cashier/orders/{order_no}/cash", {"received_fen": sale["due_fen"]}
    cash, phone = race(lambda: cashier.line.call("POST", path, till, new_key()), lambda: confirm(driver, pay))
    done = cashier.wait_for(order_no, "completed")
    taken = cash[0] == 200
    assert taken is (done["paid_method"] == "cash"), (cash, phone, done)
    assert taken is not (phone[0] == 200), "one of both paid, never both, never none"


@pytest.mark.feature("N18")
def test_cash_races_with_a_phone(running: Running) -> None:
    for _ in range(6):
        cash_against_phone(running)


def cancel_against_payment(running: Running, nozzle_no: int, pause_s: float) -> str:
    """A driver cancels in the moment in which the phone pays; returns how the order ended."""
    driver = running.driver()
    status, started = driver.start(nozzle_no, 3_000)
    assert status == 201, started
    order_no = started["order_no"]

    def end() -> Response:
        time.sleep(0.06)
        return cancel(driver, order_no)

    paid, ended = race(lambda: confirm(driver, started["pay"], pause_s), end)
    if ended[0] != 200:  # the money was faster and the order goes on: cancel again, now with the money
        assert ended[0] == 409, ended
        driver.wait_for(order_no, "authorised", "refunding")
        cancel(driver, order_no)
    order = driver.wait_for(order_no, "cancelled", "refunded")
    has_paid = paid[0] == 200
    assert order["status"] == ("refunded" if has_paid else "cancelled"), (paid, ended, order)
    assert order["refunded_fen"] == order["paid_fen"] == (3_000 if has_paid else 0)
    return str(order["status"])


@pytest.mark.feature("N17")
def test_cancel_races_with_payment(running: Running) -> None:
    def at(nozzle_no: int) -> list[str]:
        dice = random.Random(nozzle_no)
        return [cancel_against_payment(running, nozzle_no, dice.uniform(0, 0.15)) for _ in range(10)]

    nozzles = (1, 5, 9)
    ends = Counter(end for found in together(lambda n: at(nozzles[n]), 3) for end in found)
    assert sum(ends.values()) == 30
    assert set(ends) == {"cancelled", "refunded"}, "both ends of the race were seen"


@pytest.mark.parametrize("amount", [0, -1, 99, 500_001, 10**9, 10**30, 1.5, "100", None, True, [], {}])
def test_odd_amounts_are_refused(running: Running, amount: object) -> None:
    driver = running.driver()
    body = {"station_code": "ST001", "nozzle_no": 1, "amount_fen": amount}
    assert driver.line.call("POST", "/v1/fills/quote", body)[0] == 422
    start = {**body, "price_fen_per_unit": 735, "price_version": 1, "method": "wechat_jsapi"}
    assert driver.line.call("POST", "/v1/fills", start, new_key())[0] == 422


@pytest.mark.parametrize("raw", [b"NaN", b"Infinity", b"-Infinity", b"1e400", b"1e3", b"\xff", b"9" * 5000])
def test_odd_json_is_refused(running: Running, raw: bytes) -> None:
    driver = running.driver()
    body = b'{"station_code": "ST001", "nozzle_no": 1, "amount_fen": ' + raw + b"}"
    headers = {**driver.line.headers, "Content-Type": "application/json"}
    url = f"{running.stack.api_url}/v1/fills/quote"
    assert requests.post(url, data=body, headers=headers, timeout=20).status_code in (400, 422)


def test_everybody_keeps_to_what_is_theirs(running: Running) -> None:
    sale, driver = running.sell(3, 3_000), running.driver()
    order_no, due = sale["order_no"], sale["due_fen"]
    nobody, kiosk = Line(running.stack.api_url), running.screen()
    forged = Line(running.stack.api_url, {"Authorization": "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0."})
    wrong_key = Line(running.stack.api_url, {"Authorization": "Device 1.guess"})
    auditor = running.cashier("auditor1").line
    commands: list[tuple[str, Json]] = [
        (f"/v1/cashier/orders/{order_no}/cash", {"received_fen": due}),
        (f"/v1/cashier/orders/{order_no}/cancel", {"reason": "试机加注"}),
        (f"/v1/cashier/orders/{order_no}/resolve", {"action": "write_off", "note": "试一试"}),
    ]
    for path, body in commands:
        for line, status in (
            (nobody, 401),
            (forged, 401),
            (wrong_key, 401),
            (driver.line, 403),
            (kiosk.line, 403),
            (auditor, 403),
        ):
            assert line.call("POST", path, body, new_key())[0] == status, (path, status)
    cashier = running.cashier()
    for received in (due - 1, due + 1, 100_000_000):
        status, told = cashier.line.call("POST", commands[0][0], {"received_fen": received}, new_key())
        assert (status, told["code"]) == (409, "amount_differs")
    assert cashier.line.call("POST", commands[2][0], commands[2][1], new_key())[0] == 403
    assert cashier.order(order_no)["status"] == "unpaid"
    cashier.take_cash(order_no, due)


@pytest.mark.feature("002-5")
def test_a_cashier_writes_delivered_fuel_off_with_the_manager_only(running: Running) -> None:
    order_no, cashier = running.sell(3, 3_000)["order_no"], running.cashier()
    for path in (f"/v1/cashier/orders/{order_no}/cancel", f"/v1/orders/{order_no}/cancel"):
        status, told = cashier.line.call("POST", path, {"reason": "顾客驶离未付款"}, new_key())
        assert (status, told["code"]) == (403, "approval_needed")
    with pytest.raises(StoryError, match="approval_refused"):
        cashier.cancel(order_no, "顾客驶离未付款", approver="cashier1")
    assert cashier.order(order_no)["status"] == "unpaid"
    assert cashier.cancel(order_no, "顾客驶离未付款")["status"] == "cancelled"
    ids = {row["login"]: row["id"] for row in running.rows("SELECT login, id FROM staff")}
    told_by = f"staff:{ids['cashier1']} (approved staff:{ids['manager1']})"
    story: Any = cashier.line.must("GET", f"/v1/orders/{order_no}/story")
    assert [line["actor"] for line in story if line["kind"] == "cancelled"] == [told_by]
    memos = running.rows("SELECT memo FROM ledger_journal WHERE order_no = :no", no=order_no)
    assert {"memo": "unpaid sale written off"} in memos


def _answers(wechat: Line, order_no: str) -> list[int]:
    """The status of every delivery of this order's notifications, oldest first."""
    told = wechat.must("GET", "/_sandbox/notifies")["notifies"]
    tries = [t for one in told if one["out_trade_no"].startswith(order_no) for t in one["attempts"]]
    return [status for _, status in sorted(tries)]


def test_forged_changed_and_repeated_notifications(running: Running) -> None:
    driver, wechat = running.driver(), Line(running.stack.wechat_url)
    order_no = running.authorised(driver, 5, 6_000)
    url = f"{running.stack.api_url}/v1/notify/wechat/pay"
    body = json.dumps({"id": "x", "event_type": "TRANSACTION.SUCCESS", "resource": {}}).encode()
    for headers in ({}, {"Wechatpay-Serial": "x", "Wechatpay-Signature": "eA==", "Wechatpay-Nonce": "n"}):
        assert requests.post(url, data=body, headers=headers, timeout=10).status_code == 401
    told = wechat.must("GET", "/_sandbox/notifies")["notifies"]
    mine = next(one for one in told if one["out_trade_no"].startswith(order_no))
    before = running.rows("SELECT count(*) AS n FROM ledger_journal WHERE order_no = :no", no=order_no)
    repeat = f"/_sandbox/notifies/{mine['id']}/"
    wechat.must("POST", repeat + "tamper", {})
    until(lambda: 401 in _answers(wechat, order_no), "the changed notification is refused")
    seen = len(_answers(wechat, order_no))
    wechat.must("POST", repeat + "duplicate", {})
    together(lambda _: wechat.call("POST", repeat + "resend", {}), 8)
    until(lambda: _answers(wechat, order_no)[seen:].count(204) >= 2, "the repeats are taken")
    assert set(_answers(wechat, order_no)) == {204, 401}
    stored = running.rows("SELECT count(*) AS n FROM inbox WHERE business_no LIKE :no", no=f"{order_no}%")
    assert stored == [{"n": 1}]
    after = running.rows("SELECT count(*) AS n FROM ledger_journal WHERE order_no = :no", no=order_no)
    assert before == after
    running.forecourt().fill(5, quantity_milli=1_000, prepaid=True)
    assert driver.wait_for(order_no, "completed")["paid_fen"] == 6_000


def test_the_ledgers_are_equal_after_all_attacks(running: Running) -> None:
    found = running.compared(60)
    assert found.is_equal, found.differences
    orphans = running.rows(
        "SELECT order_no FROM fuel_order WHERE status = 'completed' AND order_no NOT IN"
        " (SELECT order_no FROM receipt)"
    )
    assert orphans == []
    assert running.rows("SELECT order_no FROM receipt GROUP BY order_no HAVING count(*) > 1") == []
