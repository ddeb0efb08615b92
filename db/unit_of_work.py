"""One transaction: repositories over one connection; commits when the block ends, rolls back on any exception."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from sqlalchemy import Connection, Engine, bindparam, select

from activities.ports import Drivers, Ledger, Orders, Payments, Stations
from db.repositories.columns import table_of
from db.repositories.ledger import LedgerRepository
from db.repositories.orders import OrderRepository
from db.repositories.payments import PaymentRepository
from db.repositories.stations import StationRepository
from db.tables.identity import Driver

_driver = table_of(Driver)
_OPENID = select(_driver.c.openid_cipher).where(_driver.c.id == bindparam("driver"))
_OPENID_LOCKED = _OPENID.with_for_update(key_share=True)


class Vault(Protocol):
    """Encrypts and opens columns with personal data; `db.crypto.ColumnCipher` is one."""

    def encrypt(self, table: str, column: str, plain: str) -> str:
        """Return the envelope of a value."""
        ...

    def decrypt(self, table: str, column: str, envelope: str) -> str:
        """Return the value of an envelope."""
        ...


class DriverDirectory:
    """Opens the one personal datum that a channel needs."""

    def __init__(self, connection: Connection, vault: Vault) -> None:
        self._db, self._vault = connection, vault

    def openid(self, driver_id: int, *, lock: bool = False) -> str | None:
        """Return the driver's openid in clear, with the row locked if asked; None when unknown."""
        cipher = self._db.execute(_OPENID_LOCKED if lock else _OPENID, {"driver": driver_id}).scalar()
        return self._vault.decrypt("driver", "openid", cipher) if cipher else None


class SqlTransaction:
    """The repositories of one transaction."""

    def __init__(self, connection: Connection, vault: Vault) -> None:
        self.orders: Orders = OrderRepository(connection)
        self.payments: Payments = PaymentRepository(connection, vault.encrypt, vault.decrypt)
        self.ledger: Ledger = LedgerRepository(connection)
        self.stations: Stations = StationRepository(connection)
        self.drivers: Drivers = DriverDirectory(connection, vault)


def unit_of_work(engine: Engine, vault: Vault) -> Callable[[], AbstractContextManager[SqlTransaction]]:
    """Return what opens a transaction on `engine`."""

    @contextmanager
    def begin() -> Iterator[SqlTransaction]:
        with engine.begin() as connection:
            yield SqlTransaction(connection, vault)

    return begin
