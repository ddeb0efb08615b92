"""Stations, nozzles and the QR codes on them."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query
from sqlalchemy import Connection

from api.auth.roles import STAFF, Principal, Role, allow
from api.deps import ServicesDep
from api.errors import ProblemError, not_found
from api.presenting import cosine_milli, nozzle_out, order_out, station_out
from api.schemas.stations import NozzleCodeBody, ResolvedNozzleOut, StationDetailOut, StationOut, StationsOut
from db.repositories import views, views_stations
from domain.nozzle_code import NozzleCodeError, verify

router = APIRouter(prefix="/v1", tags=["油站"])
Caller = Annotated[Principal, Depends(allow(Role.DRIVER, Role.TERMINAL, *STAFF))]
Latitude = Annotated[int | None, Query(ge=-90_000_000, le=90_000_000)]
Longitude = Annotated[int | None, Query(ge=-180_000_000, le=180_000_000)]


@router.get("/stations", summary="油站列表")
async def list_stations(
    services: ServicesDep,
    _caller: Caller,
    city: Annotated[str | None, Query(max_length=64)] = None,
    product: Annotated[str | None, Query(max_length=32)] = None,
    latitude_e6: Latitude = None,
    longitude_e6: Longitude = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
) -> StationsOut:
    """Return stations with prices, nearest first when a place is given. Closed and silent ones say so."""
    now = services.now()
    here = (latitude_e6, longitude_e6) if latitude_e6 is not None and longitude_e6 is not None else None

    def read(conn: Connection) -> list[StationOut]:
        rows = views_stations.stations(
            conn,
            city=city,
            product_code=product,
            near_e6=here,
            cosine_milli=cosine_milli(here[0]) if here else 1000,
            limit=limit,
        )
        offers = views_stations.offers(conn, [r.id for r in rows], now=now)
        return [station_out(r, now=now, offers=offers, near_e6=here) for r in rows]

    return StationsOut(stations=await services.db.read(read))


@router.get("/stations/{code}", summary="油站与油枪")
async def one_station(
    code: Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{1,32}$")], services: ServicesDep, _caller: Caller
) -> StationDetailOut:
    """Return a station with its nozzles, prices in force and their states."""
    now = services.now()

    def read(conn: Connection) -> StationDetailOut | None:
        row = views_stations.station_by_code(conn, code)
        if row is None:
            return None
        offers = views_stations.offers(conn, [row.id], now=now)
        nozzles = [nozzle_out(n, now=now) for n in views_stations.nozzles(conn, row.id, now=now)]
        base = station_out(row, now=now, offers=offers)
        return StationDetailOut(**dict(base), nozzles=nozzles)

    found = await services.db.read(read)
    if found is None:
        raise not_found("没有这个油站")
    return found


@router.post("/nozzle-codes/resolve", summary="扫描枪码")
async def resolve_nozzle_code(
    body: NozzleCodeBody,
    services: ServicesDep,
    caller: Annotated[Principal, Depends(allow(Role.DRIVER, Role.TERMINAL))],
) -> ResolvedNozzleOut:
    """Return what a scanned nozzle code leads to; a forged one and one of an old label are refused."""
    refused = ProblemError(422, "nozzle_code_invalid", "二维码无效", "请扫描油枪上的新二维码")
    try:
        code = verify(services.deps.nozzle_code_key, body.code)
    except (NozzleCodeError, ValueError) as error:
        raise refused from error
    now = services.now()

    def read(conn: Connection) -> ResolvedNozzleOut | None:
        station = views_stations.station_by_code(conn, code.station_code)
        if station is None:
            return None
        rows = views_stations.nozzles(conn, station.id, now=now)
        row = next((n for n in rows if n.number == code.nozzle_no), None)
        if row is None or row.code_version != code.version:
            return None
        unpaid = views.unpaid_at_nozzle(conn, code.station_code, code.nozzle_no)
        return ResolvedNozzleOut(
            station=station_out(station, now=now, offers=[]),
            nozzle=nozzle_out(row, now=now),
            unpaid=order_out(unpaid, caller) if unpaid else None,
        )

    found = await services.db.read(read)
    if found is None:
        raise refused
    return found
