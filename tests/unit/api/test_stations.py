"""Stations, nozzles and the QR codes on them."""

from datetime import timedelta

import httpx
import pytest

from db.tables.station import Nozzle, Station
from tests.unit.api.world import PRICE_FEN, PRICE_VERSION, World


async def test_stations_come_nearest_first_with_prices(world: World, api: httpx.AsyncClient) -> None:
    here = {"latitude_e6": 38_060_000, "longitude_e6": 112_550_000}
    answer = await api.get("/v1/stations", params=here, headers=world.as_driver())
    stations = answer.json()["stations"]
    assert [s["code"] for s in stations] == ["ST900", "ST002", "ST001"]
    assert stations[0]["distance_m"] == pytest.approx(1_112, abs=2)
    assert [o["price_fen_per_unit"] for o in stations[0]["offers"]] == [PRICE_FEN, PRICE_FEN]
    assert [o["unit"] for o in stations[0]["offers"]] == ["L", "kg"]


@pytest.mark.parametrize(
    ("params", "codes"),
    [
        ({"city": "太原"}, ["ST001", "ST002"]),
        ({"product": "CNG", "limit": "1"}, ["ST001"]),
        ({"product": "LNG"}, []),
        ({"city": "克拉玛依", "product": "92"}, ["ST900"]),
    ],
)
async def test_stations_are_filtered(
    world: World, api: httpx.AsyncClient, params: dict[str, str], codes: list[str]
) -> None:
    answer = await api.get("/v1/stations", params=params, headers=world.as_driver())
    assert [s["code"] for s in answer.json()["stations"]] == codes


async def test_a_station_with_its_nozzles(world: World, api: httpx.AsyncClient) -> None:
    answer = await api.get("/v1/stations/ST001", headers=world.as_driver())
    first, second = answer.json()["nozzles"]
    assert (first["number"], first["product_code"], first["unit_text"]) == (1, "92", "升")
    assert (second["number"], second["unit_text"]) == (2, "公斤")
    assert (first["price_fen_per_unit"], first["price_version"]) == (PRICE_FEN, PRICE_VERSION)
    assert first["is_free"] is True
    assert (await api.get("/v1/stations/NOPE", headers=world.as_driver())).status_code == 404


async def test_closed_and_silent_stations_say_so(world: World, api: httpx.AsyncClient) -> None:
    with world.session() as db:
        db.get_one(Station, world.ids["ST002"].id).is_open = False
    world.clock.now += timedelta(seconds=31)
    answer = await api.get("/v1/stations", headers=world.as_driver())
    by_code = {s["code"]: s for s in answer.json()["stations"]}
    assert by_code["ST002"]["is_open"] is False
    assert by_code["ST001"]["is_online"] is False
    world.clock.now -= timedelta(seconds=31)


@pytest.mark.feature("002-8")
async def test_a_nozzle_code_leads_to_its_nozzle_and_the_unpaid_sale(
    world: World, api: httpx.AsyncClient
) -> None:
    headers = world.as_driver()
    body = {"code": world.nozzle_text("ST001", 2)}
    empty = await api.post("/v1/nozzle-codes/resolve", json=body, headers=headers)
    assert empty.status_code == 200, empty.text
    assert empty.json()["unpaid"] is None
    assert empty.json()["nozzle"]["number"] == 2
    order_no = world.add_order("ST001", 2, charge_fen=4_321)
    found = await api.post("/v1/nozzle-codes/resolve", json=body, headers=headers)
    assert found.json()["unpaid"]["order_no"] == order_no
    assert found.json()["unpaid"]["due_fen"] == 4_321
    assert (await api.get(f"/v1/orders/{order_no}", headers=headers)).status_code == 200


@pytest.mark.feature("002-8")
async def test_forged_and_revoked_nozzle_codes_are_refused(world: World, api: httpx.AsyncClient) -> None:
    good = world.nozzle_text("ST001", 1)
    forged = good.replace("ST001", "ST002")
    old = world.nozzle_text("ST002", 1)
    with world.session() as db:
        db.get_one(Nozzle, world.ids["ST002", 1].id).code_version = 2
    odd = ["JZ1.ST001.1.1.", "JZ1", ".", "JZ1.ST001.x.1.AAAA", good[:-1], "JZ1.ST001.１.1.AAAA"]
    for text in (forged, old, world.nozzle_text("ST777", 1), world.nozzle_text("ST001", 9), *odd):
        answer = await api.post("/v1/nozzle-codes/resolve", json={"code": text}, headers=world.as_driver())
        assert (answer.status_code, answer.json()["code"]) == (422, "nozzle_code_invalid"), text
    fresh = {"code": world.nozzle_text("ST002", 1, version=2)}
    answer = await api.post("/v1/nozzle-codes/resolve", json=fresh, headers=world.as_driver())
    assert answer.status_code == 200
