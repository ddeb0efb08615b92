"""Every way to fill and pay through the real stack: HTTP, Temporal, CoAP, IFSF, and three ledgers at the end."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from config.settings import Settings
from db.seed import STATION
from domain.nozzle_code import NozzleCode, sign
from tests.e2e.running import Running, until
from workers.story.people import Json, new_key

_STATES = {"completed", "refunded", "cancelled"}


def _start_body(quote: Json, method: str = "wechat_jsapi") -> Json:
    names = ("station_code", "nozzle_no", "amount_fen", "price_fen_per_unit", "price_version")
    return {**{name: quote[name] for name in names}, "method": method}


def _needs(order: Json, what: str) -> Json | None:
    return order if order["needs_person"] == what else None


def _together(*deeds: Callable[[], object]) -> list[object]:
    """Do things at the same moment; returns what each returned."""
    gate = threading.Barrier(len(deeds))

    def one(deed: Callable[[], object]) -> object:
        gate.wait(10)
        return deed()

    with ThreadPoolExecutor(len(deeds)) as pool:
        return list(pool.map(one, deeds))


@pytest.mark.feature("002-4")
@pytest.mark.feature("001-4")
def test_prepaid_the_rest_goes_back_and_the_receipt_exists_once(running: Running) -> None:
    driver = running.driver()
    order_no = running.authorised(driver, 1, 20_000)
    running.forecourt().fill(1, quantity_milli=20_000, prepaid=True)
    done = driver.wait_for(order_no, "completed")
    assert (done["charge_fen"], done["refunded_fen"], done["status"]) == (14_700, 5_300, "completed")
    path = f"/v1/orders/{order_no}/receipt"
    assert driver.line.must("GET", path) == driver.line.must("GET", path)
    assert running.rows("SELECT count(*) AS n FROM receipt WHERE order_no = :no", no=order_no) == [{"n": 1}]
    assert running.driver().line.call("GET", path)[0] == 404


@pytest.mark.feature("002-5")
def test_counter_start_with_cash_and_the_rest_handed_back(running: Running) -> None:
    cashier = running.cashier()
    quote = cashier.line.must(
        "POST", "/v1/fills/quote", {"station_code": STATION, "nozzle_no": 5, "amount_fen": 10_000}
    )
    started = cashier.line.must("POST", "/v1/fills", _start_body(quote, "cash"), new_key())
    order_no = started["order_no"]
    order = cashier.wait_for(order_no, "authorised", "awaiting_payment")
    if order["status"] == "awaiting_payment":
        cashier.take_cash(order_no, 10_000)
        order = cashier.wait_for(order_no, "authorised")
    assert order["paid_fen"] == 10_000
    running.forecourt().fill(5, quantity_milli=10_000, prepaid=True)
    waiting = until(lambda: _needs(cashier.order(order_no), "return_cash"), "the rest is to be handed back")
    assert (waiting["charge_fen"], waiting["asked_fen"]) == (7_050, 2_950)
    resolve = f"/v1/cashier/orders/{order_no}/resolve"
    body = {
        "action": "cash_returned",
        "note": "已退顾客现金 29.50 元",
        "need": "return_cash",
        "amount_fen": 2_950,
        "refund_nos": [one["out_refund_no"] for one in waiting["asked_refunds"]],
    }
    assert running.driver().line.call("POST", resolve, body, new_key())[0] == 403
    status, told = cashier.line.call("POST", resolve, body | {"amount_fen": 2_951}, new_key())
    assert (status, told["code"]) == (409, "changed")
    assert cashier.line.must("POST", resolve, body, new_key())["ok"]
    done = cashier.wait_for(order_no, "completed")
    assert (done["refunded_fen"], done["needs_person"]) == (2_950, "")
    story = cashier.line.must("GET", f"/v1/orders/{order_no}/story")
    assert "staff:" in str(story)


@pytest.mark.feature("N18")
def test_postpaid_kiosk_first_the_phone_is_told(running: Running) -> None:
    sale = running.sell(3, 12_500)
    order_no, kiosk, driver = sale["order_no"], running.screen(), running.driver()
    assert [o["order_no"] for o in kiosk.unpaid()] == [order_no]
    qr = kiosk.show_qr(order_no)
    phone = driver.pay_sale(order_no)
    image = f"/v1/terminal/qr/{qr['out_trade_no']}.svg"
    assert b"<svg" in running.get(kiosk, image)
    assert driver.scan_and_pay(qr["client_params"]["code_url"])[0] == 200
    done = kiosk.wait_for(order_no, "completed")
    assert done["paid_fen"] == done["charge_fen"] == sale["due_fen"]
    body = {"method": "wechat_jsapi"}
    status, told = driver.line.call("POST", f"/v1/orders/{order_no}/pay", body, new_key())
    assert (status, told["code"]) == (409, "already_paid")
    until(lambda: _is_closed(running, phone["out_trade_no"]), "the phone's payment is closed")
    refused = driver.wechat.call(
        "POST", "/_sandbox/phone/confirm", {"prepay": phone["client_params"], "openid": driver.openid}
    )
    assert refused[0] >= 400


def _is_closed(running: Running, trade_no: str) -> bool:
    found = running.rows("SELECT status FROM payment_attempt WHERE out_trade_no = :no", no=trade_no)
    return [row["status"] for row in found] == ["closed"]


@pytest.mark.feature("N18")
def test_postpaid_kiosk_and_phone_at_the_same_moment(running: Running) -> None:
    sale = running.sell(7, 9_000)
    order_no, kiosk = sale["order_no"], running.screen("pillar")
    phone, passer = running.driver(), running.driver()
    qr, pay = kiosk.show_qr(order_no), phone.pay_sale(order_no)
    form = {"prepay": pay["client_params"], "openid": phone.openid}
    answers = _together(
        lambda: passer.scan_and_pay(qr["client_params"]["code_url"])[0],
        lambda: phone.wechat.call("POST", "/_sandbox/phone/confirm", form)[0],
    )
    assert 200 in answers
    done = phone.wait_for(order_no, "completed")
    assert done["paid_fen"] == done["charge_fen"]
    notice = kiosk.line.must("GET", f"/v1/terminal/orders/{order_no}?mine={qr['out_trade_no']}")["notice"]
    paid_by_phone = done["paid_method"] == "wechat_jsapi"
    assert bool(notice) is paid_by_phone, (notice, done)
    found = running.compared()
    assert found.is_equal, found.differences


@pytest.mark.feature("000-3")
def test_pay_code_without_money_then_native(running: Running) -> None:
    sale = running.sell(6, 30_000)
    order_no, cashier, driver = sale["order_no"], running.cashier(), running.driver()
    answer = cashier.scan_pay_code(order_no, "130000000000000001")
    assert (answer["state"], answer["code"]) == ("failed", "NOT_ENOUGH")
    assert "余额不足" in answer["message"]
    assert cashier.order(order_no)["status"] == "unpaid"
    qr = cashier.line.must("POST", f"/v1/orders/{order_no}/pay", {"method": "wechat_native"}, new_key())
    assert driver.scan_and_pay(qr["client_params"]["code_url"])[0] == 200
    done = cashier.wait_for(order_no, "completed")
    assert (done["paid_method"], done["paid_fen"]) == ("wechat_native", sale["due_fen"])


def _new_price(running: Running, product: str, version: int, price_fen: int) -> None:
    running.write(
        "INSERT INTO price (station_id, product_id, version, price_fen_per_unit, effective_at)"
        " SELECT s.id, p.id, :version, :price, now() FROM station s, product p"
        " WHERE s.code = :station AND p.code = :product",
        version=version,
        price=price_fen,
        station=STATION,
        product=product,
    )


def test_price_changed_between_quote_and_start(running: Running) -> None:
    driver = running.driver()
    quote = driver.quote(2, 5_000)
    _new_price(running, "95", 2, 799)
    try:
        status, refused = driver.line.call("POST", "/v1/fills", _start_body(quote), new_key())
        assert (status, refused["code"]) == (409, "price_changed")
        assert (refused["price_fen_per_unit"], refused["price_version"]) == (799, 2)
        # The dispenser still shows the old price: what was promised cannot be delivered, so the money goes back.
        status, started = driver.start(2, 5_000, (799, 2))
        assert status == 201, started
        driver.confirm(started["pay"])
        done = driver.wait_for(started["order_no"], "refunded")
        assert (done["status"], done["refunded_fen"], done["charge_fen"]) == ("refunded", 5_000, 0)
    finally:
        _new_price(running, "95", 3, 785)
    assert driver.quote(2, 5_000)["price_fen_per_unit"] == 785


def test_a_nozzle_that_is_taken(running: Running) -> None:
    first, second = running.driver(), running.driver()
    status, started = first.start(1, 5_000)
    assert status == 201
    for nozzle in (1, 2):  # both hang at one fuelling point
        status, refused = second.start(nozzle, 5_000)
        assert (status, refused["code"]) == (409, "nozzle_taken")
    path = f"/v1/orders/{started['order_no']}/cancel"
    assert second.line.call("POST", path, {"reason": "不加了"}, new_key())[0] == 404
    first.line.must("POST", path, {"reason": "不加了"}, new_key())
    assert first.order(started["order_no"])["status"] == "cancelled"
    status, again = second.start(2, 5_000)
    assert status == 201
    second.line.must("POST", f"/v1/orders/{again['order_no']}/cancel", {"reason": "不加了"}, new_key())


def test_one_key_is_one_order(running: Running) -> None:
    driver, key = running.driver(), new_key()
    body = _start_body(driver.quote(8, 6_000))
    first = driver.line.call("POST", "/v1/fills", body, key)
    second = driver.line.call("POST", "/v1/fills", body, key)
    assert first == second
    assert first[0] == 201
    status, refused = driver.line.call("POST", "/v1/fills", {**body, "amount_fen": 6_001}, key)
    assert (status, refused["code"]) == (422, "idempotency_key_reused")
    path, cancel = f"/v1/orders/{first[1]['order_no']}/cancel", new_key()
    answers = [driver.line.call("POST", path, {"reason": "不加了"}, cancel) for _ in range(2)]
    assert answers[0] == answers[1]
    assert driver.line.call("POST", path, {"reason": "别的原因"}, cancel)[0] == 422
    assert driver.line.call("POST", "/v1/fills", body, key)[1]["order_no"] == first[1]["order_no"]


@pytest.mark.feature("002-4")
def test_cancel_before_fuel_returns_everything(running: Running) -> None:
    driver = running.driver()
    order_no = running.authorised(driver, 9, 3_000)
    path = f"/v1/orders/{order_no}/cancel"
    assert driver.line.must("POST", path, {"reason": "临时有事"}, new_key())["ok"]
    done = driver.wait_for(order_no, "refunded")
    assert (done["status"], done["refunded_fen"]) == ("refunded", 3_000)
    order_no = running.authorised(driver, 9, 3_000)  # the dispenser is free again
    running.forecourt().fill(9, prepaid=True)
    assert driver.wait_for(order_no, "completed")["status"] == "completed"


@pytest.mark.feature("002-8")
def test_the_code_on_a_nozzle(running: Running) -> None:
    env = {k.removeprefix("JIAZHU_").lower(): v for k, v in running.stack.env.items() if "NOZZLE_CODE" in k}
    key = Settings(**env).nozzle_code_key_bytes  # type: ignore[arg-type]
    label = sign(key, NozzleCode(station_code=STATION, nozzle_no=3, version=1))
    driver = running.driver()
    found = driver.line.must("POST", "/v1/nozzle-codes/resolve", {"code": label})
    assert (found["station"]["code"], found["nozzle"]["number"], found["unpaid"]) == (STATION, 3, None)
    sale = running.sell(3, 5_000)
    found = driver.line.must("POST", "/v1/nozzle-codes/resolve", {"code": label})
    assert found["unpaid"]["order_no"] == sale["order_no"]
    driver.confirm(driver.pay_sale(sale["order_no"]))
    assert driver.wait_for(sale["order_no"], "completed")["paid_fen"] == sale["due_fen"]
    other = sign(bytes(32), NozzleCode(station_code=STATION, nozzle_no=3, version=1))
    old = sign(key, NozzleCode(station_code=STATION, nozzle_no=3, version=2))
    for forged in (other, old, label.replace(".3.", ".4."), label[:-1], "JZ1....", "JZ1.ST001.٣.1.AAAA"):
        status, refused = driver.line.call("POST", "/v1/nozzle-codes/resolve", {"code": forged})
        assert (status, refused["code"]) == (422, "nozzle_code_invalid"), forged


@pytest.mark.feature("002-5")
def test_a_cashier_of_another_station_finds_nothing(running: Running) -> None:
    running.write(
        "INSERT INTO station (operator_id, code, name, city, address, latitude_e6, longitude_e6, gateway_shard,"
        " is_open) SELECT operator_id, 'ST002', '别的站', city, address, latitude_e6, longitude_e6, 0, true"
        " FROM station WHERE code = 'ST001'"
    )
    running.write(
        "INSERT INTO staff (operator_id, station_id, login, name, role, password_hash, is_active, failed_logins)"
        " SELECT f.operator_id, s.id, 'cashier2', '外站收银', 'cashier', f.password_hash, true, 0"
        " FROM staff f, station s WHERE f.login = 'cashier1' AND s.code = 'ST002'"
    )
    sale, stranger, ours = running.sell(6, 4_000), running.cashier("cashier2"), running.cashier()
    order_no = sale["order_no"]
    assert stranger.unpaid() == []
    for path in (f"/v1/orders/{order_no}", f"/v1/orders/{order_no}/story", f"/v1/orders/{order_no}/receipt"):
        assert stranger.line.call("GET", path)[0] == 404
    commands: list[tuple[str, Json]] = [
        (f"/v1/cashier/orders/{order_no}/cash", {"received_fen": sale["due_fen"]}),
        (f"/v1/cashier/orders/{order_no}/cancel", {"reason": "试机加注"}),
        (f"/v1/cashier/orders/{order_no}/resolve", {"action": "collect_cash", "note": "试一试"}),
        (f"/v1/orders/{order_no}/pay", {"method": "wechat_native"}),
    ]
    for path, body in commands:
        assert stranger.line.call("POST", path, body, new_key())[0] == 404, path
    ours.take_cash(order_no, sale["due_fen"])
    assert ours.wait_for(order_no, "completed")["paid_method"] == "cash"


def test_three_ledgers_are_equal_after_all_that(running: Running) -> None:
    found = running.compared()
    assert found.is_equal, found.differences
    assert found.our_sales == found.dispenser_sales > 0
    assert found.our_paid_fen > found.our_refunded_fen > 0
    ended = {row["status"] for row in running.rows("SELECT DISTINCT status FROM fuel_order")}
    assert ended <= _STATES
