"""The first page: today's figures, who waits for money or for a person, and whether stations are connected."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session
from sqlmodel import col
from starlette.requests import Request
from starlette.responses import Response
from starlette_admin.routing import route
from starlette_admin.views import CustomView

from api.console import labels
from api.console.labels import CHINA, amount_with_unit, money_text
from api.console.links import is_online, links_of
from api.console.names import look_up
from api.console.person import Deed, Person, person_of
from api.console.ports import ConsoleDeps
from api.console.scope import at_stations_of, stations_of
from api.console.views.base import in_thread
from api.console.views.orders import waiting_text
from db.repositories.asked import Asked, asked_of
from db.tables.order import FuelOrder
from db.tables.station import Station
from domain.order import OrderStatus

SHOWN = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """An order on the first page, in words."""

    order_no: str
    nozzle: str
    station: str
    what: str
    amount: str
    waiting: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What the first page shows."""

    orders_today: int
    completed_today: int
    income_today: str
    unpaid: int
    unpaid_sum: str
    attention: int
    stations: int
    stations_online: int
    unpaid_rows: tuple[Waiting, ...]
    attention_rows: tuple[Waiting, ...]


def figures_for(db: Session, person: Person, now: datetime) -> Figures:
    """Read the figures of the person's stations; the day begins at midnight in China."""
    mine = at_stations_of(person, col(FuelOrder.station_id))
    midnight = now.astimezone(CHINA).replace(hour=0, minute=0, second=0, microsecond=0)
    today = col(FuelOrder.created_at) >= midnight
    done = col(FuelOrder.status) == OrderStatus.COMPLETED.value
    ended_today = col(FuelOrder.ended_at) >= midnight
    unpaid = col(FuelOrder.status) == OrderStatus.UNPAID.value
    attention = col(FuelOrder.needs_person) != ""
    charge = func.coalesce(func.sum(col(FuelOrder.charge_fen)), 0)
    count = func.count()
    completed = db.execute(select(count, charge).where(mine, done, ended_today)).one()
    owed = db.execute(select(count, charge).where(mine, unpaid)).one()
    stations = db.scalars(select(col(Station.code)).where(stations_of(person))).all()
    links = links_of(db)
    rows = select(FuelOrder).where(mine).order_by(col(FuelOrder.created_at)).limit(SHOWN)
    for_money, for_people = (db.scalars(rows.where(which)).all() for which in (unpaid, attention))
    return Figures(
        orders_today=db.execute(select(count).where(mine, today)).scalar_one(),
        completed_today=completed[0],
        income_today=money_text(int(completed[1])),
        unpaid=owed[0],
        unpaid_sum=money_text(int(owed[1])),
        attention=db.execute(select(count).where(mine, attention)).scalar_one(),
        stations=len(stations),
        stations_online=sum(is_online(links.get(code), now) for code in stations),
        unpaid_rows=_waiting(db, for_money, {o.order_no: Asked(o.charge_fen) for o in for_money}, now),
        attention_rows=_waiting(db, for_people, asked_of(db, for_people), now),
    )


def _waiting(
    db: Session, orders: Sequence[FuelOrder], asked: dict[str, Asked], now: datetime
) -> tuple[Waiting, ...]:
    names = look_up(db, orders)
    return tuple(
        Waiting(
            order_no=order.order_no,
            nozzle=names["nozzle"].get(order.nozzle_id, ""),
            station=names["station"].get(order.station_id, ""),
            what=labels.ATTENTION.get(order.needs_person, order.needs_person)
            or f"{names['product'].get(order.product_id, '')} {amount_with_unit(order.quantity_milli, order.unit)}",
            amount=money_text(asked[order.order_no].fen) if order.order_no in asked else "",
            waiting=waiting_text(order.created_at, now),
        )
        for order in orders
    )


class Home(CustomView):
    """The first page."""

    menu_label = "首页"
    icon = "fa-solid fa-house"
    path = "/"
    route_name = "index"

    def __init__(self, deps: ConsoleDeps) -> None:
        super().__init__()
        self.deps = deps

    @route("")
    async def index(self, request: Request) -> Response:
        """Show the figures."""
        if self._admin is None:
            raise RuntimeError("the page is shown before it was mounted")
        person = person_of(request)
        now = self.deps.clock()
        figures = await in_thread(request, lambda db: figures_for(db, person, now))
        context = {
            "title": "首页",
            "figures": figures,
            "person": person,
            "takes_cash": person.may(Deed.TAKE_CASH),
            "now": labels.time_text(now),
        }
        response: Response = self._admin._template_response(request, "console/home.html", context)
        return response
