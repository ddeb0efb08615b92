"""Seed a development database: one operator, one station as the simulator builds it, prices, staff, a kiosk.

`python -m db.seed` is safe to repeat: what is there already is left alone. Production stations come through the
operator's own set-up, never from here.
"""

import hashlib
import sys
from datetime import UTC, datetime

from pwdlib import PasswordHash
from sqlalchemy import Connection, Engine, select
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import SQLModel

from config.settings import Role, SettingsError, load
from db.repositories.columns import table_of
from db.session import make_engine
from db.tables.identity import Staff, Terminal
from db.tables.station import FuellingPoint, Nozzle, Operator, Price, Product, Station

STATION = "ST001"
STAFF_PASSWORD = "jiazhu-demo-2026"  # noqa: S105 - printed for everybody
"""Only for development databases; the embedded stack prints it."""
TERMINAL_SECRETS = {"kiosk": "kiosk-demo-key", "pillar": "pillar-demo-key", "pos": "pos-demo-key"}

PRODUCTS = (
    ("92", "92号汽油", "oil", 1300, False, 735),
    ("95", "95号汽油", "oil", 1300, False, 785),
    ("0", "0号柴油", "oil", 1300, False, 705),
    ("CNG", "压缩天然气", "gas", 900, False, 498),
    ("LNG", "液化天然气", "gas", 900, False, 620),
    ("EV", "充电", "power", 1300, True, 150),
)
"""code, name, kind, VAT in basis points, platform priced, price in fen a unit."""

NOZZLES = (
    (1, 1, 0x21, 1, "92", "L", True, False),
    (2, 1, 0x21, 2, "95", "L", True, False),
    (3, 1, 0x22, 1, "92", "L", True, True),
    (4, 1, 0x22, 2, "95", "L", True, True),
    (5, 2, 0x21, 1, "0", "L", True, False),
    (6, 2, 0x22, 1, "0", "L", True, True),
    (7, 3, 0x21, 1, "CNG", "m3", True, True),
    (8, 4, 0x21, 1, "LNG", "kg", True, True),
    (9, 5, 0x21, 1, "EV", "kWh", True, True),
)
"""number, node, fuelling point, device nozzle, product, unit, prepaid, post-paid."""

STAFF = (
    ("cashier1", "张收银", "cashier", True),
    ("manager1", "李站长", "manager", True),
    ("operator1", "王运营", "operator", False),
    ("auditor1", "赵审计", "auditor", False),
    ("admin1", "管理员", "admin", False),
)


def _id_of(db: Connection, model: type[SQLModel], key: dict[str, object], values: dict[str, object]) -> int:
    """Return the id of the row with this key, inserting it when it is not there."""
    table = table_of(model)
    db.execute(insert(table).on_conflict_do_nothing(), {**key, **values})
    found = db.execute(select(table.c.id).filter_by(**key)).scalar_one()
    return int(found)


def _seed_place(db: Connection, station_id: int, now: datetime) -> None:
    products: dict[str, int] = {}
    for code, name, kind, tax, platform_priced, price in PRODUCTS:
        values = {"name": name, "kind": kind, "tax_rate_bp": tax, "platform_priced": platform_priced}
        products[code] = _id_of(db, Product, {"code": code}, dict(values))
        key: dict[str, object] = {"station_id": station_id, "product_id": products[code], "version": 1}
        _id_of(db, Price, key, {"price_fen_per_unit": price, "effective_at": now})
    for number, node, fp, device_nozzle, product, unit, prepaid, postpaid in NOZZLES:
        point = _id_of(db, FuellingPoint, {"station_id": station_id, "node": node, "fp": fp}, {})
        _id_of(
            db,
            Nozzle,
            {"station_id": station_id, "number": number},
            {
                "fuelling_point_id": point,
                "device_nozzle": device_nozzle,
                "product_id": products[product],
                "unit": unit,
                "prepaid_allowed": prepaid,
                "postpaid_allowed": postpaid,
                "is_open": True,
                "code_version": 1,
            },
        )


def _seed_people(db: Connection, operator_id: int, station_id: int) -> None:
    if db.execute(select(table_of(Staff).c.id).limit(1)).first() is None:
        hashed = PasswordHash.recommended().hash(STAFF_PASSWORD)
        for login, name, role, at_station in STAFF:
            values = {
                "operator_id": operator_id,
                "station_id": station_id if at_station else None,
                "name": name,
                "role": role,
                "password_hash": hashed,
                "is_active": True,
                "failed_logins": 0,
            }
            _id_of(db, Staff, {"login": login}, dict(values))
    for kind, secret in TERMINAL_SECRETS.items():
        digest = hashlib.sha256(secret.encode()).hexdigest()
        values = {
            "station_id": station_id,
            "kind": kind,
            "name": f"{kind}-1",
            "nozzle_numbers": "",
            "is_active": True,
        }
        _id_of(db, Terminal, {"key_hash": digest}, dict(values))


def seed(engine: Engine, now: datetime) -> None:
    """Seed the development rows; repeating changes nothing."""
    with engine.begin() as db:
        operator_id = _id_of(db, Operator, {"code": "OP001"}, {"name": "加注示范能源"})
        station_id = _id_of(
            db,
            Station,
            {"code": STATION},
            {
                "operator_id": operator_id,
                "name": "加注示范站",
                "city": "太原",
                "address": "示范路1号",
                "latitude_e6": 37_870_590,
                "longitude_e6": 112_550_670,
                "gateway_shard": 0,
                "is_open": True,
            },
        )
        _seed_place(db, station_id, now)
        _seed_people(db, operator_id, station_id)


def main() -> int:
    """Seed the database of the settings; return the exit status."""
    try:
        settings = load(Role.DATABASE)
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    engine = make_engine(settings.require_database_url(), pool_size=1)
    seed(engine, datetime.now(tz=UTC))
    engine.dispose()
    return 0


if __name__ == "__main__":
    sys.exit(main())
