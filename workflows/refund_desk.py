"""Refunds of one order: each under one number until it is terminal, whatever the channel answers (R27-R34).

A number that the channel closed stays closed: after a person's word the money is asked for under a new one.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from temporalio import workflow
from temporalio.exceptions import ActivityError

from workflows.order_desk import Background, OrderDesk, within

with workflow.unsafe.imports_passed_through():
    from activities import options
    from activities.payments import PaymentActivities
    from contracts.fill import CommandAnswer, ResolveAction, ResolveCommand
    from contracts.payment import RefundOutcome, RefundRequest
    from domain import policy
    from domain.money import yuan
    from domain.payment import (
        COUNTER,
        NEED_OF_REFUND,
        REFUND_SLOW,
        RETURN_CASH,
        RefundKind,
        cash_returned_zh,
    )

_NEVER_BY_CHANNEL = (RefundKind.CLOSED, RefundKind.REJECTED)
"""The channel's last word: it has not paid this number and will not by itself; ABNORMAL may still be paid."""
_ATTENTION_AFTER_LOOKS = 5


@dataclass(frozen=True, slots=True)
class Waiting:
    """A refund that waits for a person, and what that person was asked."""

    request: RefundRequest
    kind: RefundKind
    reason: str

    @property
    def is_cash(self) -> bool:
        """Return whether a person has to hand this money back anyway."""
        return self.request.method.channel == "cash"


@dataclass(frozen=True, slots=True)
class HandedBack:
    """A refund that a person handed back in cash: who, what they wrote, and how much in fen."""

    actor: str
    note: str
    refund_fen: int


class RefundDesk:
    """The refunds of one order; each runs beside the main line.

    `has_all`: every refund of the order runs here; else other runs of the order may have some.
    """

    def __init__(self, desk: OrderDesk, background: Background, *, has_all: bool) -> None:
        self._desk, self._background, self._has_all = desk, background, has_all
        self._numbers: set[str] = set()
        self._poked: set[str] = set()
        self._waiting: dict[str, Waiting] = {}
        self._handed_back: dict[str, HandedBack] = {}
        """By number, from the person's word on: it stays true, the books follow as soon as the database lets them."""
        self._retry: dict[str, tuple[str, str]] = {}

    def owe(self, request: RefundRequest) -> None:
        """Start a refund; the same number runs once."""
        if request.out_refund_no not in self._numbers:
            self._numbers.add(request.out_refund_no)
            self._background.start(self._run(request))

    def poke(self, out_refund_no: str) -> None:
        """A channel reported something about a refund: ask now."""
        self._poked.add(out_refund_no)

    async def decide(self, command: ResolveCommand) -> CommandAnswer:
        """Carry out RETRY_REFUND, RELEASE_HELD or CASH_RETURNED for the refunds that the person was asked about."""
        if command.action is ResolveAction.RETRY_REFUND:
            return self._retry_asked(command)
        if command.action is ResolveAction.RELEASE_HELD:
            return self._go_on(self._of_kind(held=True), command)
        if command.action is ResolveAction.CASH_RETURNED:
            return self.with_handed_back(command, await self._cash_returned(command))
        return self._answer("NOT_WAITING", "订单没有等待此项处理")

    @property
    def needs(self) -> set[str]:
        """Return what people are asked for by the refunds that wait."""
        return {one.reason for one in self._waiting.values()}

    def _asked(self, command: ResolveCommand) -> dict[str, Waiting]:
        """Return the waiting refunds that a decision is about; another need's decision is not theirs."""
        need = command.need or self._desk.order.needs_person
        return {number: one for number, one in self._waiting.items() if one.reason == need}

    def _retry_asked(self, command: ResolveCommand) -> CommandAnswer:
        """Ask the channel again for the refunds that the person was asked about; cash is not asked of any channel."""
        free = {n: one for n, one in self._of_kind(held=False).items() if not one.is_cash}
        asked = {number: one for number, one in self._asked(command).items() if number in free}
        return self._go_on(asked or ({} if command.need else free), command)

    def _of_kind(self, *, held: bool) -> dict[str, Waiting]:
        """Return the waiting refunds that are held, or that are not: no decision about one kind moves the other."""
        return {n: one for n, one in self._waiting.items() if (one.kind is RefundKind.HELD) is held}

    def _go_on(self, numbers: dict[str, Waiting], command: ResolveCommand) -> CommandAnswer:
        self._retry |= dict.fromkeys(numbers, (command.actor, command.note))
        return self._answer() if numbers else self._answer("NOT_WAITING", "订单没有等待此项处理")

    def with_handed_back(self, command: ResolveCommand, answer: CommandAnswer) -> CommandAnswer:
        """Return a refused CASH_RETURNED with what of it has been handed back already; done when it is all this person's.

        Such a refund waits for nobody any more, and until its transaction ends the books have it as owed: whoever
        clicks again meanwhile would be told to take the customer's cash back.
        """
        if answer.ok or command.action is not ResolveAction.CASH_RETURNED:
            return answer
        named = self._named(command)
        known = {number: self._handed_back[number] for number in named if number in self._handed_back}
        mine = {number: one.refund_fen for number, one in known.items() if one.actor == command.actor}
        others = {number: one.refund_fen for number, one in known.items() if number not in mine}
        fen = sum(mine.values())
        if others:
            answer = self._answer("ALREADY_DONE", "已由他人处理")
        elif mine and mine.keys() >= set(named):
            answer = self._answer("", cash_returned_zh(fen, earlier_fen=fen))
        return replace(
            answer,
            returned=tuple(mine),
            returned_fen=fen,
            earlier_fen=fen,
            by_others=tuple(others),
            by_others_fen=sum(others.values()),
        )

    def _named(self, command: ResolveCommand) -> list[str]:
        """Return the refunds that a person counted out, as far as they run here."""
        return [number for number in command.refund_nos if self._has_all or number in self._numbers]

    async def _cash_returned(self, command: ResolveCommand) -> CommandAnswer:
        """Take a person's word that the money went back in cash; the channel must be sure that it never pays it too.

        Only of the refunds that the person saw, as far as they run here: all of them or none.
        """
        waiting, named = self._asked(command), self._named(command)
        if not named or not self._waiting:
            return self._answer("NOT_WAITING", "订单没有等待此项处理")
        if any(number not in waiting for number in named):
            return self._answer("CHANGED", "应退金额已变化，请刷新后核对")
        asked = {number: waiting[number] for number in named}
        if any(one.kind not in _NEVER_BY_CHANNEL for one in asked.values()):
            return self._answer("NOT_WAITING", "订单没有等待此项处理")
        if command.by_cashier and not all(one.is_cash for one in asked.values()):
            return self._answer("MANAGER_NEEDED", "渠道退款改退现金，须由站长处理")
        for number, one in asked.items():
            if not one.is_cash and not await self._is_never_paid(number, one):
                return self._answer("CHANNEL_MAY_PAY", "渠道可能仍会退款，请勿退现金，稍后重试")
        earlier = {number: self._handed_back[number] for number in asked if number in self._handed_back}
        if any(one.actor != command.actor for one in earlier.values()):
            return self._answer("ALREADY_DONE", "已由他人处理")
        moved = {n for n, one in asked.items() if self._waiting.get(n) is not one or n in self._poked}
        if moved - earlier.keys():
            return self._answer("CHANNEL_MAY_PAY", "渠道可能仍会退款，请勿退现金，稍后重试")
        for number, one in asked.items():
            # who clicks again while the channel is slow has handed it back once
            word = HandedBack(command.actor, command.note, one.request.refund_fen)
            self._handed_back.setdefault(number, word)
        fen = sum(one.request.refund_fen for one in asked.values())
        earlier_fen = sum(one.refund_fen for one in earlier.values())
        words = cash_returned_zh(fen, earlier_fen=earlier_fen) if earlier else "已处理"
        return replace(
            self._answer("", words), returned=tuple(asked), returned_fen=fen, earlier_fen=earlier_fen
        )

    async def _is_never_paid(self, number: str, one: Waiting) -> bool:
        """Ask the channel once more: a person counts out the sum of all these refunds, so each of them has to be sure."""
        answer = await self._call(PaymentActivities.query_refund, one.request)
        if answer.kind in (*_NEVER_BY_CHANNEL, RefundKind.NOT_FOUND):
            return True
        if answer.kind is not RefundKind.UNKNOWN:
            self.poke(number)
        return False

    def _answer(self, code: str = "", message: str = "已处理") -> CommandAnswer:
        return CommandAnswer(ok=not code, status=self._desk.order.status, code=code, message=message)

    async def _run(self, request: RefundRequest) -> None:
        outcome = await self._begin(request)
        looks = asked = 0
        while outcome.kind is not RefundKind.SUCCEEDED:
            if outcome.kind in NEED_OF_REFUND:
                request, outcome = await self._wait_for_person(request, outcome, asked)
                asked += 1
                await self._record_underway(outcome)
                continue
            await self._wait_for_channel(request, looks)
            looks += 1
            if looks >= _ATTENTION_AFTER_LOOKS:
                await self._desk.flag(REFUND_SLOW)
            outcome = await self._call(PaymentActivities.query_refund, request)
            if outcome.kind is RefundKind.NOT_FOUND:
                outcome = await self._call(PaymentActivities.refund_payment, request)
        by = self._handed_back.get(request.out_refund_no)
        await self._desk.record_refund(outcome, *((by.actor, by.note) if by else ("system", "")))
        await self._desk.unflag(REFUND_SLOW)

    async def _record_underway(self, outcome: RefundOutcome) -> None:
        """Keep that a refund is with the channel again: what it stood at before is no amount that a person settles."""
        if outcome.kind is not RefundKind.SUCCEEDED and outcome.kind not in NEED_OF_REFUND:
            await self._desk.record_refund(replace(outcome, kind=RefundKind.PROCESSING))

    async def _begin(self, request: RefundRequest) -> RefundOutcome:
        if request.held:
            return RefundOutcome(kind=RefundKind.HELD, out_refund_no=request.out_refund_no)
        return await self._call(PaymentActivities.refund_payment, request)

    async def _wait_for_channel(self, request: RefundRequest, looks: int) -> None:
        ladder = policy.REFUND_QUERY_LADDER
        number = request.out_refund_no
        patience = policy.step(ladder, looks)
        await within(lambda: number in self._poked, patience, "等退款到账，到点向渠道查询")
        self._poked.discard(number)

    async def _wait_for_person(
        self, request: RefundRequest, outcome: RefundOutcome, asked: int
    ) -> tuple[RefundRequest, RefundOutcome]:
        """Keep how it stands, ask for a person and wait; a short balance is also tried again by itself.

        A report of the channel ends the wait too: finance may have mended the refund at the channel's own desk.
        """
        number = request.out_refund_no
        if outcome.kind is not RefundKind.HELD:
            await self._desk.record_refund(outcome)
        reason = RETURN_CASH if outcome.code == COUNTER else NEED_OF_REFUND[outcome.kind]
        await self._desk.flag(reason)
        self._waiting[number] = Waiting(request, outcome.kind, reason)
        await self._stay_asked(self._waiting[number], asked)
        del self._waiting[number]
        self._poked.discard(number)
        retried = number in self._retry
        actor, note = self._retry.pop(number, ("system", ""))
        await self._desk.unflag(reason, actor, note)
        if number in self._handed_back or not request.refund_fen:
            done = RefundOutcome(
                kind=RefundKind.SUCCEEDED, out_refund_no=number, amount_fen=request.refund_fen, code=COUNTER
            )
            return request, done
        if outcome.kind is RefundKind.CLOSED:
            return await self._after_closed(request, retried=retried)
        return request, await self._call(PaymentActivities.refund_payment, request)

    async def _stay_asked(self, one: Waiting, asked: int) -> None:
        """Ask for a person until this refund is decided, or its short balance is due to be tried again.

        Whoever was asked for something else first is done when the need is empty: then this one is asked for again.
        Another run of the order may have taken the need and given it back unseen, so the row is read now and then.
        """
        number, short = one.request.out_refund_no, one.kind is RefundKind.INSUFFICIENT
        ladder, looks = (policy.SHORT_BALANCE_LADDER, asked) if short else (policy.NEED_LOOK_LADDER, 0)
        while not self._is_decided(number):
            heard = await within(
                lambda: self._is_decided(number) or not self._desk.order.needs_person,
                policy.step(ladder, looks),
                "等人工处理退款",
            )
            if not heard and short:
                return
            if not heard:
                looks += 1
                await self._desk.look_again(one.request.out_trade_no)
            if not self._is_decided(number) and not self._desk.order.needs_decision:
                await self._desk.flag(one.reason)

    async def _after_closed(
        self, request: RefundRequest, *, retried: bool
    ) -> tuple[RefundRequest, RefundOutcome]:
        """Ask how a closed refund stands; still closed, and a person wants it tried again: under a new number.

        The new number is asked for only when the channel confirms that it never pays the old one.
        """
        answer = await self._call(PaymentActivities.query_refund, request)
        if answer.kind is RefundKind.NOT_FOUND:
            return request, await self._call(PaymentActivities.refund_payment, request)
        renewed = None
        if answer.kind is RefundKind.CLOSED and retried:
            renewed = await self._desk.renew_refund(request.out_refund_no)
        if renewed is None:
            return request, answer
        self._numbers.add(renewed.out_refund_no)
        return renewed, await self._call(PaymentActivities.refund_payment, renewed)

    def _is_decided(self, number: str) -> bool:
        """Return whether a waiting refund goes on; a channel knows nothing of one that was never asked for."""
        held = self._waiting[number].kind is RefundKind.HELD
        return number in self._retry or number in self._handed_back or (number in self._poked and not held)

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
