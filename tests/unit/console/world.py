"""A small world for the console: two companies, three stations, people of every role, and orders with their story."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher
from sqlalchemy import Engine
from sqlmodel import Session

from db.tables.gateway import PointStateRow, StationLink
from db.tables.identity import Driver, Staff
from db.tables.ledger import LedgerEntry, LedgerJournal
from db.tables.order import FuelOrder, OrderEvent, Receipt, Sale
from db.tables.payment import PaymentAttempt, Refund
from db.tables.station import FuellingPoint, Nozzle, Operator, Product, Station
from domain.ids import order_no_of_sale, order_no_of_start, out_refund_no, out_trade_no

NOW = datetime(2026, 3, 2, 6, 30, tzinfo=UTC)
"""14:30 in China."""
PASSWORD = "正确的-password-1"
_CHEAP = PasswordHash((Argon2Hasher(time_cost=1, memory_cost=8, parallelism=1),))
PEOPLE = {
    "cashier1": ("cashier", 1, 1),
    "manager1": ("manager", 1, 1),
    "cashier2": ("cashier", 1, 2),
    "operator1": ("operator", 1, None),
    "auditor1": ("auditor", 1, None),
    "operator2": ("operator", 2, None),
    "admin": ("admin", 1, None),
    "homeless": ("cashier", 1, None),
}
NAMES = {
    "cashier1": "王丽",
    "manager1": "陈站长",
    "cashier2": "赵敏",
    "operator1": "刘运营",
    "admin": "管理员",
}


@dataclass
class World:
    """Numbers of what was put in, by what a test calls it."""

    orders: dict[str, str] = field(default_factory=dict)
    staff: dict[str, int] = field(default_factory=dict)


def build(engine: Engine) -> World:
    """Fill a migrated, empty database."""
    world = World()
    with Session(engine) as db:
        _places(db)
        _people(db, world)
        for station in (1, 2, 3):
            _unpaid(db, world, f"unpaid{station}", station, number=1, minutes=7 * station)
        _unpaid(db, world, "unpaid1b", 1, number=2, minutes=4)
        _prepaid(db, world)
        _flagged(db, world)
        db.commit()
    return world


def _places(db: Session) -> None:
    db.add_all([Operator(id=1, code="OP1", name="华东能源"), Operator(id=2, code="OP2", name="西部燃气")])
    db.add_all(
        [
            Product(id=1, code="92", name="92号汽油", kind="oil", tax_rate_bp=1300),
            Product(id=2, code="CNG", name="车用压缩天然气", kind="gas", tax_rate_bp=900),
        ]
    )
    db.flush()
    for number, operator, name in ((1, 1, "浦东大道站"), (2, 1, "虹桥站"), (3, 2, "兰州北站")):
        code = f"ST00{number}"
        db.add(
            Station(
                id=number,
                operator_id=operator,
                code=code,
                name=name,
                city="上海",
                address=f"示例路{number}号",
            )
        )
        db.add(
            StationLink(station_code=code, last_seen_at=NOW - timedelta(seconds=5 if number != 2 else 900))
        )
        db.flush()
        for fp in (1, 2):
            point = number * 10 + fp
            db.add(FuellingPoint(id=point, station_id=number, node=1, fp=fp))
            state = "fuelling" if fp == 1 else "idle"
            db.add(PointStateRow(station_code=code, node=1, fp=fp, state=state, updated_at=NOW))
            db.flush()
            unit, product = ("L", 1) if fp == 1 else ("kg", 2)
            db.add(
                Nozzle(
                    id=point,
                    station_id=number,
                    fuelling_point_id=point,
                    number=fp,
                    device_nozzle=1,
                    product_id=product,
                    unit=unit,
                    postpaid_allowed=True,
                )
            )
        db.flush()


def _people(db: Session, world: World) -> None:
    password_hash = _CHEAP.hash(PASSWORD)
    for number, (login, (role, operator, station)) in enumerate(PEOPLE.items(), start=1):
        db.add(
            Staff(
                id=number,
                operator_id=operator,
                station_id=station,
                login=login,
                name=NAMES.get(login, login),
                role=role,
                password_hash=password_hash,
            )
        )
        world.staff[login] = number
    db.add(
        Driver(
            id=1, openid_cipher="c", openid_index="i", phone_cipher="cipher-of-13812345678", created_at=NOW
        )
    )
    db.flush()


def _order(station: int, number: int, order_no: str, at: datetime, **more: Any) -> FuelOrder:
    point = station * 10 + number
    facts: dict[str, Any] = {
        "order_no": order_no,
        "operator_id": 2 if station == 3 else 1,
        "station_id": station,
        "fuelling_point_id": point,
        "nozzle_id": point,
        "product_id": number,
        "unit": "L" if number == 1 else "kg",
        "price_fen_per_unit": 758 if number == 1 else 520,
        "created_at": at,
        "updated_at": at,
    }
    return FuelOrder(**{**facts, **more})


def _event(
    order_no: str, key: str, at: datetime, kind: str, status: str, actor: str, detail: str
) -> OrderEvent:
    return OrderEvent(order_no=order_no, key=key, at=at, kind=kind, status=status, actor=actor, detail=detail)


def _unpaid(db: Session, world: World, name: str, station: int, *, number: int, minutes: int) -> None:
    order_no = order_no_of_sale(name)
    at = NOW - timedelta(minutes=minutes)
    price, quantity, amount = (758, 27_030, 20_489) if number == 1 else (520, 12_500, 6_500)
    order = _order(
        station,
        number,
        order_no,
        at,
        mode="postpaid",
        status="unpaid",
        charge_fen=amount,
        quantity_milli=quantity,
    )
    db.add(order)
    db.flush()
    db.add(_event(order_no, "open", at, "dispensed", "unpaid", "dispenser", "加注完成，等待付款"))
    db.add(_sale(order, f"key-{name}", at, price=price, amount=amount))
    _journal(
        db, order_no, f"sale:{order_no}", "post-paid sale", at, [("1100", "D", amount), ("4010", "C", amount)]
    )
    world.orders[name] = order_no


def _sale(order: FuelOrder, key: str, at: datetime, *, price: int, amount: int) -> Sale:
    return Sale(
        natural_key=key,
        order_no=order.order_no,
        station_id=order.station_id,
        fuelling_point_id=order.fuelling_point_id,
        nozzle_id=order.nozzle_id,
        sequence=4711,
        unit=order.unit,
        quantity_milli=order.quantity_milli,
        amount_fen=amount,
        platform_fen=amount,
        price_fen_per_unit=price,
        totaliser_before_milli=1_000_000,
        totaliser_after_milli=1_000_000 + order.quantity_milli,
        end_reason="normal",
        recorded_at=at,
    )


def _journal(
    db: Session, order_no: str, key: str, memo: str, at: datetime, lines: list[tuple[str, str, int]]
) -> None:
    journal = LedgerJournal(key=key, body_hash="h", order_no=order_no, memo=memo, posted_at=at)
    db.add(journal)
    db.flush()
    for account, side, amount in lines:
        db.add(LedgerEntry(journal_id=journal.id or 0, account=account, side=side, amount_fen=amount))


def _prepaid(db: Session, world: World) -> None:
    order_no = order_no_of_start("driver:1", "k1")
    trade = out_trade_no(order_no, 1)
    at = NOW - timedelta(minutes=42)
    order = _order(
        1,
        1,
        order_no,
        at,
        mode="prepaid",
        status="completed",
        driver_id=1,
        preset_fen=20_000,
        paid_fen=20_000,
        paid_by=trade,
        charge_fen=15_160,
        quantity_milli=20_000,
        refunded_fen=4_840,
        ended_at=at + timedelta(seconds=181),
    )
    db.add(order)
    db.flush()
    db.add(_sale(order, "key-prepaid", at + timedelta(seconds=168), price=758, amount=15_160))
    db.add(
        Receipt(
            receipt_no=f"R{order_no}", order_no=order_no, issued_at=at + timedelta(seconds=170), body="{}"
        )
    )
    _money_of_prepaid(db, order_no, trade, at)
    _story_of_prepaid(db, order_no, trade, at)
    world.orders["prepaid"] = order_no


def _money_of_prepaid(db: Session, order_no: str, trade: str, at: datetime) -> None:
    db.add(
        PaymentAttempt(
            out_trade_no=trade,
            order_no=order_no,
            number=1,
            command_id="start",
            method="wechat_jsapi",
            screen="phone",
            amount_fen=20_000,
            status="succeeded",
            request_body="{}",
            transaction_id="4200001234202603021234567890",
            payer_fen=20_000,
            created_at=at + timedelta(seconds=1),
            paid_at=at + timedelta(seconds=11),
        )
    )
    db.flush()
    db.add(
        Refund(
            out_refund_no=out_refund_no(trade, "rest"),
            out_trade_no=trade,
            order_no=order_no,
            amount_fen=4_840,
            status="succeeded",
            reason="余款退回",
            refund_id="50300001",
            created_at=at + timedelta(seconds=171),
            finished_at=at + timedelta(seconds=180),
        )
    )
    paid, settled = at + timedelta(seconds=11), at + timedelta(seconds=170)
    received = [("1010.wechat", "D", 20_000), ("2070", "C", 20_000)]
    _journal(db, order_no, f"pay:{trade}", "prepayment received", paid, received)
    used = [("2070", "D", 20_000), ("2040", "C", 4_840), ("4010", "C", 13_416), ("2050", "C", 1_744)]
    _journal(db, order_no, f"settle:{order_no}", "prepaid sale", settled, used)


def _story_of_prepaid(db: Session, order_no: str, trade: str, at: datetime) -> None:
    refund = f"refund:{out_refund_no(trade, 'rest')}"
    for seconds, key, kind, status, actor, detail in (
        (0, "open", "opened", "awaiting_payment", "driver:1", "预付 ¥200.00"),
        (11, f"pay:{trade}", "paid", "paid", "wechat", "微信支付 ¥200.00"),
        (13, "authorise", "authorised", "authorised", "system", "预置 ¥200.00"),
        (170, "settle", "settled", "dispensed", "dispenser", "加注 20.00 升，退余款 ¥48.40"),
        (180, refund, "refunded", "completed", "wechat", "余款 ¥48.40 已退回"),
    ):
        db.add(_event(order_no, key, at + timedelta(seconds=seconds), kind, status, actor, detail))


def _flagged(db: Session, world: World) -> None:
    order_no = order_no_of_start("driver:1", "k2")
    at = NOW - timedelta(minutes=25)
    db.add(
        _order(
            1,
            2,
            order_no,
            at,
            mode="prepaid",
            status="authorised",
            driver_id=1,
            preset_fen=10_000,
            paid_fen=10_000,
            needs_person="amount_mismatch",
        )
    )
    db.flush()
    db.add(_event(order_no, "open", at, "opened", "awaiting_payment", "driver:1", "预付 ¥100.00"))
    detail = "油机 ¥98.00，平台 ¥65.00"
    flagged_at = at + timedelta(minutes=4)
    db.add(_event(order_no, "flag:amount_mismatch", flagged_at, "flagged", "authorised", "dispenser", detail))
    world.orders["flagged"] = order_no
