"""Turns rows into bodies: words, due amounts, freshness, distance."""

import base64
import binascii
import json
import math
from datetime import datetime

from api.auth.roles import STAFF, Principal, Role
from api.errors import ProblemError
from api.schemas.orders import AskedRefundOut, CommandOut, OrderOut, ReceiptOut
from api.schemas.stations import NozzleOut, OfferOut, StationOut
from contracts.fill import CommandAnswer
from db.announcements import version_of
from db.repositories.asked import Asked
from db.repositories.views import OrderRow, ReceiptRow
from db.repositories.views_stations import NozzleRow, OfferRow, StationRow
from domain.order import OrderStatus
from domain.payment import PayMethod
from domain.policy import STATION_STALE_AFTER
from domain.quantity import Unit, quantity_text

_EARTH_RADIUS_M = 6_371_000
PAID_ELSEWHERE = "已由其他终端支付"


def due_fen(order: OrderRow) -> int:
    """Return what an order waits for in fen."""
    status = OrderStatus(order.status)
    if status is OrderStatus.AWAITING_PAYMENT:
        return order.preset_fen
    return order.charge_fen - order.paid_fen if status is OrderStatus.UNPAID else 0


def order_out(
    order: OrderRow, principal: Principal, *, mine: str = "", asked: Asked | None = None
) -> OrderOut:
    """Return an order for a caller; `mine` is the payment that the caller's own screen shows.

    `asked` is what a person decides about; only for staff, like the need itself.
    """
    status = OrderStatus(order.status)
    unit = Unit(order.unit)
    is_staff = principal.role in STAFF
    shown = asked if is_staff else None
    return OrderOut(
        **{name: getattr(order, name) for name in _SAME},
        version=version_of(order.updated_at),
        status_text=status.label_zh,
        is_final=status.is_final,
        due_fen=due_fen(order),
        paid_text=PayMethod(order.paid_method).label_zh if order.paid_method else "",
        quantity_text=f"{quantity_text(order.quantity_milli)} {unit.label_zh}",
        needs_person=order.needs_person if is_staff else "",
        asked_fen=shown.fen if shown else None,
        asked_refunds=[AskedRefundOut.model_validate(one) for one in shown.refunds] if shown else [],
        notice=_notice(order, principal, mine),
    )


_SAME = tuple(
    name for name in OrderOut.model_fields if name in OrderRow.__dataclass_fields__ and name != "needs_person"
)


def _notice(order: OrderRow, principal: Principal, mine: str) -> str:
    """Tell a screen that another one was faster: by the payment it shows, else by the kind of screen."""
    if not order.paid_by or principal.role not in (Role.TERMINAL, Role.DRIVER):
        return ""
    if mine:
        return PAID_ELSEWHERE if mine != order.paid_by else ""
    if principal.role is Role.TERMINAL and order.paid_screen != principal.kind:
        return PAID_ELSEWHERE
    return ""


def command_out(answer: CommandAnswer) -> CommandOut:
    """Return a command's answer; a refused command is a problem.

    Raises ProblemError 409 with the order's reason.
    """
    if not answer.ok:
        raise ProblemError(409, answer.code.lower() or "refused", "操作未被接受", answer.message)
    return CommandOut(
        ok=True,
        status=answer.status.value if answer.status else None,
        status_text=answer.status.label_zh if answer.status else "",
        code=answer.code,
        message=answer.message,
    )


def receipt_out(row: ReceiptRow) -> ReceiptOut:
    """Return a receipt with its content opened."""
    return ReceiptOut(
        receipt_no=row.receipt_no,
        order_no=row.order_no,
        issued_at=row.issued_at,
        content=json.loads(row.body),
    )


def is_online(last_seen_at: datetime | None, now: datetime) -> bool:
    """Return whether a station's data are fresh enough to sell on."""
    return last_seen_at is not None and now - last_seen_at <= STATION_STALE_AFTER


def station_out(
    row: StationRow, *, now: datetime, offers: list[OfferRow], near_e6: tuple[int, int] | None = None
) -> StationOut:
    """Return a station with its distance from a place."""
    return StationOut(
        code=row.code,
        name=row.name,
        city=row.city,
        address=row.address,
        latitude_e6=row.latitude_e6,
        longitude_e6=row.longitude_e6,
        distance_m=distance_m(near_e6, (row.latitude_e6, row.longitude_e6)) if near_e6 else None,
        is_open=row.is_open,
        is_online=is_online(row.last_seen_at, now),
        offers=[OfferOut.model_validate(o) for o in offers if o.station_id == row.id],
    )


def nozzle_out(row: NozzleRow, *, now: datetime) -> NozzleOut:
    """Return a nozzle."""
    held = row.holder_order_no is not None and (row.held_until is None or row.held_until > now)
    return NozzleOut(
        number=row.number,
        product_code=row.product_code,
        product_name=row.product_name,
        unit=row.unit,
        unit_text=Unit(row.unit).label_zh,
        is_open=row.is_open,
        is_free=not held,
        prepaid_allowed=row.prepaid_allowed,
        postpaid_allowed=row.postpaid_allowed,
        price_fen_per_unit=row.price_fen_per_unit,
        price_version=row.price_version,
        state=row.state,
    )


def distance_m(a_e6: tuple[int, int], b_e6: tuple[int, int]) -> int:
    """Return the great-circle distance in metres of two places in millionths of a degree (haversine)."""
    (lat_a, lon_a), (lat_b, lon_b) = (
        (math.radians(p[0] / 1_000_000), math.radians(p[1] / 1_000_000)) for p in (a_e6, b_e6)
    )
    half = (
        math.sin((lat_b - lat_a) / 2) ** 2
        + math.cos(lat_a) * math.cos(lat_b) * math.sin((lon_b - lon_a) / 2) ** 2
    )
    return round(2 * _EARTH_RADIUS_M * math.asin(min(1, math.sqrt(half))))


def cosine_milli(latitude_e6: int) -> int:
    """Return the cosine of a latitude in thousandths."""
    return round(math.cos(math.radians(latitude_e6 / 1_000_000)) * 1000)


def cursor_of(order: OrderRow) -> str:
    """Return the text that continues a list after this order."""
    return base64.urlsafe_b64encode(f"{order.created_at.isoformat()}|{order.order_no}".encode()).decode()


def read_cursor(text: str) -> tuple[datetime, str]:
    """Return where a list continues.

    Raises ProblemError 422 for a text that is not a cursor of ours.
    """
    try:
        moment, _, order_no = base64.urlsafe_b64decode(text.encode()).decode("ascii").partition("|")
        at = datetime.fromisoformat(moment)
        if at.tzinfo is None or not order_no.isalnum() or at.year < 2000:
            raise ValueError("not a cursor")
    except (ValueError, binascii.Error, OverflowError) as error:
        raise ProblemError(
            422, "cursor_invalid", "提交的内容有误", "cursor 须为上一页的 next_cursor"
        ) from error
    return at, order_no
