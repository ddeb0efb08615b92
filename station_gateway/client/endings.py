"""Where the totaliser speaks: before a release, and when an order ends without a transaction."""

import asyncio
import time
from collections.abc import Callable
from datetime import datetime

import structlog

from contracts.station import EndReason, SaleRecord
from station_gateway.client.buffer import BUSY_TRIES, TransactionBuffer
from station_gateway.client.health import SYNTHESISED
from station_gateway.client.link import DispenserLink
from station_gateway.client.outbox import OpenAuthorisation, Outbox
from station_gateway.client.releases import Release
from station_gateway.client.sales import PointKey, synthesised_sale, zero_sale
from station_gateway.client.totalisers import note_gap, read_beyond, read_total

log = structlog.get_logger(__name__)

SETTLE_TRIES = 3
LONG_REST = 10
"""After so many times what a board needs to settle, its totaliser stands where it is read: 30 s."""


async def all_is_told(
    key: PointKey,
    link: DispenserLink,
    outbox: Outbox,
    buffer: TransactionBuffer,
    nozzle: int,
    *,
    retry_s: float,
    release: Release,
    now: Callable[[], datetime],
) -> bool:
    """Empty the buffer and return whether all fuel of a nozzle at rest is told: the next sale is the next order's.

    A board writes a transaction up to 2 s after its pump came to rest, and may move the totaliser no sooner. So a fill
    that was seen and not told is waited for, and so is a totaliser that has not counted what was told. When only the
    totaliser knows of a fill in the end, that is noted as a gap and nothing is released this once. False: that, or the
    device keeps something, or a fill has ended meanwhile and may still be written. Raises LinkError, IfsfError.
    """
    settle_s = SETTLE_TRIES * retry_s
    for tried in range(SETTLE_TRIES + 1):
        if tried:
            await asyncio.sleep(retry_s)
        asked_at = time.monotonic()
        if not await buffer.empty(recovered=False, busy_tries=BUSY_TRIES):
            return False
        is_settled = not release.rests_since_less_than(settle_s)
        is_final = release.is_quiet_since(LONG_REST * settle_s)
        beyond = await read_beyond(key, link, outbox, nozzle, is_settled=is_settled, is_final=is_final)
        is_untold = beyond > 0 and release.has_flowed
        took_s = time.monotonic() - asked_at  # what was written while a slow board answered is not read
        may_lag = release.rests_since_less_than(settle_s + took_s)
        may_tell_more = may_lag and (release.has_flowed or beyond < 0)
        if not is_untold and not may_tell_more:
            break
    if beyond > 0:
        note_gap(key, outbox, nozzle, beyond, now())
    return not is_untold and not may_tell_more


async def settled_total(
    key: PointKey,
    link: DispenserLink,
    buffer: TransactionBuffer,
    opened: OpenAuthorisation,
    *,
    retry_s: float,
    has_flowed: bool,
    is_open: Callable[[], bool],
) -> int | None:
    """Return the totaliser in thousandths, after the device had time to write a transaction.

    It needs none when no fuel was seen to flow and the totaliser has not moved; one that lags proves nothing else.
    None when it cannot be read, and when a transaction came or may lie there. Raises LinkError, IfsfError.
    """
    for _ in range(SETTLE_TRIES):
        total = await read_total(key, link, opened.nozzle)
        if not has_flowed and total is not None and total == opened.total_before_milli:
            return total
        await asyncio.sleep(retry_s)
        if not await buffer.empty(recovered=False) or not is_open():
            return None
    return await read_total(key, link, opened.nozzle)


def record_of_end(
    key: PointKey,
    opened: OpenAuthorisation,
    total: int | None,
    *,
    ran: bool,
    timed_out: bool,
    now: datetime,
) -> SaleRecord:
    """Return the record of an order that has no transaction; `ran`: a running amount above zero was reported.

    Only two equal readings of the totaliser prove that nothing was dispensed; without both of them, when they differ
    and when fuel was reported, the record is flagged and a person decides.
    """
    if not ran and total is not None and total == opened.total_before_milli:
        reason = EndReason.AUTHORISE_TIMEOUT if timed_out else EndReason.ZERO
        return zero_sale(key, opened, reason, now)
    SYNTHESISED.inc()
    log.error("point.sale.synthesised", order=opened.order_no, node=key.node, fp=key.fp)
    return synthesised_sale(key, opened, total, now)
