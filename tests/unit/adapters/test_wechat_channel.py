"""The WeChat channel: query, pay code, close and refund as closed outcomes."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from adapters.payments.wechat.outcomes import CREATE_ERRORS, REFUND_ERRORS
from domain.payment import CloseKind, OutcomeKind, PayMethod, RefundKind
from tests.unit.adapters.kit import TinyWeChat
from tests.unit.adapters.trades import REFUND, TRADE, channel, ref, refund, transaction


class TestQuery:
    @pytest.mark.parametrize("state", ["SUCCESS", "REFUND"])
    def test_paid(self, wechat: TinyWeChat, state: str) -> None:
        wechat.answers = [wechat.signed(200, transaction(wechat, state))]
        outcome = channel(wechat).query(ref())
        assert (outcome.kind, outcome.trade_state) == (OutcomeKind.SUCCEEDED, state)
        assert (outcome.amount_fen, outcome.payer_amount_fen) == (10000, 9500)
        assert outcome.paid_at == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
        expected = f"/v3/pay/transactions/out-trade-no/{TRADE}?mchid={wechat.keys.mchid}"
        assert wechat.seen[0].path_url == expected

    @pytest.mark.parametrize(
        ("state", "kind"),
        [
            ("NOTPAY", OutcomeKind.PENDING),
            ("USERPAYING", OutcomeKind.PENDING),
            ("CLOSED", OutcomeKind.FAILED),
            ("REVOKED", OutcomeKind.FAILED),
            ("PAYERROR", OutcomeKind.FAILED),
            ("SOMETHING", OutcomeKind.UNKNOWN),
        ],
    )
    def test_unpaid(self, wechat: TinyWeChat, state: str, kind: OutcomeKind) -> None:
        wechat.answers = [wechat.signed(200, transaction(wechat, state))]
        outcome = channel(wechat).query(ref())
        assert outcome.kind is kind
        assert outcome.new_attempt_allowed is (kind is OutcomeKind.FAILED)

    @pytest.mark.parametrize("code", ["ORDER_NOT_EXIST", "RESOURCE_NOT_EXISTS"])
    def test_missing(self, wechat: TinyWeChat, code: str) -> None:
        wechat.answers = [wechat.error(404, code)]
        assert channel(wechat).query(ref()).kind is OutcomeKind.NOT_FOUND

    def test_unsigned_missing_is_unknown(self, wechat: TinyWeChat) -> None:
        wechat.answers = [(404, {}, b'{"code":"ORDER_NOT_EXIST"}')]
        assert channel(wechat).query(ref()).kind is OutcomeKind.UNKNOWN

    @pytest.mark.parametrize("code", sorted(set(CREATE_ERRORS) - {"ORDER_NOT_EXIST"}))
    def test_a_refused_question_says_nothing_about_the_trade(self, wechat: TinyWeChat, code: str) -> None:
        wechat.answers = [wechat.error(403, code)]
        assert channel(wechat).query(ref()).kind is OutcomeKind.UNKNOWN

    @pytest.mark.parametrize("change", [{"out_trade_no": "OTHER1"}, {"mchid": "1"}, {"appid": "wx"}])
    def test_answer_about_something_else(self, wechat: TinyWeChat, change: dict[str, str]) -> None:
        wechat.answers = [wechat.signed(200, transaction(wechat, "SUCCESS", **change))]
        outcome = channel(wechat).query(ref())
        assert (outcome.kind, outcome.code) == (OutcomeKind.UNKNOWN, "MISMATCH")

    @pytest.mark.parametrize(
        "change",
        [
            {"amount": {"total": "10000"}},
            {"amount": {}},
            {"transaction_id": ""},
            {"success_time": "2023-11-15T06:13:20"},
            {"success_time": "never"},
            {"success_time": None},
        ],
    )
    def test_malformed_success_is_unknown(self, wechat: TinyWeChat, change: dict[str, Any]) -> None:
        wechat.answers = [wechat.signed(200, transaction(wechat, "SUCCESS", **change))]
        outcome = channel(wechat).query(ref())
        assert (outcome.kind, outcome.code) == (OutcomeKind.UNKNOWN, "MALFORMED")

    @pytest.mark.parametrize("currency", ["JPY", "cny", "", None, 156])
    def test_another_currency_is_not_taken_for_fen(self, wechat: TinyWeChat, currency: Any) -> None:
        amount = {"total": 10000, "payer_total": 10000, "currency": currency}
        wechat.answers = [wechat.signed(200, transaction(wechat, "SUCCESS", amount=amount))] * 2
        for outcome in (
            channel(wechat).query(ref()),
            channel(wechat).charge_code(ref(PayMethod.WECHAT_CODE)),
        ):
            assert (outcome.kind, outcome.code) == (OutcomeKind.SUCCEEDED, "CURRENCY"), "money did come"
            assert (outcome.amount_fen, outcome.payer_amount_fen) == (0, 0), (
                "no attempt's amount: quarantined"
            )
            assert (outcome.transaction_id, outcome.message[:6]) == ("4200000000000000000000000001", "10000 ")

    def test_yuan_may_be_named(self, wechat: TinyWeChat) -> None:
        amount = {"total": 10000, "payer_total": 9500, "currency": "CNY"}
        wechat.answers = [wechat.signed(200, transaction(wechat, "SUCCESS", amount=amount))]
        outcome = channel(wechat).query(ref())
        assert (outcome.amount_fen, outcome.payer_amount_fen, outcome.code) == (10000, 9500, "")


class TestPayCode:
    def test_paid_at_once(self, wechat: TinyWeChat) -> None:
        wechat.answers = [wechat.signed(200, transaction(wechat, "SUCCESS"))]
        outcome = channel(wechat).charge_code(ref(PayMethod.WECHAT_CODE))
        assert (outcome.kind, outcome.amount_fen) == (OutcomeKind.SUCCEEDED, 10000)
        assert wechat.seen[0].path_url == "/v3/pay/transactions/codepay"

    def test_password_needed(self, wechat: TinyWeChat) -> None:
        wechat.answers = [wechat.error(202, "USERPAYING")]
        outcome = channel(wechat).create(ref(PayMethod.WECHAT_CODE))
        assert (outcome.kind, outcome.trade_state) == (OutcomeKind.PENDING, "USERPAYING")

    def test_is_reversed_not_closed(self, wechat: TinyWeChat) -> None:
        assert channel(wechat).close(ref(PayMethod.WECHAT_CODE)).kind is CloseKind.MUST_REVERSE
        assert wechat.seen == []

    @pytest.mark.parametrize(
        ("answer", "kind"),
        [
            ({"out_trade_no": TRADE}, CloseKind.CLOSED),
            ({"out_trade_no": "OTHER1"}, CloseKind.UNKNOWN),
            ("ORDER_REVERSED", CloseKind.CLOSED),
            ("ORDER_CLOSED", CloseKind.CLOSED),
            ("ORDER_NOT_EXIST", CloseKind.NOT_FOUND),
            ("SYSTEM_ERROR", CloseKind.UNKNOWN),
            ("TRADE_ERROR", CloseKind.UNKNOWN),
            ("NO_AUTH", CloseKind.REFUSED),
            ("INVALID_REQUEST", CloseKind.UNKNOWN),
        ],
    )
    def test_reverse(self, wechat: TinyWeChat, answer: Any, kind: CloseKind) -> None:
        refused = isinstance(answer, str)
        wechat.answers = [wechat.error(400, answer) if refused else wechat.signed(200, answer)]
        assert channel(wechat).reverse(ref(PayMethod.WECHAT_CODE)).kind is kind
        assert wechat.seen[0].path_url == f"/v3/pay/transactions/out-trade-no/{TRADE}/reverse"
        assert json.loads(wechat.seen[0].body or b"") == {
            "appid": wechat.keys.appid,
            "mchid": wechat.keys.mchid,
        }


class TestClose:
    def test_closed(self, wechat: TinyWeChat) -> None:
        wechat.answers = [wechat.signed(204)]
        outcome = channel(wechat).close(ref())
        assert (outcome.kind, outcome.request_id) == (CloseKind.CLOSED, "REQ1-0")
        assert json.loads(wechat.seen[0].body or b"") == {"mchid": wechat.keys.mchid}

    @pytest.mark.parametrize(
        ("code", "errno", "kind"),
        [
            ("ORDER_PAID", 0, CloseKind.ALREADY_PAID),
            ("INVALID_REQUEST", 268449538, CloseKind.ALREADY_PAID),
            ("INVALID_REQUEST", 268449641, CloseKind.MUST_REVERSE),
            ("ORDER_CLOSED", 0, CloseKind.CLOSED),
            ("ORDER_NOT_EXIST", 0, CloseKind.NOT_FOUND),
            ("INVALID_REQUEST", 0, CloseKind.UNKNOWN),
            ("SYSTEM_ERROR", 0, CloseKind.UNKNOWN),
            ("FREQUENCY_LIMITED", 0, CloseKind.UNKNOWN),
        ],
    )
    def test_refused(self, wechat: TinyWeChat, code: str, errno: int, kind: CloseKind) -> None:
        wechat.answers = [wechat.error(400, code, errno=errno)]
        assert channel(wechat).close(ref()).kind is kind

    def test_unsigned_paid_is_unknown(self, wechat: TinyWeChat) -> None:
        wechat.answers = [(400, {}, b'{"code":"ORDER_PAID"}')]
        assert channel(wechat).close(ref()).kind is CloseKind.UNKNOWN


class TestRefund:
    def answer(self, status: str, **changes: Any) -> dict[str, Any]:
        amount = {"refund": 3000, "total": 10000}
        body = {"refund_id": "503", "out_refund_no": REFUND, "status": status, "amount": amount}
        return {**body, **changes}

    def test_another_currency_is_not_this_refund(self, wechat: TinyWeChat) -> None:
        amount = {"refund": 3000, "total": 10000, "currency": "JPY"}
        wechat.answers = [wechat.signed(200, self.answer("SUCCESS", amount=amount))]
        outcome = channel(wechat).refund(refund())
        assert (outcome.kind, outcome.code) == (RefundKind.UNKNOWN, "MISMATCH")

    def test_request(self, wechat: TinyWeChat) -> None:
        wechat.answers = [wechat.signed(200, self.answer("PROCESSING"))] * 2
        mine = channel(wechat)
        outcome = mine.refund(refund())
        mine.refund(refund())
        assert (outcome.kind, outcome.refund_id, outcome.amount_fen) == (RefundKind.PROCESSING, "503", 3000)
        assert json.loads(wechat.seen[0].body or b"") == {
            "out_trade_no": TRADE,
            "out_refund_no": REFUND,
            "reason": ("余额退回" * 30)[:80],
            "notify_url": "https://shop.example/refund",
            "amount": {"refund": 3000, "total": 10000, "currency": "CNY"},
        }
        assert wechat.seen[0].body == wechat.seen[1].body

    @pytest.mark.parametrize("call", ["refund", "query_refund"])
    @pytest.mark.parametrize(
        ("status", "kind"),
        [
            ("PROCESSING", RefundKind.PROCESSING),
            ("SUCCESS", RefundKind.SUCCEEDED),
            ("ABNORMAL", RefundKind.ABNORMAL),
            ("CLOSED", RefundKind.CLOSED),
            ("ODD", RefundKind.UNKNOWN),
        ],
    )
    def test_states(self, wechat: TinyWeChat, call: str, status: str, kind: RefundKind) -> None:
        wechat.answers = [wechat.signed(200, self.answer(status))]
        assert getattr(channel(wechat), call)(refund()).kind is kind

    @pytest.mark.parametrize("change", [{"out_refund_no": "OTHER"}, {"amount": {"refund": 2999}}])
    def test_answer_about_something_else(self, wechat: TinyWeChat, change: dict[str, Any]) -> None:
        wechat.answers = [wechat.signed(200, self.answer("SUCCESS", **change))]
        outcome = channel(wechat).query_refund(refund())
        assert (outcome.kind, outcome.code) == (RefundKind.UNKNOWN, "MISMATCH")

    @pytest.mark.parametrize(
        "code", [*sorted(REFUND_ERRORS), "SYSTEM_ERROR", "FREQUENCY_LIMITED", "SIGN_ERROR"]
    )
    def test_refused(self, wechat: TinyWeChat, code: str) -> None:
        wechat.answers = [wechat.error(403, code), (403, {}, json.dumps({"code": code}).encode())]
        mine = channel(wechat)
        kind = {"NOT_ENOUGH": RefundKind.INSUFFICIENT}.get(code, RefundKind.REJECTED)
        if code in ("SYSTEM_ERROR", "FREQUENCY_LIMITED", "SIGN_ERROR"):
            kind = RefundKind.UNKNOWN
        outcome = mine.refund(refund())
        assert (outcome.kind, outcome.code) == (kind, code)
        assert mine.refund(refund()).kind is RefundKind.UNKNOWN

    def test_query_missing(self, wechat: TinyWeChat) -> None:
        wechat.answers = [wechat.error(404, "RESOURCE_NOT_EXISTS"), wechat.error(403, "NO_AUTH")]
        mine = channel(wechat)
        assert mine.query_refund(refund()).kind is RefundKind.NOT_FOUND
        assert mine.query_refund(refund()).kind is RefundKind.UNKNOWN
        assert wechat.seen[0].path_url == f"/v3/refund/domestic/refunds/{REFUND}"
