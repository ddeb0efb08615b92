"""Orders that end without a transaction: when that may be said, and which record is made of it."""

import asyncio
from collections.abc import Callable
from datetime import datetime

import structlog

from contracts.station import EndReason, SaleRecord
from station_gateway.client.buffer import TransactionBuffer
from station_gateway.client.health import SYNTHESISED
from station_gateway.client.link import DispenserLink
from station_gateway.client.outbox import OpenAuthorisation
from station_gateway.client.sales import PointKey, synthesised_sale, zero_sale
from station_gateway.client.totalisers import read_total

log = structlog.get_logger(__name__)

SETTLE_TRIES = 3


async def settled_total(
    key: PointKey,
    link: DispenserLink,
    buffer: TransactionBuffer,
    opened: OpenAuthorisation,
    *,
    retry_s: float,
    is_open: Callable[[], bool],
) -> int | None:
    """Return the totaliser in thousandths; unless it has not moved, give the device time to write a transaction.

    None when it cannot be read, and when a transaction came or may lie there. Raises LinkError, IfsfError.
    """
    for _ in range(SETTLE_TRIES):
        total = await read_total(key, link, opened.nozzle)
        if total is not None and total == opened.total_before_milli:
            return total
        await asyncio.sleep(retry_s)
        if not await buffer.empty(recovered=False) or not is_open():
            return None
    return await read_total(key, link, opened.nozzle)


def record_of_end(
    key: PointKey, opened: OpenAuthorisation, total: int | None, *, timed_out: bool, now: datetime
) -> SaleRecord:
    """Return the record of an order that has no transaction.

    Only two equal readings of the totaliser prove that nothing was dispensed; without both of them, and when they
    differ, the record is flagged and a person decides.
    """
    if total is not None and total == opened.total_before_milli:
        reason = EndReason.AUTHORISE_TIMEOUT if timed_out else EndReason.ZERO
        return zero_sale(key, opened, reason, now)
    SYNTHESISED.inc()
    log.error("point.sale.synthesised", order=opened.order_no, node=key.node, fp=key.fp)
    return synthesised_sale(key, opened, total, now)
