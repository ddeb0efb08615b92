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


async def untold_total(key: PointKey, link: DispenserLink, outbox: Outbox, nozzle: int) -> int | None:
    """Return a totaliser that stands higher than sales explain; else None, and one that they do is remembered.

    One that cannot be read tells nothing, and one that stands lower than the last sale left it lags. Raises LinkError.
    """
    total, known = await read_total(key, link, nozzle), outbox.total(key.node, key.fp, nozzle)
    if total is None or (known is not None and total <= known):
        return None
    if not _is_explained(key, outbox, nozzle, total):
        return total
    outbox.set_total(key.node, key.fp, nozzle, total)
    return None


async def check_total(key: PointKey, link: DispenserLink, outbox: Outbox, nozzle: int) -> None:
    """Compare a totaliser at rest with the last known one and remember it. Raises LinkError."""
    total = await read_total(key, link, nozzle)
    if total is not None and total != outbox.total(key.node, key.fp, nozzle):
        remember_total(key, outbox, nozzle, total)


def remember_total(key: PointKey, outbox: Outbox, nozzle: int, total: int) -> None:
    """Remember a totaliser that stands elsewhere than the last known one.

    A gap means fuel that no transaction told us of: it is logged and counted for a person to look into.
    """
    if not _is_explained(key, outbox, nozzle, total):
        TOTALISER_GAPS.labels(key.node, key.fp, nozzle).inc()
        log.warning(
            "point.totaliser.gap",
            node=key.node,
            fp=key.fp,
            nozzle=nozzle,
            known_milli=outbox.total(key.node, key.fp, nozzle),
            read_milli=total,
        )
    outbox.set_total(key.node, key.fp, nozzle, total)


def _is_explained(key: PointKey, outbox: Outbox, nozzle: int, total: int) -> bool:
    """Return whether none was known, or it only caught up with the last sale, at whose end it was read too early."""
    known = outbox.total(key.node, key.fp, nozzle)
    return known is None or total - known == outbox.last_quantity(key.node, key.fp, nozzle)
