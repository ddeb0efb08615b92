"""Stateful fakes of the API's ports: orders that answer, a mini-program host, a channel's signature."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from api.ports import (
    ChannelNotification,
    CommandRejectedError,
    LoginRefusedError,
    NotificationRefusedError,
    OrderEndedError,
    OrderLabels,
    TemporalAwayError,
)
from contracts.fill import (
    CancelCommand,
    CashCommand,
    CommandAnswer,
    PayAnswer,
    PayCommand,
    PayState,
    ResolveCommand,
    StartAnswer,
    StartFill,
    StartOutcome,
)
from contracts.payment import PaymentReported
from domain.order import OrderStatus
from domain.payment import PayMethod


@dataclass
class FakeTemporal:
    """Orders as Temporal would run them: one answer an update id, a start meets its earlier self."""

    on_start: Callable[[StartFill], None] = lambda fill: None
    away: bool = False
    outcome: StartOutcome = StartOutcome.ACCEPTED
    starts: dict[str, StartFill] = field(default_factory=dict)
    labels: dict[str, OrderLabels] = field(default_factory=dict)
    running: set[str] = field(default_factory=set)
    paid: dict[str, str] = field(default_factory=dict)
    commands: list[tuple[str, Any]] = field(default_factory=list)
    answers: dict[str, Any] = field(default_factory=dict)
    refuse: CommandAnswer | None = None
    rejects: tuple[str, str] | None = None
    """Code and words of a command that is not even accepted."""
    signals: list[PaymentReported] = field(default_factory=list)
    surplus: dict[str, PaymentReported] = field(default_factory=dict)
    start_calls: int = 0

    def _check(self) -> None:
        if self.away:
            raise TemporalAwayError("away")

    async def start_fill(self, fill: StartFill, labels: OrderLabels) -> StartAnswer:
        self._check()
        self.start_calls += 1
        first = self.starts.get(fill.order_no)
        if first is not None and first.body_hash != fill.body_hash:
            return StartAnswer(outcome=StartOutcome.KEY_REUSED, order_no=fill.order_no)
        if first is None and self.outcome is StartOutcome.ACCEPTED:
            self.running.add(fill.order_no)
            self.on_start(fill)
        self.starts.setdefault(fill.order_no, fill)
        self.labels.setdefault(fill.order_no, labels)
        pay = PayAnswer(
            state=PayState.WAITING,
            out_trade_no=f"{fill.order_no}A001",
            method=fill.method,
            amount_fen=fill.amount_fen,
            client_params={"package": "prepay_id=wx1"},
        )
        return StartAnswer(
            outcome=self.outcome,
            order_no=fill.order_no,
            price_fen_per_unit=fill.price_fen_per_unit,
            price_version=fill.price_version,
            amount_fen=fill.amount_fen,
            pay=pay if self.outcome is StartOutcome.ACCEPTED else None,
        )

    async def pay(self, order_no: str, command: PayCommand, update_id: str) -> PayAnswer:
        self._update(order_no, command)
        if update_id in self.answers:
            answer: PayAnswer = self.answers[update_id]
            return answer
        state = PayState.ALREADY_PAID if order_no in self.paid else PayState.WAITING
        if state is PayState.WAITING and command.method is PayMethod.WECHAT_CODE:
            self.paid[order_no] = command.screen
            state = PayState.PAID
        self.answers[update_id] = PayAnswer(
            state=state, out_trade_no=f"{order_no}A002", method=command.method, amount_fen=100
        )
        kept: PayAnswer = self.answers[update_id]
        return kept

    async def take_cash(self, order_no: str, command: CashCommand, update_id: str) -> CommandAnswer:
        return self._command(order_no, command, update_id, OrderStatus.COMPLETED)

    async def cancel(self, order_no: str, command: CancelCommand, update_id: str) -> CommandAnswer:
        return self._command(order_no, command, update_id, OrderStatus.CANCELLED)

    async def resolve(self, order_no: str, command: ResolveCommand, update_id: str) -> CommandAnswer:
        return self._command(order_no, command, update_id, OrderStatus.COMPLETED)

    def _command(self, order_no: str, command: Any, update_id: str, status: OrderStatus) -> CommandAnswer:
        self._update(order_no, command)
        answer = self.refuse or CommandAnswer(ok=True, status=status)
        found: CommandAnswer = self.answers.setdefault(update_id, answer)
        return found

    def _update(self, order_no: str, command: Any) -> None:
        self._check()
        if order_no not in self.running:
            raise OrderEndedError
        if self.rejects is not None:
            raise CommandRejectedError(*self.rejects)
        self.commands.append((order_no, command))

    async def report_payment(self, order_no: str, report: PaymentReported) -> None:
        self._check()
        if order_no not in self.running:
            raise OrderEndedError
        self.signals.append(report)

    async def report_surplus(self, report: PaymentReported) -> None:
        self._check()
        if report.out_trade_no not in self.surplus:
            raise OrderEndedError
        self.signals.append(report)

    async def return_surplus(self, report: PaymentReported, labels: OrderLabels) -> None:
        self._check()
        self.surplus.setdefault(report.out_trade_no, report)

    async def check(self) -> None:
        self._check()


class FakeMiniProgram:
    """Codes are `ok-<openid>` and `phone-<number>`; each works once."""

    def __init__(self) -> None:
        self._used: set[str] = set()

    def openid_of(self, code: str) -> str:
        return self._exchange(code, "ok-")

    def phone_of(self, code: str) -> str:
        return self._exchange(code, "phone-")

    def _exchange(self, code: str, prefix: str) -> str:
        if not code.startswith(prefix) or code in self._used:
            raise LoginRefusedError
        self._used.add(code)
        return code.removeprefix(prefix)


class FakeVerifier:
    """Accepts bodies that are JSON of a ChannelNotification when the signature header says `good`."""

    def verify(self, headers: Mapping[str, str], body: bytes) -> ChannelNotification:
        if headers.get("wechatpay-signature") != "good":
            raise NotificationRefusedError("bad_signature")
        try:
            return ChannelNotification(**json.loads(body))
        except (ValueError, TypeError) as error:
            raise NotificationRefusedError("malformed") from error
