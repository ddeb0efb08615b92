"""Cash at the counter."""

import json
from datetime import UTC, datetime

import pytest

from adapters.payments.cash import CashChannel
from contracts.payment import AttemptRef, AttemptSpec, RefundRequest
from domain.payment import CloseKind, OutcomeKind, PayMethod, RefundKind

AT = datetime(2026, 5, 1, tzinfo=UTC)
REF = AttemptRef(out_trade_no="T00001", method=PayMethod.CASH, amount_fen=20_000)


def spec(method: PayMethod, amount_fen: int) -> AttemptSpec:
    return AttemptSpec(
        out_trade_no="T00001",
        method=method,
        amount_fen=amount_fen,
        description="加油",
        expires_at=AT,
        station_code="BJ01",
    )


def test_the_cashiers_word_is_the_payment() -> None:
    channel = CashChannel(clock=lambda: AT)
    outcome = channel.create(REF)
    assert outcome.kind is OutcomeKind.SUCCEEDED
    assert (outcome.transaction_id, outcome.amount_fen, outcome.paid_at) == ("CASH-T00001", 20_000, AT)
    assert channel.query(REF) == channel.charge_code(REF) == outcome


def test_cash_cannot_be_closed_only_handed_back() -> None:
    channel = CashChannel()
    assert channel.close(REF).kind is channel.reverse(REF).kind is CloseKind.ALREADY_PAID
    request = RefundRequest(
        method=PayMethod.CASH,
        out_trade_no="T00001",
        out_refund_no="T00001Rrest",
        refund_fen=100,
        total_fen=20_000,
        reason="余额",
    )
    assert channel.refund(request) == channel.query_refund(request)
    assert (channel.refund(request).kind, channel.refund(request).code) == (RefundKind.REJECTED, "COUNTER")


def test_prepare_keeps_the_attempt() -> None:
    kept = json.loads(CashChannel().prepare(spec(PayMethod.CASH, 20_000)))
    assert kept == {"out_trade_no": "T00001", "total": 20_000, "station": "BJ01"}
    for method, amount in ((PayMethod.WECHAT_CODE, 1), (PayMethod.CASH, 0), (PayMethod.CASH, True)):
        with pytest.raises(ValueError):
            CashChannel().prepare(spec(method, amount))
