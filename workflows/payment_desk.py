"""Payment attempts of one order: create, ask, close, confirm a pay code, and post what arrived.

A plain class, no child workflow. One rule carries it: a channel call ends in one of five ways, only a confirmed
end counts, and Unknown is asked about until it is known (WeChat Pay: query, then close or reverse, then query).
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum, auto
from typing import Any, TypeVar

from temporalio import workflow
from temporalio.exceptions import ActivityError, FailureError, is_cancelled_exception

from workflows.order_desk import Background, OrderDesk, later

with workflow.unsafe.imports_passed_through():
    from activities import options
    from activities.payments import PaymentActivities
    from contracts.orders import PostVerdict
    from contracts.payment import AttemptRef, CloseOutcome, PaymentOutcome, RefundRequest
    from domain import policy
    from domain.payment import CloseKind, OutcomeKind, PayMethod

Answer = TypeVar("Answer")
_CREATE_AGAIN_AFTER = (timedelta(seconds=1), timedelta(seconds=2), timedelta(seconds=4))
_REVERSE_UNCONFIRMED, _UNCONFIRMED = "code_reverse_unconfirmed", "payment_unconfirmed"
_ATTENTION_AFTER_TRIES = 3
_ATTENTION_AFTER_LOOKS = 5
"""About five minutes of the ladder."""
_DEFINITE = (OutcomeKind.SUCCEEDED, OutcomeKind.FAILED)


class Shut(Enum):
    """How closing an attempt ended: it can never capture, it had been paid (and is posted), or nobody knows yet."""

    CLOSED = auto()
    PAID = auto()
    UNSURE = auto()


@dataclass(slots=True)
class Attempt:
    """An attempt that may still capture."""

    ref: AttemptRef
    begun_at: datetime
    next_look: datetime
    placed_at: datetime
    """When the channel was last asked to place it; the channel may not know it yet for a while."""
    looks: int = 0
    reversal: CloseKind | None = None
    """How its last reversal was answered; one without an answer may still pay the money back."""
    confirming: bool = False
    """A pay code with its own ladder beside the main line."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Placing, charging, asking and ending take turns: a reversal between a query and its posting would pay out twice."""

    def look_later(self) -> None:
        """Put the next look off by one more step of the ladder."""
        ladder = policy.PAYMENT_QUERY_LADDER
        self.looks += 1
        self.next_look = workflow.now() + policy.step(ladder, self.looks)


class PaymentDesk:
    """The attempts of one order."""

    def __init__(self, desk: OrderDesk, background: Background, owe: Callable[[RefundRequest], None]) -> None:
        self._desk, self._background, self._owe = desk, background, owe
        self.open: dict[str, Attempt] = {}
        self._codes: dict[str, Attempt] = {}
        """Every pay code, also when it has ended: a later look has to know how its reversal went, and how late it is."""
        self._posted: set[str] = set()
        self._reported: set[str] = set()
        self.not_kept: dict[str, PostVerdict] = {}
        """Money that the order does not keep, and what it is instead."""
        self.cancelling = False

    def add(self, ref: AttemptRef) -> Attempt:
        """Watch an attempt from now on."""
        now = workflow.now()
        attempt = self.open.get(ref.out_trade_no) or Attempt(
            ref=ref, begun_at=now, placed_at=now, next_look=now + policy.PAYMENT_QUERY_LADDER[0]
        )
        self.open[ref.out_trade_no] = attempt
        return attempt

    def next_look(self) -> datetime | None:
        """Return when an unreported attempt is to be asked about; None when there is none."""
        return min((a.next_look for a in self._on_main_line()), default=None)

    def _on_main_line(self) -> list[Attempt]:
        return [attempt for attempt in self.open.values() if not attempt.confirming]

    async def create(self, ref: AttemptRef) -> PaymentOutcome:
        """Place an attempt; an unknown answer is asked for again with the same bytes, a few times.

        Never again once somebody shut it in a pause between: nobody would watch the trade that this opens.
        """
        attempt = self.add(ref)
        outcome = await self._place(attempt)
        for pause in _CREATE_AGAIN_AFTER:
            if outcome.kind not in (OutcomeKind.UNKNOWN, OutcomeKind.NOT_FOUND):
                break
            await workflow.sleep(pause)
            outcome = await self._place(attempt)
        return outcome

    async def _place(self, attempt: Attempt) -> PaymentOutcome:
        """Ask the channel once to place an open attempt, and act on the answer before anybody else may end it."""
        ref = attempt.ref
        async with attempt.lock:
            if ref.out_trade_no not in self.open:
                kind = OutcomeKind.SUCCEEDED if self.knows(ref.out_trade_no) else OutcomeKind.FAILED
                return PaymentOutcome(kind=kind, out_trade_no=ref.out_trade_no, code="SHUT")
            outcome = await self._call(PaymentActivities.create_payment, ref)
            attempt.placed_at = workflow.now()
            await self._take(ref, outcome)
            return outcome

    async def charge_code(self, ref: AttemptRef) -> PaymentOutcome:
        """Charge a pay code once; unless it is decided at once, the ladder goes on beside the main line."""
        attempt = self._codes[ref.out_trade_no] = self.add(ref)
        async with attempt.lock:
            try:
                outcome = await workflow.execute_activity_method(
                    PaymentActivities.charge_code, ref, **options.named(options.CHANNEL_MOVE, "付款码扣款")
                )
            except ActivityError:
                outcome = _unknown(ref)
            attempt.placed_at = workflow.now()
            if outcome.kind in (OutcomeKind.PENDING, OutcomeKind.UNKNOWN, OutcomeKind.NOT_FOUND):
                attempt.confirming = True
                self._background.start(self._confirm_code(attempt))
                return outcome
            await self._take(ref, outcome)
        if outcome.kind is OutcomeKind.FAILED:
            self._background.start(self._bury_code(attempt))
        return outcome

    async def look(self, ref: AttemptRef) -> PaymentOutcome:
        """Ask the channel about an attempt, the truth behind every notification, and post or drop it."""
        attempt = self.open.get(ref.out_trade_no) or self._codes.get(ref.out_trade_no)
        if attempt is None:
            return await self._look(ref)
        attempt.look_later()
        async with attempt.lock:
            return await self._look(ref, attempt)

    async def _look(self, ref: AttemptRef, attempt: Attempt | None = None) -> PaymentOutcome:
        """Ask, and act on a definite answer; a success that a reversal may still pay back is not believed yet.

        After a confirmed reversal nothing is asked: the query may still show the success that has gone back.
        """
        if attempt is not None and attempt.reversal is CloseKind.CLOSED:
            return PaymentOutcome(kind=OutcomeKind.FAILED, out_trade_no=ref.out_trade_no, code="REVERSED")
        outcome = await self._call(PaymentActivities.query_payment, ref)
        if outcome.kind is OutcomeKind.SUCCEEDED and attempt is not None:
            if self._may_pay_back(attempt):
                return _unknown(ref)
            too_late = policy.CODE_QUERY_LIMIT + policy.CODE_QUERY_INTERVAL
            is_code = ref.method is PayMethod.WECHAT_CODE
            await self._take(ref, outcome, is_late=is_code and later(attempt.begun_at + too_late))
        elif outcome.kind in _DEFINITE:
            await self._take(ref, outcome)
        return outcome

    @staticmethod
    def _may_pay_back(attempt: Attempt) -> bool:
        """Return whether the last reversal got no answer; none is tried any more after a day, so none can be on its way."""
        is_unanswered = attempt.reversal is CloseKind.UNKNOWN
        return is_unanswered and not later(attempt.begun_at + policy.CODE_REVERSE_LIMIT)

    async def look_reported(self, ref: AttemptRef) -> None:
        """Ask about an attempt that its channel reported; nobody asks again later about one that is not open any more.

        So that one is asked about until the channel knows, beside the main line.
        """
        outcome = await self.look(ref)
        if outcome.kind not in _DEFINITE and ref.out_trade_no not in {*self.open, *self._reported}:
            self._reported.add(ref.out_trade_no)
            self._background.start(self._follow_reported(ref))

    async def _follow_reported(self, ref: AttemptRef) -> None:
        await workflow.sleep(policy.PAYMENT_QUERY_LADDER[0])
        await self.look_until_known(ref)
        self._reported.discard(ref.out_trade_no)

    async def look_until_known(self, ref: AttemptRef) -> PaymentOutcome:
        """Ask about an attempt until the channel knows, however long that takes; after a while a person is told."""
        outcome, looks = await self.look(ref), 0
        while outcome.kind not in _DEFINITE:
            if looks >= _ATTENTION_AFTER_LOOKS:
                await self._desk.look_again(ref.out_trade_no)
                await self._desk.flag(_UNCONFIRMED)
            await workflow.sleep(policy.step(policy.PAYMENT_QUERY_LADDER, looks))
            looks += 1
            outcome = await self.look(ref)
        await self._desk.unflag(_UNCONFIRMED)
        return outcome

    async def look_at_due(self) -> None:
        """Ask about every attempt whose time has come; one that nobody can pay any more is closed instead."""
        for attempt in list(self.open.values()):
            if attempt.confirming or not later(attempt.next_look):
                continue
            if later(attempt.begun_at + policy.PAYMENT_WINDOW + policy.EXPIRED_GRACE):
                attempt.look_later()
                await self.shut(attempt)
            else:
                await self.look(attempt.ref)

    def knows(self, out_trade_no: str) -> bool:
        """Return whether the money of this attempt is already in the books."""
        return out_trade_no in self._posted

    async def shut(self, attempt: Attempt) -> Shut:
        """Make an attempt unpayable, or learn that it was paid (then it is posted)."""
        async with attempt.lock:
            if attempt.ref.out_trade_no in self.open:
                return await self._shut(attempt)
            return Shut.PAID if self.knows(attempt.ref.out_trade_no) else Shut.CLOSED

    async def _shut(self, attempt: Attempt) -> Shut:
        ref = attempt.ref
        closed = await self._close(ref)
        if closed.kind is CloseKind.MUST_REVERSE:
            closed = await self._reverse(attempt)
        gone = closed.kind is CloseKind.NOT_FOUND and later(attempt.placed_at + policy.NOT_FOUND_GRACE)
        if closed.kind is CloseKind.CLOSED or gone:
            await self._closed(ref, closed)
            return Shut.CLOSED
        return await self._ask_instead(attempt)

    async def _ask_instead(self, attempt: Attempt) -> Shut:
        """Ask about an attempt whose end was not confirmed: it was paid, or the channel has ended it by itself."""
        ref = attempt.ref
        outcome = await self._look(ref, attempt)
        if outcome.kind is OutcomeKind.SUCCEEDED:
            return Shut.PAID
        if outcome.kind is OutcomeKind.FAILED:
            return Shut.CLOSED
        is_gone = outcome.kind is OutcomeKind.NOT_FOUND and not self._may_pay_back(attempt)
        if is_gone and later(attempt.placed_at + policy.NOT_FOUND_GRACE):
            await self._closed(ref, CloseOutcome(kind=CloseKind.NOT_FOUND, out_trade_no=ref.out_trade_no))
            return Shut.CLOSED
        return Shut.UNSURE

    async def shut_all(self) -> Shut:
        """Shut every open attempt: PAID as soon as one had been paid, UNSURE when one is not known."""
        unsure = False
        for attempt in list(self.open.values()):
            match await self.shut(attempt):
                case Shut.PAID:
                    return Shut.PAID
                case Shut.UNSURE:
                    unsure = True
                case Shut.CLOSED:
                    continue
        return Shut.UNSURE if unsure else Shut.CLOSED

    async def shut_leftovers(self) -> None:
        """After the order is paid: shut every other attempt, however long that takes; a late capture goes back.

        One that stays unconfirmed may have been paid too: after a while a person is told.
        """
        rounds = 0
        while self.open:
            for attempt in self._on_main_line():
                await self.shut(attempt)
            rounds += 1
            if rounds > _ATTENTION_AFTER_LOOKS and self._on_main_line():
                await self._desk.flag(_UNCONFIRMED)
            if self.open:
                ladder = policy.PAYMENT_QUERY_LADDER
                await workflow.sleep(policy.step(ladder, rounds - 1))
        await self._desk.unflag(_UNCONFIRMED)

    async def _take(self, ref: AttemptRef, outcome: PaymentOutcome, *, is_late: bool = False) -> None:
        """Act on a definite outcome; a QR code is kept for the screens that draw it, anything else changes nothing.

        Money that came too late (`is_late`) releases no pump: it pays fuel that has flowed, or goes back.
        """
        if outcome.kind is OutcomeKind.PENDING and ref.method is PayMethod.WECHAT_NATIVE:
            await self._desk.record_attempt(outcome)
        elif outcome.kind is OutcomeKind.FAILED:
            self.open.pop(ref.out_trade_no, None)
            await self._desk.record_attempt(outcome)
        elif outcome.kind is OutcomeKind.SUCCEEDED:
            self.open.pop(ref.out_trade_no, None)
            again = self.knows(ref.out_trade_no)
            self._posted.add(ref.out_trade_no)
            posted = await self._desk.post_payment(outcome, cancelled=self.cancelling or is_late)
            if posted.verdict is not PostVerdict.ACCEPTED:
                self.not_kept[ref.out_trade_no] = posted.verdict
            if posted.refund is not None:
                self._owe(posted.refund)
            if posted.verdict is PostVerdict.ACCEPTED and self.open and not again:
                self._background.start(self.shut_leftovers())

    async def _closed(self, ref: AttemptRef, closed: CloseOutcome) -> None:
        self.open.pop(ref.out_trade_no, None)
        outcome = PaymentOutcome(
            kind=OutcomeKind.FAILED, out_trade_no=ref.out_trade_no, code=closed.code or "CLOSED"
        )
        await self._desk.record_attempt(outcome, closed=True)

    async def _confirm_code(self, attempt: Attempt) -> None:
        """付款码: ask every 5 s up to 45 s, then reverse until that is confirmed; fuel is never given on a late success."""
        ref = attempt.ref
        give_up = attempt.begun_at + policy.CODE_QUERY_LIMIT
        while not later(give_up):
            await workflow.sleep(policy.CODE_QUERY_INTERVAL)
            outcome = await self.look(ref)
            if outcome.kind in (OutcomeKind.SUCCEEDED, OutcomeKind.FAILED):
                return
            if outcome.kind is OutcomeKind.NOT_FOUND and later(attempt.begun_at + policy.NOT_FOUND_GRACE):
                break
        await self._end_code(attempt, self._is_shut)

    async def _end_code(self, attempt: Attempt, is_over: Callable[[Attempt], Awaitable[bool]]) -> None:
        """Try to end a pay code until that is confirmed, however long that takes; after a while a person is told."""
        tries = 0
        while not await is_over(attempt):
            tries += 1
            if tries >= _ATTENTION_AFTER_TRIES:
                await self._desk.flag(_REVERSE_UNCONFIRMED)
            await workflow.sleep(policy.step(policy.PAYMENT_QUERY_LADDER, tries - 1))
        await self._desk.unflag(_REVERSE_UNCONFIRMED)

    async def _is_shut(self, attempt: Attempt) -> bool:
        return await self.shut(attempt) is not Shut.UNSURE

    async def _bury_code(self, attempt: Attempt) -> None:
        """Reverse a refused pay code too, so that the first attempt can never capture after a second method (000-3).

        WeChat takes no reversal in the first 15 seconds. Money that came all the same is in the books by then and
        stays there: reversing it would pay it back behind them. Until a reversal is confirmed, the query is asked too.
        """
        early = attempt.placed_at + policy.CODE_REVERSE_NOT_BEFORE - workflow.now()
        await workflow.sleep(max(early, timedelta(0)))
        await self._end_code(attempt, self._is_buried)

    async def _is_buried(self, attempt: Attempt) -> bool:
        async with attempt.lock:
            if self.knows(attempt.ref.out_trade_no):
                return True
            closed = await self._reverse(attempt)
            if closed.kind not in (CloseKind.REFUSED, CloseKind.UNKNOWN):
                return True
            outcome = await self._look(attempt.ref, attempt)
            return outcome.kind not in (OutcomeKind.PENDING, OutcomeKind.UNKNOWN)

    async def _close(self, ref: AttemptRef) -> CloseOutcome:
        if ref.method is PayMethod.WECHAT_CODE:
            return CloseOutcome(kind=CloseKind.MUST_REVERSE, out_trade_no=ref.out_trade_no)
        return await self._end_call(PaymentActivities.close_payment, ref)

    async def _reverse(self, attempt: Attempt) -> CloseOutcome:
        """Reverse a pay code; no longer after a day, when only the query and a person can tell what became of it (R21).

        Nor in the seconds in which WeChat refuses it: a success that comes then is the customer's payment.
        """
        is_early = not later(attempt.placed_at + policy.CODE_REVERSE_NOT_BEFORE)
        if is_early or later(attempt.begun_at + policy.CODE_REVERSE_LIMIT):
            number, code = attempt.ref.out_trade_no, "TOO_EARLY" if is_early else "TOO_LATE"
            return CloseOutcome(kind=CloseKind.REFUSED, out_trade_no=number, code=code)
        closed = await self._end_call(PaymentActivities.reverse_payment, attempt.ref)
        attempt.reversal = closed.kind
        return closed

    async def _call(
        self, method: Callable[[Any, AttemptRef], PaymentOutcome], ref: AttemptRef
    ) -> PaymentOutcome:
        try:
            return await workflow.execute_local_activity_method(method, ref, **options.CHANNEL_READ)
        except FailureError as error:
            if is_cancelled_exception(error):
                raise
            return _unknown(ref)

    async def _end_call(
        self, method: Callable[[Any, AttemptRef], CloseOutcome], ref: AttemptRef
    ) -> CloseOutcome:
        try:
            return await workflow.execute_activity_method(method, ref, **options.CHANNEL_MOVE)
        except ActivityError:
            return CloseOutcome(kind=CloseKind.UNKNOWN, out_trade_no=ref.out_trade_no, code="NO_ANSWER")


def _unknown(ref: AttemptRef) -> PaymentOutcome:
    return PaymentOutcome(kind=OutcomeKind.UNKNOWN, out_trade_no=ref.out_trade_no, code="NO_ANSWER")
