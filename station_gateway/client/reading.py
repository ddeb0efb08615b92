"""A transaction as it was read becomes a sale; what it does not say is asked of the device."""

from datetime import datetime

from contracts.station import SaleRecord
from station_gateway.client.link import DispenserLink
from station_gateway.client.outbox import OpenAuthorisation
from station_gateway.client.sales import PointKey, sale_of_transaction
from station_gateway.client.totalisers import read_total
from station_gateway.protocols.ifsf.ids import TransactionId


async def read_sale(
    key: PointKey,
    link: DispenserLink,
    sequence: int,
    values: dict[int, bytes],
    *,
    now: datetime,
    opened: OpenAuthorisation | None,
    recovered: bool,
) -> SaleRecord:
    """Return the sale of a transaction's readable data, with the totaliser read now when the record has none.

    Raises LinkError, and IfsfError when an indispensable field is missing or unreadable.
    """
    total = None
    number = values.get(TransactionId.NOZZLE, b"\0")[-1]
    if TransactionId.TOTAL_AFTER not in values and key.nozzle(number):
        total = await read_total(key, link, number)
    return sale_of_transaction(
        key, sequence, values, now=now, total_after_milli=total, opened=opened, recovered=recovered
    )
