"""Channel notifications: verified from the raw bytes, stored once, then signalled to the order.

A notification is only a hint: the order asks the channel itself. What cannot be signalled now stays in the inbox
for the relay. One for an order of ours that has ended may be money too much: `ReturnSurplus` finds out. One that
names nothing of ours is kept and alerted, and moves nothing. Another amount than we asked for is alerted and passed
on like any other: the channel is asked, and money that is there is held until a person releases it.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict

import structlog
from sqlalchemy import Connection

from api.database import Database
from api.ports import (
    ChannelNotification,
    Clock,
    NotificationVerifier,
    OrderEndedError,
    OrderLabels,
    TemporalAwayError,
    TemporalGateway,
)
from contracts.payment import PaymentReported
from db.repositories import inbox
from db.repositories.inbox import SOURCE_WECHAT, AttemptFacts

log = structlog.get_logger(__name__)

PAYMENT_EVENTS = "TRANSACTION."
REFUND_EVENTS = "REFUND."


def dedupe_id(note: ChannelNotification) -> str:
    """Return what makes an event unique: number, event and state. The channel's own id differs between repeats."""
    number = note.out_refund_no or note.out_trade_no or note.id
    return f"{number}:{note.event_type}:{note.state}"[:160]


class Receiver:
    """Stores notifications and passes them on."""

    def __init__(
        self, db: Database, verifier: NotificationVerifier, temporal: TemporalGateway, clock: Clock
    ) -> None:
        self._db, self._verifier, self._temporal, self._clock = db, verifier, temporal, clock

    async def receive(self, headers: Mapping[str, str], body: bytes) -> None:
        """Verify, store and pass on one notification.

        Raises NotificationRefusedError when it is not the channel's (then nothing is stored). Returns when it is
        stored, whether or not the order could be told.
        """
        note = await self._db.call(lambda: self._verifier.verify(headers, body))
        external_id = dedupe_id(note)
        facts, is_new, is_handled = await self._db.run(lambda conn: self._store(conn, note, body))
        log.info("api.notification.stored", event_type=note.event_type, id=external_id, new=is_new)
        if is_handled:
            return
        try:
            outcome = await self.handle(note, facts)
        except TemporalAwayError:
            log.warning("api.notification.left", id=external_id)
            return
        now = self._clock()
        await self._db.run_single(
            lambda conn: inbox.mark_handled(conn, SOURCE_WECHAT, external_id, outcome=outcome, now=now)
        )

    def _store(
        self, conn: Connection, note: ChannelNotification, body: bytes
    ) -> tuple[AttemptFacts | None, bool, bool]:
        external_id = dedupe_id(note)
        content = json.dumps({**asdict(note), "raw": body.decode("utf-8", "replace")}, ensure_ascii=False)
        is_new = inbox.store(
            conn,
            source=SOURCE_WECHAT,
            external_id=external_id,
            kind=note.event_type[:32],
            business_no=note.out_trade_no[:64],
            body=content,
            now=self._clock(),
        )
        is_handled = not is_new and inbox.is_handled(conn, SOURCE_WECHAT, external_id)
        return inbox.attempt_facts(conn, note.out_trade_no), is_new, is_handled

    async def handle(self, note: ChannelNotification, facts: AttemptFacts | None) -> str:
        """Tell the order; return what became of it. Raises TemporalAwayError when Temporal does not answer."""
        is_payment = note.event_type.startswith(PAYMENT_EVENTS)
        if not is_payment and not note.event_type.startswith(REFUND_EVENTS):
            log.warning("api.notification.unknown_event", event_type=note.event_type)
            return "unknown_event"
        if facts is None:
            log.error("api.notification.unknown_order", out_trade_no=note.out_trade_no)
            return "unknown_order"
        if is_payment and note.amount_fen != facts.amount_fen:
            log.error("api.notification.amount_differs", out_trade_no=note.out_trade_no)
        report = PaymentReported(
            out_trade_no=note.out_trade_no, out_refund_no=note.out_refund_no, notification_id=note.id
        )
        try:
            await self._temporal.report_payment(facts.order_no, report)
            return "signalled"
        except OrderEndedError:
            return await self._after_end(report, facts, is_payment=is_payment)

    async def _after_end(self, report: PaymentReported, facts: AttemptFacts, *, is_payment: bool) -> str:
        if facts.paid_by == report.out_trade_no and is_payment:
            return "order_ended"
        if not is_payment:
            try:
                await self._temporal.report_surplus(report)
            except OrderEndedError:
                return "order_ended"
            return "surplus_signalled"
        labels = OrderLabels(
            operator_code=facts.operator_code,
            station_code=facts.station_code,
            summary=f"退回多付款 {facts.station_code} {report.out_trade_no}",
        )
        log.warning("api.notification.surplus", out_trade_no=report.out_trade_no)
        await self._temporal.return_surplus(report, labels)
        return "surplus_started"
