"""A fuelling point's buffer of finished transactions: each is read, stored durably, and only then cleared.

The buffer counts as empty only when the device says so itself: a device that is busy, or that keeps a transaction,
has none of its orders released or ended over what may lie there.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Collection
from typing import Protocol

import structlog

from station_gateway.client.health import BUFFERS_UNREADABLE, CLEARS_REFUSED
from station_gateway.client.link import DispenserLink
from station_gateway.client.outbox import Outbox
from station_gateway.client.sales import (
    SALE_IDS,
    PointKey,
    content_of,
    is_same_transaction,
    readable,
)
from station_gateway.client.states import Found
from station_gateway.protocols.ifsf.ids import (
    UNPAID,
    TransactionId,
    TransactionState,
    sequence_of,
    transaction_db,
)
from station_gateway.protocols.ifsf.messages import ACK_OK, NOT_IN_THIS_STATE, Message, MessageType
from station_gateway.protocols.ifsf.numbers import bcd_to_int

log = structlog.get_logger(__name__)

BUSY_TRIES = 3
"""How often a busy device is asked again before an order is refused."""
LATE_CLEAR_S = 30.0
"""How long after an acknowledged clear a transaction like it may be the same one, shown by a device that lags."""
RECOVERY_LIMIT = 64
"""More unpaid transactions than any device holds; ends the loop when a device never stops answering."""


class Store(Protocol):
    """Writes a transaction to the outbox, durably."""

    def __call__(self, sequence: int, values: dict[int, bytes], *, recovered: bool) -> Awaitable[None]:
        """Store the transaction with this number and these data. Raises LinkError, IfsfError."""
        ...


class TransactionBuffer:
    """The transactions that a device keeps until they are cleared. The caller holds the point's lock."""

    def __init__(
        self,
        *,
        key: PointKey,
        link: DispenserLink,
        outbox: Outbox,
        store: Store,
        empty_acks: Collection[int],
        retry_s: float,
    ) -> None:
        self._key, self._link, self._outbox, self._store = key, link, outbox, store
        self._empty_acks, self._retry_s = empty_acks, retry_s
        self.is_empty = False
        """Whether the device has said that nothing is left, and has kept or hidden nothing since."""
        self._cleared: dict[int, tuple[str, float]] = {}
        """Transactions whose clear the device acknowledged, by number: content, and until when it may show them."""

    async def empty(self, *, recovered: bool, busy_tries: int = 0) -> bool:
        """Collect until the device says that its buffer is empty; then a release's next transaction is its own.

        A device that does not tell is asked `busy_tries` times more. False: something is left, or it still does not
        tell. Raises LinkError, IfsfError.
        """
        self.is_empty = False
        busy = 0
        for _ in range(RECOVERY_LIMIT):
            found = await self.collect(0, recovered=recovered)
            if found is Found.NONE:
                self._cleared.clear()
                found = await self._collect_known(recovered=recovered)
            if found is Found.BUSY and busy < busy_tries:
                busy += 1
                await asyncio.sleep(self._retry_s)
            elif found is not Found.CLEARED:
                self.is_empty = found is Found.NONE
                return self.is_empty
        return False

    async def _collect_known(self, *, recovered: bool) -> Found:
        """Read by its number what was stored and not cleared, and forget it once the device says that it is gone."""
        for sequence in self._outbox.uncleared_of(self._key.node, self._key.fp):
            found = await self.collect(sequence, recovered=recovered)
            if found is not Found.NONE:
                return found
            self._outbox.cleared(self._key.node, self._key.fp, sequence)
        return Found.NONE

    async def collect(self, sequence: int, *, recovered: bool) -> Found:
        """Read a transaction (0: the oldest unpaid), store it, clear it. Raises LinkError, IfsfError.

        One that is shown again although its clear was acknowledged is cleared again, and the device counts as busy.
        """
        found = await self._take(sequence, recovered=recovered)
        self.is_empty &= found in (Found.NONE, Found.CLEARED)
        return found

    async def _take(self, sequence: int, *, recovered: bool) -> Found:
        node, fp = self._key.node, self._key.fp
        answer = await self._link.read(transaction_db(fp, sequence), SALE_IDS)
        values = answer.values()
        state = values.get(TransactionId.STATE, b"\0")[-1]
        told = values.get(TransactionId.SEQUENCE)
        real = sequence_of(answer.database) or (bcd_to_int(told) if told else 0)
        if self._says_none(sequence, answer, real, state):
            return Found.NONE
        if not real or state not in UNPAID:
            BUFFERS_UNREADABLE.labels(node, fp).inc()
            log.warning(
                "point.buffer.unreadable",
                node=node,
                fp=fp,
                ms_ack=answer.ack,
                ids=sorted(values),
                state=state,
            )
            return Found.BUSY
        values = readable(values)
        content, stored = content_of(values), self._outbox.uncleared(node, fp, real)
        is_shown_again = self._is_shown_again(real, content)
        if not is_shown_again and (stored is None or not is_same_transaction(stored, content)):
            await self._store(real, values, recovered=recovered)
        cleared = await self._link.write(transaction_db(fp, real), (TransactionId.CLEAR, b""))
        if cleared.ack != ACK_OK:
            CLEARS_REFUSED.labels(node, fp).inc()
            log.warning("point.clear.refused", node=node, fp=fp, sequence=real)
            return Found.STUCK
        self._outbox.cleared(node, fp, real)
        if is_shown_again:  # it is known from here on until it is gone, however long that takes
            self._cleared[real] = content, math.inf
            return Found.BUSY
        self._cleared[real] = content, time.monotonic() + LATE_CLEAR_S
        return Found.CLEARED

    def _is_shown_again(self, sequence: int, content: str) -> bool:
        """Return whether the device shows what it has just acknowledged as cleared; what is long gone is forgotten."""
        now = time.monotonic()
        self._cleared = {one: gone for one, gone in self._cleared.items() if gone[1] > now}
        gone = self._cleared.get(sequence)
        return gone is not None and is_same_transaction(gone[0], content)

    def _says_none(self, asked: int, answer: Message, number: int, state: int) -> bool:
        """Tell "no such transaction" from "not now" and from an answer that cannot be read.

        None is: no data of what was asked for, no number and nothing payable, a transaction that is cleared, and the
        acknowledgements that the device is known to say it by, unless one of their items says "not in this state".
        """
        if answer.type is not MessageType.ANSWER:
            not_now = any(code == NOT_IN_THIS_STATE for _, code in answer.ack_items)
            return answer.ack in self._empty_acks and not not_now
        values = answer.values()
        no_data = not values and not (asked == 0 and number)
        has_amount = any(values.get(TransactionId.AMOUNT, b"")[1:])
        nameless = not number and not has_amount and state not in UNPAID
        return no_data or nameless or state == TransactionState.CLEARED
