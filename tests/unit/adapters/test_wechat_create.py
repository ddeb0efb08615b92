"""The WeChat channel: exact request bytes of new orders, the error table, and what nobody knows."""

import json
from base64 import b64decode
from datetime import timedelta, timezone
from typing import Any

import pytest
import requests
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.hashes import SHA256

from adapters.payments.wechat.outcomes import CREATE_ERRORS
from contracts.payment import AttemptSpec
from domain.payment import CloseKind, OutcomeKind, PayMethod, RefundKind
from tests.unit.adapters.kit import TinyWeChat, rsa_key
from tests.unit.adapters.trades import EXPIRES, TRADE, channel, ref, refund, spec


class TestPrepare:
    def test_jsapi(self, wechat: TinyWeChat) -> None:
        text = channel(wechat).prepare(spec(PayMethod.WECHAT_JSAPI, "openid-1"))
        assert json.loads(text) == {
            "appid": wechat.keys.appid,
            "mchid": wechat.keys.mchid,
            "description": "加油 95#",
            "out_trade_no": TRADE,
            "time_expire": "2026-05-01T20:00:00+08:00",
            "attach": "BJ01",
            "notify_url": "https://shop.example/pay",
            "amount": {"total": 10000, "currency": "CNY"},
            "payer": {"openid": "openid-1"},
        }

    def test_native_has_no_payer(self, wechat: TinyWeChat) -> None:
        body = json.loads(channel(wechat).prepare(spec(PayMethod.WECHAT_NATIVE)))
        assert "payer" not in body
        assert body["time_expire"] == "2026-05-01T20:00:00+08:00"

    def test_g8_pay_code_has_neither_notify_url_nor_expiry(self, wechat: TinyWeChat) -> None:
        body = json.loads(channel(wechat).prepare(spec(PayMethod.WECHAT_CODE, "130000000000000000")))
        assert set(body) == {
            "appid",
            "mchid",
            "description",
            "out_trade_no",
            "attach",
            "payer",
            "amount",
            "scene_info",
        }
        assert body["payer"] == {"auth_code": "130000000000000000"}
        assert body["scene_info"] == {"store_info": {"out_id": "BJ01"}}

    def test_r12_same_spec_same_bytes(self, wechat: TinyWeChat) -> None:
        mine, payer = channel(wechat), "openid-1"
        first = mine.prepare(spec(PayMethod.WECHAT_JSAPI, payer))
        wechat.clock.now += 1000
        elsewhere = EXPIRES.astimezone(timezone(timedelta(hours=-5)))
        assert mine.prepare(spec(PayMethod.WECHAT_JSAPI, payer, expires_at=elsewhere)) == first
        assert wechat.seen == []

    def test_long_descriptions_are_cut(self, wechat: TinyWeChat) -> None:
        text = channel(wechat).prepare(spec(PayMethod.WECHAT_NATIVE, description="油" * 200))
        assert json.loads(text)["description"] == "油" * 127

    @pytest.mark.parametrize(
        "wrong",
        [
            spec(PayMethod.CASH),
            spec(PayMethod.WECHAT_JSAPI),
            spec(PayMethod.WECHAT_CODE, ""),
            spec(PayMethod.WECHAT_NATIVE, amount_fen=0),
            spec(PayMethod.WECHAT_NATIVE, amount_fen=100.0),
            spec(PayMethod.WECHAT_NATIVE, amount_fen=True),
            spec(PayMethod.WECHAT_NATIVE, out_trade_no="short"),
            spec(PayMethod.WECHAT_NATIVE, out_trade_no="x" * 33),
            spec(PayMethod.WECHAT_NATIVE, out_trade_no="a/b/c/d/e"),
            spec(PayMethod.WECHAT_NATIVE, expires_at=EXPIRES.replace(tzinfo=None)),
        ],
    )
    def test_refuses_what_wechat_would_refuse(self, wechat: TinyWeChat, wrong: AttemptSpec) -> None:
        with pytest.raises(ValueError):
            channel(wechat).prepare(wrong)


class TestCreate:
    def test_sends_exactly_the_stored_bytes(self, wechat: TinyWeChat) -> None:
        wechat.answers = [wechat.signed(200, {"prepay_id": "wx1"})] * 2
        body = '{"z": 1,\n "out_trade_no":"加油"}'
        mine = channel(wechat)
        mine.create(ref(body=body))
        mine.create(ref(body=body))
        assert [r.body for r in wechat.seen] == [body.encode()] * 2
        assert wechat.seen[0].path_url == "/v3/pay/transactions/jsapi"

    def test_jsapi_params_carry_a_valid_pay_sign(self, wechat: TinyWeChat) -> None:
        wechat.answers = [wechat.signed(200, {"prepay_id": "wx201410272009395522657"}, errno=0)]
        outcome = channel(wechat).create(ref())
        params = outcome.client_params
        assert outcome.kind is OutcomeKind.PENDING
        assert set(params) == {"appId", "timeStamp", "nonceStr", "package", "signType", "paySign"}
        assert params["package"] == "prepay_id=wx201410272009395522657"
        assert params["signType"] == "RSA"
        lines = (params["appId"], params["timeStamp"], params["nonceStr"], params["package"])
        text = "".join(f"{line}\n" for line in lines).encode()
        public = rsa_key(wechat.keys.merchant_private_pem).public_key()
        public.verify(b64decode(params["paySign"]), text, padding.PKCS1v15(), SHA256())
        assert (outcome.request_id, outcome.http_status, outcome.signed) == ("REQ1-0", 200, True)

    def test_native_gives_the_code_url(self, wechat: TinyWeChat) -> None:
        wechat.answers = [wechat.signed(200, {"code_url": "weixin://wxpay/bizpayurl?pr=1"})]
        outcome = channel(wechat).create(ref(PayMethod.WECHAT_NATIVE))
        assert outcome.kind is OutcomeKind.PENDING
        assert outcome.client_params == {"code_url": "weixin://wxpay/bizpayurl?pr=1"}
        assert wechat.seen[0].path_url == "/v3/pay/transactions/native"

    @pytest.mark.parametrize("payload", [{}, {"prepay_id": ""}, {"prepay_id": 5}, [], None])
    @pytest.mark.parametrize("method", [PayMethod.WECHAT_JSAPI, PayMethod.WECHAT_NATIVE])
    def test_success_without_contents_is_unknown(
        self, wechat: TinyWeChat, payload: object, method: PayMethod
    ) -> None:
        wechat.answers = [wechat.signed(200, payload)]
        outcome = channel(wechat).create(ref(method))
        assert (outcome.kind, outcome.code) == (OutcomeKind.UNKNOWN, "MALFORMED")

    @pytest.mark.parametrize(
        ("status", "code", "kind", "again"),
        [
            (400, "PARAM_ERROR", OutcomeKind.FAILED, False),
            (400, "INVALID_REQUEST", OutcomeKind.FAILED, False),
            (400, "APPID_MCHID_NOT_MATCH", OutcomeKind.FAILED, False),
            (400, "MCH_NOT_EXISTS", OutcomeKind.FAILED, False),
            (401, "SIGN_ERROR", OutcomeKind.UNKNOWN, False),
            (403, "NO_AUTH", OutcomeKind.FAILED, False),
            (403, "RULE_LIMIT", OutcomeKind.FAILED, True),
            (403, "ACCOUNT_ERROR", OutcomeKind.FAILED, True),
            (403, "TRADE_ERROR", OutcomeKind.FAILED, True),
            (403, "NOT_ENOUGH", OutcomeKind.FAILED, True),
            (403, "OUT_TRADE_NO_USED", OutcomeKind.UNKNOWN, False),
            (400, "ORDER_PAID", OutcomeKind.UNKNOWN, False),
            (400, "ORDER_CLOSED", OutcomeKind.FAILED, True),
            (400, "ORDER_REVERSED", OutcomeKind.FAILED, True),
            (403, "AUTH_CODE_EXPIRE", OutcomeKind.FAILED, True),
            (400, "AUTH_CODE_INVALID", OutcomeKind.FAILED, True),
            (404, "USER_NOT_EXISTS", OutcomeKind.FAILED, True),
            (202, "USERPAYING", OutcomeKind.PENDING, False),
            (404, "RESOURCE_NOT_EXISTS", OutcomeKind.UNKNOWN, False),
            (429, "FREQUENCY_LIMITED", OutcomeKind.UNKNOWN, False),
            (429, "RATELIMIT_EXCEEDED", OutcomeKind.UNKNOWN, False),
            (500, "SYSTEM_ERROR", OutcomeKind.UNKNOWN, False),
            (500, "BANK_ERROR", OutcomeKind.UNKNOWN, False),
            (500, "BIZ_ERR_NEED_RETRY", OutcomeKind.UNKNOWN, False),
            (500, "OPENID_MISMATCH", OutcomeKind.FAILED, False),
            (500, "INVALID_TRANSACTIONID", OutcomeKind.FAILED, False),
            (418, "NEVER_HEARD_OF", OutcomeKind.UNKNOWN, False),
        ],
    )
    def test_error_table(
        self, wechat: TinyWeChat, status: int, code: str, kind: OutcomeKind, again: bool
    ) -> None:
        wechat.answers = [wechat.error(status, code)]
        outcome = channel(wechat).charge_code(ref(PayMethod.WECHAT_CODE))
        assert (outcome.kind, outcome.code, outcome.new_attempt_allowed) == (kind, code, again)
        assert (outcome.message, outcome.http_status, outcome.signed) == ("说明", status, True)

    def test_r11_parameters_that_differ_are_unknown(self, wechat: TinyWeChat) -> None:
        wechat.answers = [wechat.error(400, "INVALID_REQUEST", errno=268498688)]
        outcome = channel(wechat).create(ref())
        assert (outcome.kind, outcome.request_id) == (OutcomeKind.UNKNOWN, "REQ1-268498688")

    @pytest.mark.parametrize("errno", [268449538, 268498689])
    def test_paid_by_number_is_unknown_whatever_the_code(self, wechat: TinyWeChat, errno: int) -> None:
        wechat.answers = [wechat.error(400, "INVALID_REQUEST", errno=errno)]
        assert channel(wechat).create(ref()).kind is OutcomeKind.UNKNOWN

    @pytest.mark.parametrize("code", sorted(CREATE_ERRORS))
    def test_r51_unsigned_errors_are_unknown(self, wechat: TinyWeChat, code: str) -> None:
        wechat.answers = [(400, {}, json.dumps({"code": code}).encode())]
        outcome = channel(wechat).create(ref())
        assert (outcome.kind, outcome.signed, outcome.new_attempt_allowed) == (
            OutcomeKind.UNKNOWN,
            False,
            False,
        )

    def test_wrong_channel_is_a_programming_error(self, wechat: TinyWeChat) -> None:
        with pytest.raises(ValueError):
            channel(wechat).create(ref(PayMethod.CASH))
        with pytest.raises(ValueError):
            channel(wechat).charge_code(ref(PayMethod.WECHAT_JSAPI))


class TestNothingIsKnown:
    """A timeout, a reset, an unproved or unreadable answer is UNKNOWN for every call."""

    @pytest.fixture(params=["timeout", "reset", "forged", "bad", "html", "truncated", "stale", "refused"])
    def broken(self, request: pytest.FixtureRequest, wechat: TinyWeChat) -> TinyWeChat:
        status, headers, body = wechat.signed(200, {"trade_state": "SUCCESS"})
        cases: dict[str, Any] = {
            "timeout": requests.ReadTimeout("lost"),
            "reset": requests.ConnectionError("aborted"),
            "refused": requests.ConnectTimeout("no route"),
            "forged": (200, {}, body),
            "bad": (200, headers, body.replace(b"SUCCESS", b"CLOSED!")),
            "html": (502, {"Content-Type": "text/html"}, b"<html>bad gateway"),
            "truncated": (status, headers, body[:10]),
            "stale": (200, wechat.headers(body, at=wechat.clock.now - 3600), body),
        }
        wechat.answers = [cases[request.param]]
        return wechat

    @pytest.mark.parametrize("call", ["create", "query", "close", "reverse"])
    def test_attempt_calls(self, broken: TinyWeChat, call: str) -> None:
        outcome = getattr(channel(broken), call)(ref())
        assert outcome.kind in (OutcomeKind.UNKNOWN, CloseKind.UNKNOWN)
        assert outcome.code != ""

    @pytest.mark.parametrize("call", ["refund", "query_refund"])
    def test_refund_calls(self, broken: TinyWeChat, call: str) -> None:
        outcome = getattr(channel(broken), call)(refund())
        assert outcome.kind is RefundKind.UNKNOWN
        assert outcome.code != ""
