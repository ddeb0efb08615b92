"""Stations, fuelling points and nozzles; read-only here."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement
from sqlmodel import col
from starlette.requests import Request
from starlette_admin.fields import BooleanField, IntegerField, StringField

from api.console import labels
from api.console.fields import LookupField, MomentField, TextCell, WordField
from api.console.links import link_text, links_of, point_states
from api.console.person import Person
from api.console.ports import ConsoleDeps
from api.console.scope import at_stations_of, stations_of
from api.console.views.base import ConsoleView, in_thread
from db.tables.station import FuellingPoint, Nozzle, Station


class Stations(ConsoleView):
    """The person's stations and whether they are connected."""

    key = "station"
    menu_label = "油站"
    display_name = "油站"
    search_columns = ("code", "name", "city", "address")
    fields_default_sort = (("code", False),)
    fields = (
        StringField("code", label="站号"),
        StringField("name", label="站名"),
        LookupField("operator_id", label="运营商", table="operator"),
        StringField("city", label="城市"),
        StringField("address", label="地址"),
        BooleanField("is_open", label="营业"),
        TextCell("link", label="连接"),
    )

    def __init__(self, deps: ConsoleDeps) -> None:
        super().__init__(Station, deps)
        link = next(f for f in self.fields if f.name == "link")
        link.getter = lambda request, row: link_text(request.state.links, row, deps.clock())

    def scope(self, person: Person) -> ColumnElement[bool]:
        """The person's stations."""
        return stations_of(person)

    async def prepare(self, request: Request, rows: Sequence[Any]) -> None:
        """Read when the stations were last heard."""
        await super().prepare(request, rows)
        request.state.links = await in_thread(request, links_of)


class FuellingPoints(ConsoleView):
    """Fuelling points and who holds them."""

    key = "point"
    menu_label = "加注点"
    display_name = "加注点"
    search_columns = ("holder_order_no",)
    fields_default_sort = (("station_id", False), ("node", False), ("fp", False))
    fields = (
        LookupField("station_id", label="油站", table="station"),
        IntegerField("node", label="节点"),
        IntegerField("fp", label="加注点"),
        TextCell("state", label="状态"),
        StringField("holder_order_no", label="占用订单"),
        MomentField("held_until", label="占用至"),
    )

    def __init__(self, deps: ConsoleDeps) -> None:
        super().__init__(FuellingPoint, deps)
        state = next(f for f in self.fields if f.name == "state")
        state.getter = lambda request, row: labels.POINT_STATE.get(
            request.state.points.get(row.id, ""), "未知"
        )

    def scope(self, person: Person) -> ColumnElement[bool]:
        """Fuelling points of the person's stations."""
        return at_stations_of(person, col(FuellingPoint.station_id))

    async def prepare(self, request: Request, rows: Sequence[Any]) -> None:
        """Read what the points do."""
        await super().prepare(request, rows)
        numbers = [row.id for row in rows]
        request.state.points = await in_thread(request, lambda db: point_states(db, numbers))


class Nozzles(ConsoleView):
    """Nozzles as drivers know them."""

    key = "nozzle"
    menu_label = "油枪"
    display_name = "油枪"
    search_columns = ("number",)
    fields_default_sort = (("station_id", False), ("number", False))
    fields = (
        LookupField("station_id", label="油站", table="station"),
        IntegerField("number", label="枪号"),
        LookupField("product_id", label="油品", table="product"),
        LookupField("fuelling_point_id", label="加注点（节点-点位）", table="point"),
        WordField("unit", label="计量单位", labels=labels.UNIT),
        BooleanField("prepaid_allowed", label="可先付"),
        BooleanField("postpaid_allowed", label="可后付"),
        BooleanField("is_open", label="启用"),
    )

    def __init__(self, deps: ConsoleDeps) -> None:
        super().__init__(Nozzle, deps)

    def scope(self, person: Person) -> ColumnElement[bool]:
        """Nozzles of the person's stations."""
        return at_stations_of(person, col(Nozzle.station_id))
