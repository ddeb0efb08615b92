"""A transaction as it was read becomes a sale; what it does not say is asked of the device."""

from dataclasses import dataclass, replace
from datetime import datetime

from contracts.station import SaleRecord
from station_gateway.client.link import DispenserLink
from station_gateway.client.outbox import OpenAuthorisation, Outbox
from station_gateway.client.sales import PointKey, sale_of_transaction
from station_gateway.client.totalisers import read_total
from station_gateway.protocols.ifsf.ids import TransactionId


@dataclass(frozen=True, slots=True)
class ReadSale:
    """A sale, and whether its record told the totaliser (`in_record`).

    A rebuilt one's order ended by the totaliser already: a person decides about the two records.
    """

    sale: SaleRecord
    in_record: bool = False
    is_rebuilt: bool = False


async def read_sale(
    key: PointKey,
    link: DispenserLink,
    outbox: Outbox,
    sequence: int,
    values: dict[int, bytes],
    now: datetime,
    *,
    opened: OpenAuthorisation | None,
    recovered: bool,
) -> ReadSale:
    """Return the sale of a transaction's readable data, with the totaliser read now when the record has none.

    Raises LinkError, and IfsfError when an indispensable field is missing or unreadable.
    """
    total = None
    number = values.get(TransactionId.NOZZLE, b"\0")[-1]
    in_record = TransactionId.TOTAL_AFTER in values
    if not in_record and key.nozzle(number):
        total = await read_total(key, link, number)
    meter = outbox.meter(key.node, key.fp, number)
    sale = sale_of_transaction(
        key,
        sequence,
        values,
        now=now,
        total_after_milli=total,
        meter=meter,
        opened=opened,
        recovered=recovered,
    )
    rebuilt = outbox.rebuilt_order(sale, in_record=in_record)
    if rebuilt is not None:
        sale = replace(sale, order_no=rebuilt)
    return ReadSale(sale, in_record=in_record, is_rebuilt=rebuilt is not None)
