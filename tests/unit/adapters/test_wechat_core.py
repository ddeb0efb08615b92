"""The hardened transport: what goes out is what was signed, what comes in is proved."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import requests

from adapters.payments.wechat.core import HardenedWeChatPay, Reply
from adapters.payments.wechat.errors import (
    ForeignHostError,
    NoAnswerError,
    StaleError,
    UnknownSerialError,
    UnreachableError,
    UnsignedError,
    VerificationError,
)
from tests.unit.adapters.kit import Answer, Ticker, TinyWeChat


def test_signs_the_bytes_that_are_sent(wechat: TinyWeChat) -> None:
    wechat.answers = [wechat.signed(200, {"prepay_id": "wx1"})]
    body = '{"b":1, "a":"粤B12345"}'.encode()
    reply = wechat.core().send("POST", "/v3/pay/transactions/jsapi", body)
    sent = wechat.seen[0]
    found = wechat.check_merchant_signature(sent)
    assert sent.body == body
    assert found["mchid"] == wechat.keys.mchid
    assert found["serial_no"] == wechat.keys.merchant_serial
    assert sent.headers["Wechatpay-Serial"] == wechat.keys.wechat_public_key_id
    assert reply == Reply(200, b'{"prepay_id": "wx1"}', "REQ1-0", True)


def test_g4_path_is_quoted_before_it_is_signed(wechat: TinyWeChat) -> None:
    wechat.answers = [wechat.signed(200, {})]
    wechat.core().send("GET", "/v3/vehicle/parking/services/find?plate_number=粤B12345&x=a b|c~d%7E")
    sent = wechat.seen[0]
    wechat.check_merchant_signature(sent)
    assert "%E7%B2%A4B12345" in sent.path_url
    assert " " not in sent.path_url


def test_g5_empty_object_is_signed_as_it_is_sent(wechat: TinyWeChat) -> None:
    wechat.answers = [wechat.signed(200, {})]
    library = HardenedWeChatPay(core=wechat.core(), appid="wx1", notify_url="https://shop.example/n")
    library._core.request("/v3/x", data={})
    assert wechat.seen[0].body == b"{}"
    wechat.check_merchant_signature(wechat.seen[0])


def test_g7_timeouts_and_one_session_a_thread(wechat: TinyWeChat) -> None:
    core = wechat.core()
    wechat.answers = [wechat.signed(200, {}) for _ in range(3)]
    core.send("GET", "/v3/x")
    mine = core._session()
    assert wechat.seen[0].req_kwargs["timeout"] == (3.05, 10)  # type: ignore[attr-defined]
    others: list[requests.Session] = []
    thread = threading.Thread(target=lambda: others.append(core._session()))
    thread.start()
    thread.join(timeout=5)
    assert others[0] is not mine
    assert core._session() is mine


def test_g7_a_silent_server_ends_in_no_answer() -> None:
    """A real socket: the peer accepts and never answers."""
    released = threading.Event()

    class Silent(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            released.wait(10)

        def log_message(self, format: str, *args: object) -> None:
            """Stay quiet."""

    server = HTTPServer(("127.0.0.1", 0), Silent)
    thread = threading.Thread(target=server.handle_request, daemon=True)
    thread.start()
    base = f"http://127.0.0.1:{server.server_port}"
    core = TinyWeChat(clock=Ticker(int(time.time()))).core(base_url=base, timeout_s=(1, 0.2))
    try:
        with pytest.raises(NoAnswerError):
            core.send("GET", "/v3/x")
    finally:
        released.set()
        thread.join(timeout=5)
        server.server_close()


def test_no_redirect_is_followed_and_an_unsigned_one_is_no_success(wechat: TinyWeChat) -> None:
    wechat.answers = [(302, {"Location": "https://evil.example/"}, b"")]
    with pytest.raises(UnsignedError):
        wechat.core().send("GET", "/v3/x")
    assert len(wechat.seen) == 1


def test_no_retry_in_the_transport(wechat: TinyWeChat) -> None:
    wechat.answers = [requests.ReadTimeout("lost")]
    with pytest.raises(NoAnswerError):
        wechat.core(standby_url="https://api2.mch.weixin.qq.com").send("POST", "/v3/x", b"{}")
    assert len(wechat.seen) == 1


def test_reset_after_sending_does_not_fail_over(wechat: TinyWeChat) -> None:
    wechat.answers = [requests.ConnectionError("Connection aborted.")]
    with pytest.raises(NoAnswerError):
        wechat.core(standby_url="https://api2.mch.weixin.qq.com").send("POST", "/v3/x", b"{}")
    assert len(wechat.seen) == 1


def test_connect_error_fails_over_to_the_standby(wechat: TinyWeChat) -> None:
    wechat.answers = [requests.ConnectTimeout("no route"), wechat.signed(200, {})]
    core = wechat.core(standby_url="https://api2.mch.weixin.qq.com")
    assert core.send("POST", "/v3/x", b"{}").status == 200
    assert [str(r.url).split("/")[2] for r in wechat.seen] == [
        "api.mch.weixin.qq.com",
        "api2.mch.weixin.qq.com",
    ]
    wechat.check_merchant_signature(wechat.seen[1])


def test_real_refused_connections_are_unreachable() -> None:
    free = HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    base = f"http://127.0.0.1:{free.server_port}"
    free.server_close()
    tiny = TinyWeChat(clock=Ticker(int(time.time())))
    with pytest.raises(UnreachableError):
        tiny.core(base_url=base, standby_url=base).send("GET", "/v3/x")


def test_g10_unsigned_success_is_forged(wechat: TinyWeChat) -> None:
    wechat.answers = [(200, {"Request-ID": "r-0"}, b'{"trade_state":"SUCCESS"}')]
    with pytest.raises(UnsignedError) as caught:
        wechat.core().send("GET", "/v3/x")
    assert (caught.value.request_id, caught.value.http_status) == ("r-0", 200)


@pytest.mark.parametrize("status", [401, 404, 429, 500, 502, 503])
def test_g10_unsigned_error_is_marked(wechat: TinyWeChat, status: int) -> None:
    wechat.answers = [(status, {}, b"<html>")]
    assert wechat.core().send("GET", "/v3/x") == Reply(status, b"<html>", "", False)


@pytest.mark.parametrize("status", [200, 404, 500])
def test_g10_a_wrong_signature_is_refused_whatever_the_status(wechat: TinyWeChat, status: int) -> None:
    _, headers, body = wechat.signed(status, {"code": "ORDER_NOT_EXIST"})
    wechat.answers = [(status, headers, body + b" ")]
    with pytest.raises(VerificationError) as caught:
        wechat.core().send("GET", "/v3/x")
    assert caught.value.http_status == status


def test_signed_empty_204(wechat: TinyWeChat) -> None:
    wechat.answers = [wechat.signed(204)]
    assert wechat.core().send("POST", "/v3/x", b"{}") == Reply(204, b"", "REQ1-0", True)


def test_g1_stale_answers_are_refused(wechat: TinyWeChat) -> None:
    core = wechat.core()
    for offset, fine in ((-300, True), (300, True), (-301, False), (301, False)):
        headers = wechat.headers(b"{}", at=wechat.clock.now + offset)
        wechat.answers = [(200, headers, b"{}")]
        if fine:
            assert core.send("GET", "/v3/x").signed
        else:
            with pytest.raises(StaleError):
                core.send("GET", "/v3/x")


def test_g2_unknown_public_key_id_is_typed(wechat: TinyWeChat) -> None:
    status, headers, body = wechat.signed(200, {})
    wechat.answers = [(status, {**headers, "Wechatpay-Serial": "PUB_KEY_ID_0000"}, body)]
    with pytest.raises(UnknownSerialError):
        wechat.core().send("GET", "/v3/x")


def test_g3_certificates_are_downloaded_when_first_needed(wechat: TinyWeChat) -> None:
    core = wechat.certificate_core(base_url="https://api.wechatpay.cn")
    assert wechat.seen == []
    wechat.answers = [wechat.signed(200, {"a": 1}, platform=True), wechat.certificate_list()]
    assert core.send("GET", "/v3/x").signed
    assert [r.path_url for r in wechat.seen] == ["/v3/x", "/v3/certificates"]
    assert "Wechatpay-Serial" not in wechat.seen[0].headers
    wechat.answers = [wechat.signed(200, {"a": 2}, platform=True)]
    assert core.send("GET", "/v3/x").signed
    assert len(wechat.seen) == 3


def test_g6_a_failed_download_keeps_the_held_certificates(wechat: TinyWeChat) -> None:
    core = wechat.certificate_core(platform_certificates=[wechat.keys.platform_certificate_pem])
    status, headers, body = wechat.signed(200, {}, platform=True)
    wechat.answers = [(status, {**headers, "Wechatpay-Serial": "AB" * 20}, body), (503, {}, b"")]
    with pytest.raises(UnknownSerialError):
        core.send("GET", "/v3/x")
    wechat.answers = [wechat.signed(200, {}, platform=True)]
    assert core.send("GET", "/v3/x").signed


def test_g6_fifty_junk_serials_cost_one_download_a_minute(wechat: TinyWeChat) -> None:
    core = wechat.certificate_core(platform_certificates=[wechat.keys.platform_certificate_pem])
    wechat.answers = [(503, {}, b"")]
    raw = b"{}"
    for number in range(50):
        junk = {**wechat.headers(raw), "Wechatpay-Serial": f"{(number + 1) << 64:040X}"}
        with pytest.raises(UnknownSerialError):
            core.keys.verify(junk, raw)
    assert len(wechat.seen) == 1
    wechat.clock.now += 60
    wechat.answers = [wechat.certificate_list()]
    with pytest.raises(UnknownSerialError):
        core.keys.verify({**wechat.headers(raw), "Wechatpay-Serial": "FF" * 20}, raw)
    assert len(wechat.seen) == 2


def test_serials_that_are_no_numbers_cost_no_download(wechat: TinyWeChat) -> None:
    core = wechat.certificate_core()
    with pytest.raises(UnknownSerialError):
        core.keys.verify({**wechat.headers(b"{}"), "Wechatpay-Serial": "PUB_KEY_ID_9"}, b"{}")
    with pytest.raises(UnknownSerialError):
        core.keys.verify({**wechat.headers(b"{}"), "Wechatpay-Serial": "'; drop"}, b"{}")
    assert wechat.seen == []


def test_certificate_list_of_a_stranger_is_not_believed(wechat: TinyWeChat) -> None:
    """Sealed with our APIv3 key, but signed by a key outside the list."""
    core = wechat.certificate_core()
    status, headers, body = wechat.certificate_list()
    wechat.answers = [
        wechat.signed(200, {}, platform=True),
        (status, {**headers, **wechat.headers(body)}, body),
    ]
    with pytest.raises(UnknownSerialError):
        core.send("GET", "/v3/x")


def test_serials_compare_as_numbers(wechat: TinyWeChat) -> None:
    core = wechat.certificate_core(platform_certificates=[wechat.keys.platform_certificate_pem])
    headers = wechat.headers(b"{}", platform=True)
    for spelling in (wechat.keys.platform_serial.lower(), "00" + wechat.keys.platform_serial):
        core.keys.verify({**headers, "Wechatpay-Serial": spelling}, b"{}")


def test_both_keys_verify_during_the_migration(wechat: TinyWeChat) -> None:
    core = wechat.core(platform_certificates=[wechat.keys.platform_certificate_pem])
    wechat.answers = [wechat.signed(200, {}), wechat.signed(200, {}, platform=True)]
    assert core.send("GET", "/v3/x").signed
    assert core.send("GET", "/v3/x").signed


def test_g8_and_g9_library_endpoints_over_the_core(wechat: TinyWeChat) -> None:
    library = HardenedWeChatPay(core=wechat.core(), appid="wx1", notify_url="https://shop.example/pay")
    wechat.answers = [wechat.signed(200, {}), wechat.signed(200, {"refund_id": "1"})]
    library.query(out_trade_no="T00001")
    assert wechat.seen[0].path_url == f"/v3/pay/transactions/out-trade-no/T00001?mchid={wechat.keys.mchid}"
    library.refund("R1", {"refund": 1}, out_trade_no="T1", notify_url="https://shop.example/refund")
    assert json.loads(wechat.seen[1].body or b"")["notify_url"] == "https://shop.example/refund"


def test_g11_bills_come_from_our_hosts_only(wechat: TinyWeChat) -> None:
    core = wechat.core(standby_url="https://api2.mch.weixin.qq.com")
    for url in (
        "https://evil.example/v3/billdownload/file?token=1",
        "http://api.mch.weixin.qq.com/v3/billdownload/file?token=1",
        "https://api.mch.weixin.qq.com@evil.example/x",
        "https://api.mch.weixin.qq.com.evil.example/x",
    ):
        with pytest.raises(ForeignHostError):
            core.download(url)
    assert wechat.seen == []
    wechat.answers = [(200, {}, b"bill")]
    reply = core.download("https://api.mch.weixin.qq.com/v3/billdownload/file?token=1")
    assert (reply.body, reply.signed) == (b"bill", False)
    wechat.check_merchant_signature(wechat.seen[0])


def test_constructor_refuses_what_does_not_fit(wechat: TinyWeChat) -> None:
    with pytest.raises(ValueError, match="belong together"):
        wechat.core(public_key_id="")
    with pytest.raises(ValueError, match="32 bytes"):
        wechat.core(apiv3_key="short")


def test_sixteen_threads_share_one_core(wechat: TinyWeChat) -> None:
    core = wechat.core()

    def echo(request: requests.PreparedRequest) -> Answer:
        return wechat.signed(200, {"path": request.path_url})

    wechat.answers = [echo] * 160
    wrong: list[str] = []

    def work(number: int) -> None:
        for turn in range(10):
            path = f"/v3/t{number}/{turn}"
            if json.loads(core.send("GET", path).body)["path"] != path:
                wrong.append(path)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert wrong == []
    assert len(wechat.seen) == 160


def test_keys_are_parsed_once(wechat: TinyWeChat, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parsing a PEM costs as much as a signature; a call after construction parses none."""
    core = wechat.core()

    def refuse(*_args: object, **_kwargs: object) -> None:
        raise AssertionError("a key was parsed during a call")

    monkeypatch.setattr("adapters.payments.wechat.keys.load_pem_private_key", refuse)
    monkeypatch.setattr("adapters.payments.wechat.keys.load_pem_public_key", refuse)
    wechat.answers = [wechat.signed(200, {})]
    assert core.send("GET", "/v3/x").signed


def test_environment_proxies_are_ignored(wechat: TinyWeChat, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    wechat.answers = [wechat.signed(200, {})]
    assert wechat.core().send("GET", "/v3/x").signed
    assert wechat.seen[0].req_kwargs["proxies"] == {}  # type: ignore[attr-defined]
