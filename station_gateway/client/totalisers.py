"""Totalisers: read, and compared with what sales tell. A reading that cannot be had is not known, which is not zero."""

from datetime import datetime

import structlog

from station_gateway.client.health import TOTALISER_GAPS, TOTALISER_UNREADABLE
from station_gateway.client.link import DispenserLink
from station_gateway.client.meters import Meter, believed
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


async def read_beyond(
    key: PointKey,
    link: DispenserLink,
    outbox: Outbox,
    nozzle: int,
    *,
    is_settled: bool,
    is_final: bool = False,
) -> int:
    """Return how far a totaliser at rest stands beyond what sales and noted gaps explain; below zero: it lags.

    One that they explain is believed to the last thousandth (`Meter.is_believed`); one below the last reading is read
    twice, for a board that starts may tell nothing once. 0 also when it cannot be read. Raises LinkError.
    """
    total, meter = await read_total(key, link, nozzle), outbox.meter(key.node, key.fp, nozzle)
    if total is not None and meter is not None and total < meter.read_milli:
        total = await read_total(key, link, nozzle)
    if total is None:
        return 0
    beyond = 0 if meter is None else meter.beyond(total)
    if meter is not None:
        is_believed = meter.is_believed(total, is_settled=is_settled, is_final=is_final)
        if beyond > 0 or not is_believed:
            return beyond
    if beyond:
        log.warning("point.totaliser.lower", **_place(key, nozzle, meter), read_milli=total)
    outbox.set_meter(key.node, key.fp, nozzle, believed(meter, total))
    return 0


def note_gap(key: PointKey, outbox: Outbox, nozzle: int, beyond_milli: int, now: datetime) -> None:
    """Note fuel that only a totaliser knows of (`read_beyond`): it is logged and counted for a person to look into.

    A sale that tells of it soon finds it noted.
    """
    meter = outbox.meter(key.node, key.fp, nozzle)
    assert meter is not None
    total = meter.stands_milli + beyond_milli
    TOTALISER_GAPS.labels(key.node, key.fp, nozzle).inc()
    log.warning("point.totaliser.gap", **_place(key, nozzle, meter), read_milli=total)
    outbox.set_meter(key.node, key.fp, nozzle, meter.noted(total, now))


async def check_totals(
    key: PointKey, link: DispenserLink, outbox: Outbox, now: datetime, *, but: int | None
) -> None:
    """Compare the totalisers of a point at rest with what sales explain, and note gaps.

    What the nozzle `but` of an open order has counted is that order's. Raises LinkError.
    """
    for one in key.config.nozzles:
        if one.nozzle == but:
            continue
        beyond = await read_beyond(key, link, outbox, one.nozzle, is_settled=False)
        if beyond > 0:
            note_gap(key, outbox, one.nozzle, beyond, now)


def _place(key: PointKey, nozzle: int, meter: Meter | None) -> dict[str, int | None]:
    known = None if meter is None else meter.stands_milli
    return {"node": key.node, "fp": key.fp, "nozzle": nozzle, "known_milli": known}
