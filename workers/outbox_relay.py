"""The outbox relay.

Sends what customers are owed (the receipt message), at least once, never lost, in the background.

A one-time subscription that the user refused is final, everything else is tried again with growing pauses.
"""

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from sqlalchemy.exc import SQLAlchemyError

from adapters.miniprogram.client import MiniProgramClient
from adapters.miniprogram.errors import MessageInvalidError, MiniProgramError, SubscribeRefusedError
from db.repositories.outbox import DueMessage, OutboxRelayStore, Outcome

log = structlog.get_logger(__name__)

_BATCH = 50
_PAUSE_S = 1.0
_LONGEST_PAUSE = timedelta(minutes=30)
RECEIPT_TEMPLATE = "fill-receipt"
"""Template id of the subscription message; the real one comes with the merchant's mini-program."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Relay:
    """Sends due messages through the mini-program host."""

    store: OutboxRelayStore
    client: MiniProgramClient
    decrypt_openid: Callable[[str], str]
    clock: Callable[[], datetime]

    def run_once(self) -> int:
        """Send what is due; return how many were looked at."""
        due = self.store.claim(self.clock(), _BATCH)
        self.store.finish([self._send(message) for message in due], self.clock())
        return len(due)

    def _send(self, message: DueMessage) -> Outcome:
        if message.openid_cipher is None:
            return Outcome(message_id=message.id, outcome="nobody to tell")
        try:
            return self._try(message, message.openid_cipher)
        except Exception as error:  # noqa: BLE001 - one message that nobody can send must not stop the others
            log.error("outbox.message_broken", order_no=message.order_no, error=type(error).__name__)
            return self._later(message, type(error).__name__)

    def _try(self, message: DueMessage, openid_cipher: str) -> Outcome:
        try:
            self.client.send_subscribe_message(
                openid=self.decrypt_openid(openid_cipher),
                template_id=RECEIPT_TEMPLATE,
                data=receipt_fields(json.loads(message.body)),
                page=f"pages/order?no={message.order_no}",
            )
        except (SubscribeRefusedError, MessageInvalidError) as error:
            return Outcome(message_id=message.id, outcome=f"refused {error.errcode}")
        except MiniProgramError as error:
            log.warning("outbox.postponed", order_no=message.order_no, errcode=error.errcode)
            return self._later(message, str(error.errcode))
        return Outcome(message_id=message.id, outcome="sent")

    def _later(self, message: DueMessage, why: str) -> Outcome:
        pause = min(timedelta(seconds=5) * 2 ** min(message.attempts, 10), _LONGEST_PAUSE)
        return Outcome(message_id=message.id, outcome=f"later {why}"[:64], again_at=self.clock() + pause)

    def run_forever(self, stop: threading.Event) -> None:
        """Send until asked to stop; a database that is away is waited for."""
        while not stop.is_set():
            try:
                busy = self.run_once() == _BATCH
            except SQLAlchemyError as error:
                log.warning("outbox.database_away", error=type(error).__name__)
                busy = False
            if not busy:
                stop.wait(_PAUSE_S)


def receipt_fields(body: dict[str, str | int]) -> dict[str, str]:
    """Return the fields of the receipt message: amount, nozzle and quantity (000-3).

    WeChat allows 20 characters each.
    """
    return {
        "amount1": f"¥{body['amount_yuan']}",
        "thing2": f"{body['nozzle_no']}号枪 {body['product']}"[:20],
        "thing3": f"{body['quantity']}{body['unit']}",
        "thing4": str(body["station"])[:20],
        "character_string5": str(body["receipt_no"])[:32],
    }
