"""Totalisers: read, remembered, compared. A reading that cannot be had is not known, which is not zero."""

import structlog

from contracts.station import SaleRecord
from station_gateway.client.health import TOTALISER_GAPS, TOTALISER_UNREADABLE
from station_gateway.client.link import DispenserLink
from station_gateway.client.outbox import Outbox
from station_gateway.client.sales import PointKey
from station_gateway.protocols.ifsf.errors import IfsfError
from station_gateway.protocols.ifsf.ids import NozzleId, nozzle_db
from station_gateway.protocols.ifsf.messages import MessageType
from station_gateway.protocols.ifsf.numbers import decode_scaled

log = structlog.get_logger(__name__)


async def read_total(key: PointKey, link: DispenserLink, nozzle: int) -> int | None:
    """Return a nozzle's volume totaliser in thousandths, None when the device does not tell it readably.

    Raises LinkError.
    """
    answer = await link.read(nozzle_db(key.fp, nozzle), bytes((NozzleId.VOLUME_TOTAL,)))
    raw = answer.values().get(NozzleId.VOLUME_TOTAL) if answer.type is MessageType.ANSWER else None
    if not raw:
        return None
    try:
        return decode_scaled(raw, 3)
    except IfsfError as error:
        TOTALISER_UNREADABLE.labels(key.node, key.fp, nozzle).inc()
        log.error(
            "point.totaliser.unreadable",
            node=key.node,
            fp=key.fp,
            nozzle=nozzle,
            raw=raw.hex(),
            error=str(error),
        )
        return None


def meter_after(sale: SaleRecord, known: int | None, *, is_records: bool) -> int | None:
    """Return where a nozzle's totaliser stands after a sale: what its record says, else the reading, unless that lags.

    A reading between the last known one and that one plus the sale was taken too early; an order that is released by
    it would seem to have taken this sale's fuel.
    """
    total = sale.totaliser_after_milli
    if is_records or total is None or known is None:
        return total
    due = known + sale.quantity_milli
    return due if known <= total < due else total


async def has_moved_on(key: PointKey, link: DispenserLink, outbox: Outbox, nozzle: int) -> bool:
    """Return whether a totaliser stands higher than the last sale left it; one not known yet is remembered.

    One that cannot be read tells nothing, which is no; one that stands lower lags; one that has only caught up with
    the last sale, at whose end it was read too early, is remembered. Raises LinkError.
    """
    total, known = await read_total(key, link, nozzle), outbox.total(key.node, key.fp, nozzle)
    if total is not None and known is None:
        outbox.set_total(key.node, key.fp, nozzle, total)
    if total is None or known is None or total <= known:
        return False
    if total - known != outbox.last_quantity(key.node, key.fp, nozzle):
        return True
    outbox.set_total(key.node, key.fp, nozzle, total)
    return False


async def check_total(key: PointKey, link: DispenserLink, outbox: Outbox, nozzle: int) -> None:
    """Compare a totaliser at rest with the last known one and remember it. Raises LinkError.

    A gap means fuel that no transaction told us of: it is logged and counted for a person to look into. One that only
    catches up with the last sale, at whose end it was read too early, is none.
    """
    total, known = await read_total(key, link, nozzle), outbox.total(key.node, key.fp, nozzle)
    if total is None or total == known:
        return
    if known is not None and total - known != outbox.last_quantity(key.node, key.fp, nozzle):
        TOTALISER_GAPS.labels(key.node, key.fp, nozzle).inc()
        log.warning(
            "point.totaliser.gap",
            node=key.node,
            fp=key.fp,
            nozzle=nozzle,
            known_milli=known,
            read_milli=total,
        )
    outbox.set_total(key.node, key.fp, nozzle, total)
