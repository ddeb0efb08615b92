"""Totalisers: read, remembered, compared. A reading that cannot be had is not known, which is not zero."""

import structlog

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


async def known_total(key: PointKey, link: DispenserLink, outbox: Outbox, nozzle: int) -> int | None:
    """Return the remembered totaliser, read now when none is remembered. Raises LinkError."""
    known = outbox.total(key.node, key.fp, nozzle)
    if known is not None:
        return known
    total = await read_total(key, link, nozzle)
    if total is not None:
        outbox.set_total(key.node, key.fp, nozzle, total)
    return total


async def check_totals(key: PointKey, link: DispenserLink, outbox: Outbox) -> None:
    """Compare each totaliser of a point at rest with the last known one and remember it. Raises LinkError.

    A gap means fuel that no transaction told us of: it is logged and counted for a person to look into.
    """
    for nozzle in key.config.nozzles:
        total = await read_total(key, link, nozzle.nozzle)
        known = outbox.total(key.node, key.fp, nozzle.nozzle)
        if total is None or total == known:
            continue
        if known is not None:
            TOTALISER_GAPS.labels(key.node, key.fp, nozzle.nozzle).inc()
            log.warning(
                "point.totaliser.gap",
                node=key.node,
                fp=key.fp,
                nozzle=nozzle.nozzle,
                known_milli=known,
                read_milli=total,
            )
        outbox.set_total(key.node, key.fp, nozzle.nozzle, total)
