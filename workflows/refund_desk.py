"""Refunds of one order: each under one number until it is terminal, whatever the channel answers (R27-R34)."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.exceptions import ActivityError

from workflows.order_desk import Background, OrderDesk

with workflow.unsafe.imports_passed_through():
    from activities import options
    from activities.payments import PaymentActivities
    from contracts.payment import RefundOutcome, RefundRequest
    from domain import policy
    from domain.money import yuan
    from domain.payment import RefundKind

_PERSON = {
    RefundKind.ABNORMAL: "refund_abnormal",
    RefundKind.CLOSED: "refund_closed",
    RefundKind.REJECTED: "refund_rejected",
    RefundKind.INSUFFICIENT: "refund_balance_short",
}
RETURN_CASH = "return_cash"
_SLOW = "refund_slow"
_COUNTER = "COUNTER"
_ATTENTION_AFTER_LOOKS = 5


class RefundDesk:
    """The refunds of one order; each runs beside the main line."""

    def __init__(self, desk: OrderDesk, background: Background) -> None:
        self._desk, self._background = desk, background
        self._numbers: set[str] = set()
        self._poked: set[str] = set()
        self._waiting_person: dict[str, RefundRequest] = {}
        self._handed_back: dict[str, tuple[str, str]] = {}
        """Cash that a person handed back: who, and what they wrote."""
        self._retry: dict[str, tuple[str, str]] = {}

    def owe(self, request: RefundRequest) -> None:
        """Start a refund; the same number runs once."""
        if request.out_refund_no not in self._numbers:
            self._numbers.add(request.out_refund_no)
            self._background.start(self._run(request))

    def poke(self, out_refund_no: str) -> None:
        """A channel reported something about a refund: ask now."""
        self._poked.add(out_refund_no)

    def retry(self, actor: str, note: str) -> bool:
        """A person wants the waiting refunds tried again; False when none waits."""
        self._retry |= dict.fromkeys(self._waiting_person, (actor, note))
        return bool(self._waiting_person)

    def cash_returned(self, actor: str, note: str) -> bool:
        """A person handed the waiting cash back; False when no cash waits."""
        for number, request in self._waiting_person.items():
            if request.method.channel == "cash":
                self._handed_back[number] = (actor, note)
        return bool(self._handed_back)

    async def _run(self, request: RefundRequest) -> None:
        outcome = await self._call(PaymentActivities.refund_payment, request)
        looks = 0
        while outcome.kind is not RefundKind.SUCCEEDED:
            if outcome.kind in _PERSON:
                outcome = await self._wait_for_person(request, outcome)
                continue
            await self._wait_for_channel(request, looks)
            looks += 1
            if looks == _ATTENTION_AFTER_LOOKS:
                await self._desk.flag(_SLOW)
            outcome = await self._call(PaymentActivities.query_refund, request)
            if outcome.kind is RefundKind.NOT_FOUND:
                outcome = await self._call(PaymentActivities.refund_payment, request)
        await self._desk.record_refund(outcome, *self._handed_back.pop(request.out_refund_no, ("system", "")))
        await self._desk.unflag(_SLOW)

    async def _wait_for_channel(self, request: RefundRequest, looks: int) -> None:
        ladder = policy.REFUND_QUERY_LADDER
        number = request.out_refund_no
        patience = ladder[min(looks, len(ladder) - 1)]
        await _within(lambda: number in self._poked, patience, "等退款到账，到点向渠道查询")
        self._poked.discard(number)

    async def _wait_for_person(self, request: RefundRequest, outcome: RefundOutcome) -> RefundOutcome:
        """Keep how it stands, ask for a person and wait; a short balance is also tried again by itself.

        A report of the channel ends the wait too: finance may have mended the refund at the channel's own desk.
        """
        number = request.out_refund_no
        await self._desk.record_refund(outcome)
        at_counter = outcome.code == _COUNTER
        reason = RETURN_CASH if at_counter else _PERSON[outcome.kind]
        await self._desk.flag(reason)
        self._waiting_person[number] = request
        patience = timedelta(minutes=30) if outcome.kind is RefundKind.INSUFFICIENT else None
        await _within(
            lambda: number in self._retry or number in self._handed_back or number in self._poked,
            patience,
            "等人工处理退款",
        )
        del self._waiting_person[number]
        self._poked.discard(number)
        actor, note = self._retry.pop(number, ("system", ""))
        await self._desk.unflag(reason, actor, note)
        if number in self._handed_back:
            return RefundOutcome(
                kind=RefundKind.SUCCEEDED, out_refund_no=number, amount_fen=request.refund_fen, code=_COUNTER
            )
        return await self._call(PaymentActivities.refund_payment, request)

    async def _call(
        self, method: Callable[[Any, RefundRequest], RefundOutcome], request: RefundRequest
    ) -> RefundOutcome:
        summary = f"退款 {yuan(request.refund_fen)} 元"
        try:
            return await workflow.execute_activity_method(
                method, request, **options.named(options.CHANNEL_MOVE, summary)
            )
        except ActivityError:
            return RefundOutcome(kind=RefundKind.UNKNOWN, out_refund_no=request.out_refund_no)


async def _within(condition: Callable[[], bool], patience: timedelta | None, summary: str) -> None:
    """Wait for a condition, at most so long; the caller looks again either way."""
    try:
        await workflow.wait_condition(condition, timeout=patience, timeout_summary=summary)
    except TimeoutError:
        return
