"""Judging a reported sale: what it costs, and whether a person must look before anybody pays (ADR 0005).

A dispenser may be set by hand to any price, count in any unit or send any number; the meter's amount is charged only
when price and unit are the ones that the platform knows.
"""

from dataclasses import dataclass, replace
from datetime import datetime

from activities.ports import Stations, Transaction
from activities.records import NozzleQuote, OrderPlace, OrderRecord, SaleRow
from contracts.station import EndReason, SaleRecord
from domain import policy
from domain.money import yuan
from domain.quantity import Unit, quantity_text
from domain.settlement import (
    LARGEST_FIGURE,
    LARGEST_PRICE_FEN,
    LARGEST_SEQUENCE,
    CheckedAmount,
    SaleFlag,
    check_amount,
)

_MOST_DIGITS = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedSale:
    """A sale with figures that can be kept, its amounts, why a person must look (if so) and that in words.

    `price_version` is the version of the price that the dispenser showed, when it is one that was in force.
    """

    sale: SaleRecord
    amounts: CheckedAmount
    flag: SaleFlag
    price_version: int = 0
    why: str = ""

    @property
    def charge_fen(self) -> int:
        """Return what is charged without asking anybody: nothing for a flagged sale."""
        return 0 if self.flag else self.amounts.charge_fen


def within_limits(sale: SaleRecord) -> SaleRecord:
    """Return the sale with every figure between nothing and its limit, so that its row can always be written."""
    before, after = sale.totaliser_before_milli, sale.totaliser_after_milli
    return replace(
        sale,
        sequence=_between(sale.sequence, LARGEST_SEQUENCE),
        price_fen_per_unit=_between(sale.price_fen_per_unit, LARGEST_PRICE_FEN),
        amount_fen=_between(sale.amount_fen, LARGEST_FIGURE),
        quantity_milli=_between(sale.quantity_milli, LARGEST_FIGURE),
        totaliser_before_milli=None if before is None else _between(before, LARGEST_FIGURE),
        totaliser_after_milli=None if after is None else _between(after, LARGEST_FIGURE),
    )


def _between(value: int, most: int) -> int:
    return min(max(value, 0), most)


def judge_unordered(
    stations: Stations, reported: SaleRecord, quote: NozzleQuote, now: datetime
) -> JudgedSale:
    """Judge a sale that no order had released: its price and unit have to be the platform's."""
    sale = within_limits(reported)
    amounts = _amounts(sale, platform_priced=quote.platform_priced)
    version = _version_shown(stations, sale, quote, now)
    if sale.order_no is not None:
        flag = SaleFlag.UNEXPECTED
    else:
        flag = _broken(reported, sale, quote.unit) or amounts.flag
        if not flag and version is None:
            flag = SaleFlag.PRICE_MISMATCH
        if not flag and not amounts.charge_fen:
            flag = SaleFlag.ZERO_AMOUNT
    return JudgedSale(
        sale=sale,
        amounts=amounts,
        flag=flag,
        price_version=quote.price_version if version is None else version,
        why=_why(flag, sale, reported, quote.unit, quote.price_fen_per_unit),
    )


def judge_ordered(reported: SaleRecord, order: OrderRecord, place: OrderPlace) -> JudgedSale:
    """Judge the sale of an order: its price and unit have to be the order's."""
    sale = within_limits(reported)
    amounts = _amounts(sale, platform_priced=place.platform_priced)
    flag = _broken(reported, sale, order.unit) or amounts.flag
    if not flag and sale.quantity_milli and sale.price_fen_per_unit != order.price_fen_per_unit:
        flag = SaleFlag.PRICE_MISMATCH
    why = _why(flag, sale, reported, order.unit, order.price_fen_per_unit)
    return JudgedSale(sale=sale, amounts=amounts, flag=flag, price_version=order.price_version, why=why)


def _amounts(sale: SaleRecord, *, platform_priced: bool) -> CheckedAmount:
    return check_amount(
        device_fen=sale.amount_fen,
        price_fen_per_unit=sale.price_fen_per_unit,
        quantity_milli=sale.quantity_milli,
        platform_priced=platform_priced,
    )


def _broken(reported: SaleRecord, kept: SaleRecord, unit: str) -> SaleFlag:
    """Return what is wrong with a report whatever its price is."""
    if reported.end_reason is EndReason.SYNTHESISED:
        return SaleFlag.SYNTHESISED
    if kept != reported:
        return SaleFlag.OUT_OF_RANGE
    return SaleFlag.UNIT_MISMATCH if kept.quantity_milli and kept.unit != unit else SaleFlag.NONE


def _version_shown(stations: Stations, sale: SaleRecord, quote: NozzleQuote, now: datetime) -> int | None:
    """Return the version of the sale's price: the one in force, or one that was when the fill was or shortly before."""
    if sale.price_fen_per_unit == quote.price_fen_per_unit:
        return quote.price_version
    told = max(min(sale.recorded_at, now), now - policy.SALE_PRICE_LOOKBACK)
    return stations.version_of_price(
        quote.station_id,
        quote.product_id,
        sale.price_fen_per_unit,
        told - policy.PRICE_STILL_SHOWN,
        now,
    )


def _why(flag: SaleFlag, sale: SaleRecord, reported: SaleRecord, unit: str, price_fen_per_unit: int) -> str:
    """Return a flag in words for the story; empty for those that have a line of their own."""
    if reported.end_reason is EndReason.SYNTHESISED and not reported.quantity_milli:
        return "油机丢失交易，泵码缺失：是否出油、出油多少不明，待人工核定（未出油则核定为 0 元）"
    match flag:
        case SaleFlag.PRICE_MISMATCH:
            return f"油机单价 {yuan(sale.price_fen_per_unit)} 元，平台单价 {yuan(price_fen_per_unit)} 元，待人工核定"
        case SaleFlag.UNIT_MISMATCH:
            return f"油机按{sale.unit.label_zh}计量，该枪按{Unit(unit).label_zh}销售，待人工核定"
        case SaleFlag.ZERO_AMOUNT:
            return "油机金额为零，待人工核定"
        case SaleFlag.OUT_OF_RANGE:
            told = (reported.quantity_milli, reported.amount_fen, reported.price_fen_per_unit)
            quantity, amount, price = (str(number)[:_MOST_DIGITS] for number in told)
            return f"油机数据超出合理范围：数量 {quantity}‰，金额 {amount} 分，单价 {price} 分，待人工核定"
        case _:
            return ""


def book_sale(tx: Transaction, judged: JudgedSale, order: OrderRecord, *, decided: bool) -> JudgedSale:
    """Store the sale's row once; a key that another order has is a person's matter, never an error to retry.

    Once a person has decided, the sale of a taken key is kept under a key of its own, so that its fuel is counted.
    """
    row = sale_row(judged, order)
    if tx.orders.insert_sale(row):
        return judged
    taken = replace(judged, flag=SaleFlag.KEY_TAKEN)
    if decided:
        own_key = f"{row.natural_key[:96]}#{order.order_no}"
        tx.orders.insert_sale(replace(sale_row(taken, order), natural_key=own_key))
        return taken
    owner = tx.orders.order_of_sale(row.natural_key)
    filled = f"{quantity_text(row.quantity_milli)} {judged.sale.unit.label_zh}，{yuan(row.amount_fen)} 元"
    return replace(taken, why=f"同一加注记录已记在订单 {owner}；本单上报 {filled}，待人工核定")


def sale_row(judged: JudgedSale, order: OrderRecord) -> SaleRow:
    """Return the row of a reported sale."""
    sale = judged.sale
    return SaleRow(
        natural_key=sale.natural_key,
        order_no=order.order_no,
        station_id=order.station_id,
        fuelling_point_id=order.fuelling_point_id,
        nozzle_id=order.nozzle_id,
        sequence=sale.sequence,
        unit=sale.unit,
        quantity_milli=sale.quantity_milli,
        amount_fen=sale.amount_fen,
        platform_fen=judged.amounts.platform_fen,
        price_fen_per_unit=sale.price_fen_per_unit,
        totaliser_before_milli=sale.totaliser_before_milli,
        totaliser_after_milli=sale.totaliser_after_milli,
        end_reason=sale.end_reason,
        flag=judged.amounts.mark(judged.flag).value,
        offline=sale.offline,
        device_time=sale.device_time,
        recorded_at=sale.recorded_at,
    )
