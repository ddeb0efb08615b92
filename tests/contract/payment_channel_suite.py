"""The contract of `PaymentChannel`, as scenarios: every adapter passes them against its simulated outside world.

A channel gives a `Rig`: the channel itself, hands to act as the customer, and the outside world's own book, which
is what the answers are held against.
"""

from abc import ABC, abstractmethod
from datetime import UTC, datetime, timedelta

import pytest

from activities.ports import PaymentChannel
from contracts.payment import AttemptRef, AttemptSpec, PaymentOutcome, RefundRequest
from domain.payment import CloseKind, OutcomeKind, PayMethod, RefundKind

TOTAL = 20_000


class Rig(ABC):
    """A channel in its simulated world."""

    channel: PaymentChannel
    method: PayMethod

    @abstractmethod
    def pay(self, outcome: PaymentOutcome) -> None:
        """Let the customer pay what `create` answered."""

    @abstractmethod
    def advance(self, seconds: int) -> None:
        """Let time pass in the outside world."""

    @abstractmethod
    def paid_fen(self, out_trade_no: str) -> int:
        """What the outside world's book says was taken."""

    @abstractmethod
    def refunded_fen(self, out_trade_no: str) -> int:
        """What the outside world's book says went back."""

    @abstractmethod
    def fault(self, phase: str, action: str, value: str = "") -> None:
        """Spoil the next call `before` or `after` it is executed."""


def attempt(
    rig: Rig,
    number: str,
    *,
    method: PayMethod | None = None,
    payer: str = "oPayer",
    description: str = "92号汽油",
) -> AttemptRef:
    """Prepare an attempt as the product does: the bytes are made once."""
    chosen = method or rig.method
    spec = AttemptSpec(
        out_trade_no=number,
        method=chosen,
        amount_fen=TOTAL,
        description=description,
        expires_at=datetime.now(tz=UTC).replace(microsecond=0) + timedelta(minutes=5),
        station_code="BJ01",
        payer=payer,
    )
    body = rig.channel.prepare(spec)
    assert rig.channel.prepare(spec) == body
    return AttemptRef(out_trade_no=number, method=chosen, amount_fen=TOTAL, request_body=body)


def refund_of(ref: AttemptRef, fen: int, reason: str = "余额退回") -> RefundRequest:
    """A refund of an attempt."""
    return RefundRequest(
        method=ref.method,
        out_trade_no=ref.out_trade_no,
        out_refund_no=f"{ref.out_trade_no}Rrest",
        refund_fen=fen,
        total_fen=TOTAL,
        reason=reason,
    )


def assert_paid(outcome: PaymentOutcome) -> None:
    """A success names the trade, the order's total and the time, and is proved."""
    assert outcome.kind is OutcomeKind.SUCCEEDED, outcome
    assert outcome.amount_fen == TOTAL
    assert outcome.transaction_id
    assert outcome.paid_at is not None
    assert outcome.paid_at.tzinfo is not None
    assert outcome.signed


class ChannelSuite:
    """What every channel keeps, cash too."""

    def test_name_is_the_methods_channel(self, rig: Rig) -> None:
        assert rig.channel.name == rig.method.channel

    def test_an_attempt_is_paid_once(self, rig: Rig) -> None:
        ref = attempt(rig, "CONTRACT01")
        rig.pay(rig.channel.create(ref))
        first = rig.channel.query(ref)
        assert_paid(first)
        again = rig.channel.create(ref)
        assert again.kind in (OutcomeKind.SUCCEEDED, OutcomeKind.UNKNOWN)
        assert not again.new_attempt_allowed
        assert_paid(rig.channel.query(ref))
        assert rig.channel.query(ref).transaction_id == first.transaction_id
        assert rig.paid_fen("CONTRACT01") == TOTAL

    def test_a_paid_attempt_does_not_close(self, rig: Rig) -> None:
        ref = attempt(rig, "CONTRACT02")
        rig.pay(rig.channel.create(ref))
        assert rig.channel.close(ref).kind is CloseKind.ALREADY_PAID
        assert_paid(rig.channel.query(ref))

    def test_a_refund_has_a_definite_answer_and_may_be_repeated(self, rig: Rig) -> None:
        ref = attempt(rig, "CONTRACT03")
        rig.pay(rig.channel.create(ref))
        request = refund_of(ref, 5_000)
        kinds = {rig.channel.refund(request).kind for _ in range(3)}
        assert kinds <= {RefundKind.PROCESSING, RefundKind.SUCCEEDED, RefundKind.REJECTED}
        rig.advance(60)
        assert rig.channel.query_refund(request).kind in (RefundKind.SUCCEEDED, RefundKind.REJECTED)
        assert rig.refunded_fen("CONTRACT03") in (0, 5_000)

    def test_nothing_below_one_fen(self, rig: Rig) -> None:
        spec = AttemptSpec(
            out_trade_no="CONTRACT04",
            method=rig.method,
            amount_fen=0,
            description="x",
            expires_at=datetime.now(tz=UTC),
            station_code="BJ01",
            payer="oPayer",
        )
        with pytest.raises(ValueError):
            rig.channel.prepare(spec)


class RemoteChannelSuite(ChannelSuite):
    """What a channel behind a network keeps besides."""

    def test_unpaid_is_pending_until_closed(self, rig: Rig) -> None:
        ref = attempt(rig, "CONTRACT11")
        created = rig.channel.create(ref)
        assert (created.kind, created.signed) == (OutcomeKind.PENDING, True)
        assert created.client_params
        assert rig.channel.query(ref).kind is OutcomeKind.PENDING
        assert rig.channel.close(ref).kind is CloseKind.CLOSED
        assert rig.channel.close(ref).kind is CloseKind.CLOSED
        ended = rig.channel.query(ref)
        assert (ended.kind, ended.new_attempt_allowed) == (OutcomeKind.FAILED, True)
        assert rig.channel.create(ref).kind is OutcomeKind.FAILED
        assert rig.paid_fen("CONTRACT11") == 0

    def test_a_repeated_create_is_the_same_order(self, rig: Rig) -> None:
        ref = attempt(rig, "CONTRACT12")
        assert rig.channel.create(ref).kind is OutcomeKind.PENDING
        again = rig.channel.create(ref)
        assert again.kind is OutcomeKind.PENDING
        rig.pay(again)
        assert rig.paid_fen("CONTRACT12") == TOTAL

    def test_reentry_after_payment_is_unknown_then_paid(self, rig: Rig) -> None:
        ref = attempt(rig, "CONTRACT13")
        rig.pay(rig.channel.create(ref))
        assert rig.channel.create(ref).kind is OutcomeKind.UNKNOWN
        assert_paid(rig.channel.query(ref))

    def test_changed_parameters_are_unknown_not_failed(self, rig: Rig) -> None:
        ref = attempt(rig, "CONTRACT14")
        changed = attempt(rig, "CONTRACT14", description="95号汽油")
        rig.channel.create(ref)
        assert rig.channel.create(changed).kind is OutcomeKind.UNKNOWN

    def test_missing_things_are_not_found(self, rig: Rig) -> None:
        ref = attempt(rig, "CONTRACT15")
        assert rig.channel.query(ref).kind is OutcomeKind.NOT_FOUND
        assert rig.channel.close(ref).kind is CloseKind.NOT_FOUND
        assert rig.channel.query_refund(refund_of(ref, 1)).kind is RefundKind.NOT_FOUND
        assert rig.channel.refund(refund_of(ref, 1)).kind is RefundKind.REJECTED

    @pytest.mark.parametrize("action", ["lost", "truncate", "badsig", "unsigned", "html502", "code"])
    def test_executed_but_not_answered(self, rig: Rig, action: str) -> None:
        """The order exists, the answer is lost or not believable: UNKNOWN, and the same bytes find it again."""
        ref = attempt(rig, "CONTRACT16")
        rig.fault("after", action, "SYSTEM_ERROR")
        assert rig.channel.create(ref).kind is OutcomeKind.UNKNOWN
        assert rig.channel.query(ref).kind is OutcomeKind.PENDING
        assert rig.channel.create(ref).kind is OutcomeKind.PENDING

    @pytest.mark.parametrize("action", ["reset_conn", "html502", "code"])
    def test_not_executed(self, rig: Rig, action: str) -> None:
        ref = attempt(rig, "CONTRACT17")
        rig.fault("before", action, "SYSTEM_ERROR")
        assert rig.channel.create(ref).kind is OutcomeKind.UNKNOWN
        assert rig.channel.query(ref).kind is OutcomeKind.NOT_FOUND

    @pytest.mark.parametrize("action", ["lost", "badsig", "unsigned", "html502", "code"])
    def test_every_question_may_stay_unanswered(self, rig: Rig, action: str) -> None:
        ref, unpaid = attempt(rig, "CONTRACT18"), attempt(rig, "CONTRACT28")
        rig.pay(rig.channel.create(ref))
        rig.channel.create(unpaid)
        request = refund_of(ref, 1)
        rig.channel.refund(request)
        rig.fault("after", action, "SYSTEM_ERROR")
        assert rig.channel.query(ref).kind is OutcomeKind.UNKNOWN
        rig.fault("after", action, "SYSTEM_ERROR")
        assert rig.channel.close(unpaid).kind is CloseKind.UNKNOWN
        rig.fault("after", action, "SYSTEM_ERROR")
        assert rig.channel.query_refund(request).kind is RefundKind.UNKNOWN

    @pytest.mark.parametrize("action", ["lost", "truncate", "badsig", "unsigned", "html502", "code"])
    def test_an_unanswered_refund_is_repeated_and_pays_once(self, rig: Rig, action: str) -> None:
        ref = attempt(rig, "CONTRACT19")
        rig.pay(rig.channel.create(ref))
        request = refund_of(ref, 5_000)
        rig.fault("after", action, "SYSTEM_ERROR")
        assert rig.channel.refund(request).kind is RefundKind.UNKNOWN
        assert rig.channel.refund(request).kind in (RefundKind.PROCESSING, RefundKind.SUCCEEDED)
        rig.advance(60)
        settled = rig.channel.query_refund(request)
        assert (settled.kind, settled.amount_fen) == (RefundKind.SUCCEEDED, 5_000)
        assert settled.refund_id
        assert rig.refunded_fen("CONTRACT19") == 5_000

    def test_a_refund_beyond_the_payment_is_rejected(self, rig: Rig) -> None:
        ref = attempt(rig, "CONTRACT20")
        rig.pay(rig.channel.create(ref))
        assert rig.channel.refund(refund_of(ref, TOTAL + 1)).kind is RefundKind.REJECTED
        assert rig.refunded_fen("CONTRACT20") == 0

    def test_an_unpaid_attempt_cannot_be_refunded(self, rig: Rig) -> None:
        ref = attempt(rig, "CONTRACT21")
        rig.channel.create(ref)
        assert rig.channel.refund(refund_of(ref, 1)).kind is RefundKind.REJECTED

    def test_a_refunded_attempt_still_counts_as_paid(self, rig: Rig) -> None:
        ref = attempt(rig, "CONTRACT22")
        rig.pay(rig.channel.create(ref))
        rig.channel.refund(refund_of(ref, TOTAL))
        rig.advance(60)
        assert_paid(rig.channel.query(ref))
        assert rig.refunded_fen("CONTRACT22") == TOTAL
