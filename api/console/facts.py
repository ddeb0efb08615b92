"""The facts of an order for its page, grouped, in Chinese; personal data masked."""

from collections.abc import Callable
from dataclasses import dataclass

from api.console import labels
from api.console.labels import amount_with_unit, money_text, price_text, time_text
from api.console.names import Names, name_in
from api.console.story import Story
from db.tables.order import FuelOrder

Group = tuple[str, list[tuple[str, str]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The top of the page: the state, its colour, and why a person is needed (empty when nobody is)."""

    status: str
    colour: str
    attention: str


def head_of(order: FuelOrder) -> Head:
    """Return the top of the page."""
    status = labels.ORDER_STATUS.get(order.status, order.status)
    return Head(
        status=status,
        colour=labels.ORDER_STATUS_COLOURS.get(status, "secondary"),
        attention=labels.ATTENTION.get(order.needs_person, order.needs_person),
    )


def facts_of(order: FuelOrder, story: Story, names: Names, mask: Callable[[str], str] | None) -> list[Group]:
    """Return groups of (label, text); empty facts are left out."""
    groups: list[Group] = [
        ("加注", _fuel(order, names)),
        ("金额", _money(order)),
        ("人员与时间", _people(order, story, names, mask)),
    ]
    return [(title, [(label, text) for label, text in lines if text]) for title, lines in groups]


def _fuel(order: FuelOrder, names: Names) -> list[tuple[str, str]]:
    return [
        ("油站", name_in(names, "station", order.station_id)),
        (
            "油枪",
            f"{name_in(names, 'nozzle', order.nozzle_id)}（加注点 {name_in(names, 'point', order.fuelling_point_id)}）",
        ),
        ("油品", name_in(names, "product", order.product_id)),
        ("方式", labels.MODE.get(order.mode, order.mode)),
        ("单价", price_text(order.price_fen_per_unit, order.unit)),
        ("加注量", amount_with_unit(order.quantity_milli, order.unit)),
    ]


def _money(order: FuelOrder) -> list[tuple[str, str]]:
    return [
        ("预付金额", money_text(order.preset_fen) if order.preset_fen else ""),
        ("应收金额", money_text(order.charge_fen)),
        ("已付金额", money_text(order.paid_fen)),
        ("已退金额", money_text(order.refunded_fen)),
        ("多收金额", money_text(order.surplus_fen) if order.surplus_fen else ""),
        ("差额", money_text(order.shortfall_fen) if order.shortfall_fen else ""),
    ]


def _people(
    order: FuelOrder, story: Story, names: Names, mask: Callable[[str], str] | None
) -> list[tuple[str, str]]:
    phone = mask(story.phone_cipher) if mask is not None and story.phone_cipher else ""
    return [
        ("司机", f"司机 #{order.driver_id} {phone}".strip() if order.driver_id else ""),
        ("收银员", name_in(names, "staff", order.cashier_id)),
        ("终端", f"终端 #{order.terminal_id}" if order.terminal_id else ""),
        ("小票号", story.receipt_no),
        ("下单时间", time_text(order.created_at)),
        ("结束时间", time_text(order.ended_at) if order.ended_at else ""),
        ("结束原因", order.end_reason),
    ]
