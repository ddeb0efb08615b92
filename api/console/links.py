"""Whether stations are connected and what their fuelling points do, as the gateway last heard."""

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session
from sqlmodel import col

from db.tables.gateway import PointStateRow, StationLink
from db.tables.station import FuellingPoint, Station
from domain.policy import STATION_STALE_AFTER

Links = dict[str, datetime]


def links_of(db: Session) -> Links:
    """Return when each station was last heard, by station code."""
    return {link.station_code: link.last_seen_at for link in db.scalars(select(StationLink))}


def is_online(seen: datetime | None, now: datetime) -> bool:
    """Return whether a station was heard recently enough to take prepaid orders."""
    return seen is not None and now - seen <= STATION_STALE_AFTER


def link_text(links: Links, station: Station, now: datetime) -> str:
    """Return the state of a station's link in Chinese."""
    seen = links.get(station.code)
    if seen is None:
        return "从未连接"
    if is_online(seen, now):
        return "在线"
    minutes = int((now - seen).total_seconds()) // 60
    return f"离线 {minutes} 分钟" if minutes else "刚刚断开"


def point_states(db: Session, point_ids: list[int]) -> dict[int, str]:
    """Return the canonical state of fuelling points by id; a point never heard of is left out."""
    query = (
        select(col(FuellingPoint.id), col(PointStateRow.state))
        .join(Station, col(Station.id) == col(FuellingPoint.station_id))
        .join(
            PointStateRow,
            (col(PointStateRow.station_code) == col(Station.code))
            & (col(PointStateRow.node) == col(FuellingPoint.node))
            & (col(PointStateRow.fp) == col(FuellingPoint.fp)),
        )
        .where(col(FuellingPoint.id).in_(point_ids))
    )
    return {row[0] or 0: row[1] for row in db.execute(query)}
