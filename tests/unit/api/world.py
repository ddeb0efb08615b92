"""A small world for the API's tests: two operators, three stations, people, terminals, orders."""

import hashlib
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from fastapi import FastAPI
from sqlalchemy import Engine
from sqlmodel import Session, select

from api.app import create_app
from api.auth.logins import hash_password
from api.auth.roles import Role
from api.deps import ApiDeps
from contracts.fill import StartFill
from db.crypto import ColumnCipher
from db.tables.gateway import StationLink
from db.tables.identity import Driver, Staff, Terminal
from db.tables.inbox import InboxMessage
from db.tables.order import FuelOrder, Receipt
from db.tables.payment import PaymentAttempt
from db.tables.station import FuellingPoint, Nozzle, Operator, Price, Product, Station
from domain.ids import order_no_of_start
from domain.nozzle_code import NozzleCode, sign
from domain.order import OrderStatus
from tests.unit.api.fakes import FakeMiniProgram, FakeTemporal, FakeVerifier

CODE_KEY = b"n" * 32
PASSWORD = "right horse battery"
PRICE_FEN, PRICE_VERSION = 785, 2
_STATIONS = {"ST001": "OPA", "ST002": "OPA", "ST900": "OPB"}


@dataclass
class TestClock:
    """A clock that tests move."""

    __test__ = False
    now: datetime = datetime(2026, 5, 1, 8, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@dataclass
class World:
    """The app over a real database and fake neighbours."""

    engine: Engine
    clock: TestClock = field(default_factory=TestClock)
    temporal: FakeTemporal = field(default_factory=FakeTemporal)
    ids: dict[Any, Any] = field(default_factory=dict)
    staff_ids: dict[str, int] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def __post_init__(self) -> None:
        self.cipher = ColumnCipher({"k1": b"d" * 32}, b"i" * 32)
        self.temporal.on_start = self.record_start
        self._password_hash = hash_password(PASSWORD)
        with self.session() as db:
            self._seed(db)
        self.app = self.make_app()

    def make_app(self, **changes: Any) -> FastAPI:
        deps = ApiDeps(
            engine=changes.pop("engine", self.engine),
            temporal=self.temporal,
            mini_program=changes.pop("mini_program", None) or FakeMiniProgram(),
            verifier=FakeVerifier(),
            cipher=self.cipher,
            clock=self.clock,
            jwt_secret="j" * 40,
            nozzle_code_key=CODE_KEY,
            sandbox=True,
            threads=4,
            **{"relay": False, "login_tries_per_address": 100_000, **changes},
        )
        return create_app(deps)

    @contextmanager
    def session(self) -> Iterator[Session]:
        with Session(self.engine, expire_on_commit=False) as db:
            yield db
            db.commit()

    def client(self, app: FastAPI | None = None) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(app or self.app, raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url="http://api.test")

    def _seed(self, db: Session) -> None:
        products = [
            Product(code="92", name="92号汽油", kind="oil", tax_rate_bp=1300),
            Product(code="CNG", name="压缩天然气", kind="gas", tax_rate_bp=900),
        ]
        db.add_all(products)
        for number, (code, operator_code) in enumerate(_STATIONS.items()):
            operator = db.exec(select(Operator).where(Operator.code == operator_code)).first()
            if operator is None:
                operator = Operator(code=operator_code, name=operator_code)
                db.add(operator)
                db.flush()
            self._station(db, code, operator, products, number)
        db.flush()
        for role in ("cashier", "manager", "operator", "auditor", "admin"):
            for code in ("ST001", "ST002", "ST900"):
                self._staff(db, role, code)

    def _station(
        self, db: Session, code: str, operator: Operator, products: list[Product], number: int
    ) -> None:
        station = Station(
            operator_id=operator.id or 0,
            code=code,
            name=f"{code}站",
            city="太原" if number < 2 else "克拉玛依",
            latitude_e6=37_870_000 + number * 100_000,
            longitude_e6=112_550_000,
        )
        db.add(station)
        db.add(StationLink(station_code=code, last_seen_at=self.clock.now))
        db.flush()
        self.ids[code] = station
        for index, product in enumerate(products, start=1):
            point = FuellingPoint(station_id=station.id or 0, node=1, fp=32 + index)
            db.add(point)
            db.flush()
            nozzle = Nozzle(
                station_id=station.id or 0,
                fuelling_point_id=point.id or 0,
                number=index,
                device_nozzle=1,
                product_id=product.id or 0,
                unit="L" if product.code == "92" else "kg",
                postpaid_allowed=True,
            )
            db.add(nozzle)
            db.flush()
            self.ids[code, index] = nozzle
            for version, days, price in ((1, 9, 700), (2, 1, PRICE_FEN), (3, -1, 999)):
                at = self.clock.now - timedelta(days=days)
                db.add(
                    Price(
                        station_id=station.id or 0,
                        product_id=product.id or 0,
                        version=version,
                        price_fen_per_unit=price,
                        effective_at=at,
                    )
                )

    def _staff(self, db: Session, role: str, code: str) -> None:
        station = self.ids[code]
        local = role in ("cashier", "manager")
        staff = Staff(
            operator_id=station.operator_id,
            station_id=station.id if local else None,
            login=f"{role}-{code}",
            name=role,
            role=role,
            password_hash=self._password_hash,
        )
        db.add(staff)
        db.flush()
        self.staff_ids[staff.login] = staff.id or 0

    def add_driver(self) -> int:
        openid = f"openid-{next(self.numbers)}"
        driver = Driver(
            openid_cipher=self.cipher.encrypt("driver", "openid", openid),
            openid_index=self.cipher.index("driver", "openid", openid),
            created_at=self.clock.now,
        )
        with self.session() as db:
            db.add(driver)
            db.flush()
            return driver.id or 0

    def add_terminal(self, code: str = "ST001", kind: str = "kiosk", nozzles: str = "") -> dict[str, str]:
        secret = f"secret-{next(self.numbers)}"
        terminal = Terminal(
            station_id=self.ids[code].id,
            kind=kind,
            name=kind,
            key_hash=hashlib.sha256(secret.encode()).hexdigest(),
            nozzle_numbers=nozzles,
        )
        with self.session() as db:
            db.add(terminal)
            db.flush()
            return {"Authorization": f"Device {terminal.id}.{secret}"}

    def as_driver(self, driver_id: int | None = None) -> dict[str, str]:
        return self.bearer(Role.DRIVER, driver_id if driver_id is not None else self.add_driver())

    def as_staff(self, role: str = "cashier", code: str = "ST001") -> dict[str, str]:
        return self.bearer(Role(role), self.staff_ids[f"{role}-{code}"], code)

    def bearer(self, role: Role, subject_id: int, code: str = "ST001") -> dict[str, str]:
        from api.auth.roles import Principal
        from api.auth.tokens import AccessTokens

        station = self.ids[code]
        local = role in (Role.CASHIER, Role.MANAGER)
        principal = Principal(
            role=role,
            id=subject_id,
            operator_id=station.operator_id if role is not Role.DRIVER else None,
            station_id=station.id if local else None,
            station_code=code if local else None,
        )
        token = AccessTokens("j" * 40).issue(principal, now=self.clock.now)
        return {"Authorization": f"Bearer {token}"}

    def as_role(self, role: Role, code: str = "ST001") -> dict[str, str]:
        if role is Role.ANYONE:
            return {}
        if role is Role.DRIVER:
            return self.as_driver()
        if role is Role.TERMINAL:
            return self.add_terminal(code)
        return self.as_staff(role.value, code)

    def key(self) -> dict[str, str]:
        return {"Idempotency-Key": f"key-{next(self.numbers):08d}"}

    def nozzle_text(self, code: str = "ST001", nozzle: int = 1, version: int = 1) -> str:
        return sign(CODE_KEY, NozzleCode(station_code=code, nozzle_no=nozzle, version=version))

    def start_body(self, **changes: Any) -> dict[str, Any]:
        return {
            "station_code": "ST001",
            "nozzle_no": 1,
            "amount_fen": 20_000,
            "price_fen_per_unit": PRICE_FEN,
            "price_version": PRICE_VERSION,
            "method": "wechat_jsapi",
            **changes,
        }

    def record_start(self, fill: StartFill) -> None:
        self.add_order(
            fill.station_code,
            fill.nozzle_no,
            order_no=fill.order_no,
            status=OrderStatus.AWAITING_PAYMENT,
            mode="prepaid",
            driver_id=fill.driver_id,
            preset_fen=fill.amount_fen,
            body_hash=fill.body_hash,
        )

    def add_order(
        self,
        code: str = "ST001",
        nozzle: int = 1,
        *,
        status: OrderStatus = OrderStatus.UNPAID,
        running: bool = True,
        **values: Any,
    ) -> str:
        station, gun = self.ids[code], self.ids[code, nozzle]
        order_no = values.pop("order_no", None) or order_no_of_start("test", str(next(self.numbers)))
        row = {
            "operator_id": station.operator_id,
            "station_id": station.id,
            "fuelling_point_id": gun.fuelling_point_id,
            "nozzle_id": gun.id,
            "product_id": gun.product_id,
            "mode": "postpaid",
            "unit": gun.unit,
            "price_fen_per_unit": PRICE_FEN,
            "charge_fen": 100 if status is OrderStatus.UNPAID else 0,
            "created_at": self.clock.now,
            "updated_at": self.clock.now,
            **values,
        }
        with self.session() as db:
            db.add(FuelOrder(order_no=order_no, status=status.value, **row))
        if running:
            self.temporal.running.add(order_no)
        return order_no

    def add_attempt(self, order_no: str, number: int = 1, **values: Any) -> str:
        trade_no = f"{order_no}A{number:03d}"
        row = {
            "number": number,
            "command_id": f"c{number}",
            "method": "wechat_native",
            "amount_fen": 100,
            "status": "open",
            "request_body": "{}",
            "created_at": self.clock.now,
            **values,
        }
        with self.session() as db:
            db.add(PaymentAttempt(out_trade_no=trade_no, order_no=order_no, **row))
        return trade_no

    def add_receipt(self, order_no: str) -> None:
        row = Receipt(
            receipt_no=f"R{order_no}", order_no=order_no, issued_at=self.clock.now, body='{"金额": "1.00"}'
        )
        with self.session() as db:
            db.add(row)

    def change_order(self, order_no: str, **values: Any) -> None:
        with self.session() as db:
            row = db.get_one(FuelOrder, order_no)
            for name, value in values.items():
                setattr(row, name, value)
            db.add(row)

    def inbox(self, external_id: str) -> InboxMessage | None:
        with self.session() as db:
            return db.get(InboxMessage, ("wechat", external_id))
