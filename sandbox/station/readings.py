"""What a dispenser answers to a read: every database of IFSF Part 3.01 that the simulator has.

An id that the simulator does not know, or that has no value now, is answered with length 0.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

from sandbox.station.config import FIRST_NOZZLE, LAST_NOZZLE, NozzleConfig
from sandbox.station.data_ids import (
    ALL_NOZZLES,
    CALCULATOR,
    COMMUNICATION,
    ERRORS,
    PRODUCT_PRICES,
    Calc,
    Com,
    Fp,
    Nozzle,
    Price,
    Tr,
)
from sandbox.station.ifsf_wire import (
    Item,
    amount,
    decode_bcd,
    encode_bcd,
    long_count,
    long_total,
    unit_price,
    volume,
)
from sandbox.station.ledger import HISTORY, Sale

if TYPE_CHECKING:
    from sandbox.station.dispenser import Dispenser
    from sandbox.station.fuelling_point import FuellingPoint

CHINA = timezone(timedelta(hours=8))
Found = tuple[bytes, tuple[Item, ...]]


def read(node: Dispenser, db: bytes, ids: tuple[int, ...]) -> Found | None:
    """Answer address and items, or None when the database does not exist."""
    if db == COMMUNICATION:
        return db, _pick(ids, communication(node))
    if db == CALCULATOR:
        return db, _pick(ids, calculator(node))
    if db[0] == PRODUCT_PRICES and len(db) == 6:
        return _price(node, db, ids)
    point = node.points.get(db[0])
    if point is None:
        return None
    if len(db) == 1:
        return db, point_items(point, ids)
    if len(db) == 2:
        return _nozzle(node, point, db, ids)
    if db[1] == ERRORS:
        return db, _pick(ids, {0x01: db[2:3], 0x05: bytes((point.state,))})
    sale = node.find_sale(db)
    if sale is None:
        return None
    return db[:2] + encode_bcd(sale.seq, 4), _pick(ids, transaction(sale))


def _pick(ids: Iterable[int], values: dict[int, bytes]) -> tuple[Item, ...]:
    return tuple(Item(one, values.get(one, b"")) for one in ids)


def communication(node: Dispenser) -> dict[int, bytes]:
    """Database 00."""
    return {
        Com.PROTOCOL_VERSION: b"\x00\x00\x00\x00\x01\x00",
        Com.LOCAL_NODE: node.lna.encode(),
        Com.RECIPIENTS: b"".join(sorted(node.recipients)),
        Com.HEARTBEAT_INTERVAL: bytes((node.config.heartbeat_s,)),
        Com.MAX_BLOCK: b"\x00\xff",
    }


def calculator(node: Dispenser) -> dict[int, bytes]:
    """Database 01."""
    nozzles = [nozzle for point in node.points.values() for nozzle in point.config.nozzles]
    return {
        Calc.PRODUCTS: bytes((len({one.product for one in nozzles}),)),
        Calc.MODES: b"\x01",
        Calc.METERS: bytes((len(nozzles),)),
        Calc.POINTS: bytes((len(node.points),)),
        Calc.COUNTRY: b"\x00\x86",
        Calc.AUTH_STATE_MODE: b"\x00",
        Calc.STAND_ALONE: b"\x00",
        Calc.MAX_AUTH_TIME: bytes((min(255, node.config.auth_timeout_s // 10),)),
        Calc.MAX_IDLE_FLOW_TIME: bytes((min(255, node.config.no_progress_s),)),
    }


def point_items(point: FuellingPoint, ids: Iterable[int]) -> tuple[Item, ...]:
    """Items of a fuelling point in the order asked."""
    return _pick(ids, _point(point))


def _point(point: FuellingPoint) -> dict[int, bytes]:
    nozzle = point.current_nozzle()
    last = point.buffer.last_sequence
    return {
        Fp.NAME: f"FP{point.fp:02X}".encode().ljust(8),
        Fp.BUFFER_SIZE: bytes((point.dispenser.buffer_size,)),
        Fp.HISTORY_SIZE: bytes((HISTORY,)),
        Fp.NOZZLES: bytes((len(point.nozzles),)),
        Fp.DEFAULT_MODE: b"\x01",
        Fp.STATE: bytes((point.state,)),
        Fp.NOZZLE_STATE: bytes((nozzle_bits(point),)),
        Fp.ASSIGNED_CONTROLLER: point.release.controller,
        Fp.RELEASE_MODE: b"\x01",
        Fp.ZERO_TR_MODE: b"\x00",
        Fp.NOZZLE_MASK: bytes((point.release.mask,)),
        Fp.CONFIG_LOCK: b"\x00\x00",
        Fp.AMOUNT_PRESET: amount(point.release.preset.amount_fen or 0),
        Fp.VOLUME_PRESET: volume(point.release.preset.centi or 0),
        Fp.CURRENT_SEQUENCE: encode_bcd(last, 4),
        Fp.RELEASE_CONTROLLER: point.release.controller,
        Fp.SUSPEND_CONTROLLER: point.suspended_by,
        Fp.RELEASE_TOKEN: point.release.token,
        Fp.MODE: b"\x01",
        Fp.CURRENT_AMOUNT: amount(point.current_amount_fen()),
        Fp.CURRENT_VOLUME: volume(point.current_centi()),
        Fp.CURRENT_PRICE: unit_price(point.current_price()),
        Fp.CURRENT_NOZZLE: bytes((0 if point.nozzle_out is None else point.nozzle_out - ALL_NOZZLES,)),
        Fp.CURRENT_PRODUCT: encode_bcd(nozzle.product, 8),
        Fp.CURRENT_ERROR: bytes((point.last_error,)),
        Fp.LAST_SEQUENCE: encode_bcd(last, 4),
        Fp.RUNNING_FREQUENCY: bytes((max(1, point.dispenser.running_ms // 10_000),)),
    }


def nozzle_bits(point: FuellingPoint) -> int:
    """Log_Noz_State. IFSF: bit 1 = out. Some Chinese boards say the opposite, so polarity is configured per
    device.
    """
    out = 0 if point.nozzle_out is None else 1 << (point.nozzle_out - FIRST_NOZZLE)
    if point.dispenser.nozzle_out_bit:
        return out
    present = sum(1 << (number - FIRST_NOZZLE) for number in point.nozzles)
    return present & ~out


def _nozzle(node: Dispenser, point: FuellingPoint, db: bytes, ids: tuple[int, ...]) -> Found | None:
    """`21 10` means all nozzles: boards with one nozzle answer as nozzle 11; with several the totals are
    summed.
    """
    number = db[1]
    if number == ALL_NOZZLES:
        chosen = list(point.config.nozzles)
    elif FIRST_NOZZLE <= number <= LAST_NOZZLE and number in point.nozzles:
        chosen = [point.nozzles[number]]
    else:
        return None
    answer = bytes((point.fp, chosen[0].nozzle if len(chosen) == 1 else ALL_NOZZLES))
    return answer, _pick(ids, _nozzle_values(node, point, chosen))


def _nozzle_values(node: Dispenser, point: FuellingPoint, chosen: list[NozzleConfig]) -> dict[int, bytes]:
    totals = [node.ledger.totals(node.config.node, point.fp, one.nozzle) for one in chosen]
    first = chosen[0]
    return {
        Nozzle.PRODUCT: bytes((_product_slot(node, first.product),)),
        Nozzle.PHYSICAL: bytes((first.nozzle - ALL_NOZZLES,)),
        Nozzle.METER: bytes((first.nozzle - ALL_NOZZLES,)),
        Nozzle.VOLUME_TOTAL: long_total(sum(one.centi for one in totals)),
        Nozzle.AMOUNT_TOTAL: long_total(sum(one.amount_fen for one in totals)),
        Nozzle.COUNT_TOTAL: long_count(sum(one.sales for one in totals)),
    }


def _product_slot(node: Dispenser, product: int) -> int:
    products = sorted({nozzle.product for point in node.points.values() for nozzle in point.config.nozzles})
    return products.index(product) + 1


def _price(node: Dispenser, db: bytes, ids: tuple[int, ...]) -> Found | None:
    product = decode_bcd(db[1:5])
    for point in node.points.values():
        for nozzle in point.config.nozzles:
            if nozzle.product == product:
                values = {Price.MODE_NAME: b"CASH    ", Price.PRICE: unit_price(point.price(nozzle.nozzle))}
                return db, _pick(ids, {int(key): value for key, value in values.items()})
    return None


def transaction(sale: Sale) -> dict[int, bytes]:
    """Database 21 21 nnnn, with the date, time and totalisers that CNPC dispensers add."""
    ended = datetime.fromisoformat(sale.ended_at).astimezone(CHINA)
    return {
        Tr.SEQUENCE: encode_bcd(sale.seq, 4),
        Tr.CONTROLLER: sale.controller,
        Tr.TOKEN: sale.token,
        Tr.MODE: b"\x01",
        Tr.AMOUNT: amount(sale.reported_amount_fen),
        Tr.VOLUME: volume(sale.centi),
        Tr.PRICE: unit_price(sale.price_fen),
        Tr.NOZZLE: bytes((sale.nozzle - ALL_NOZZLES,)),
        Tr.PRODUCT: encode_bcd(sale.product, 8),
        Tr.DESCRIPTION: sale.unit.encode().ljust(16),
        Tr.ERROR: bytes((sale.error,)),
        Tr.CHECKSUM: (sale.reported_amount_fen + sale.centi + sale.price_fen).to_bytes(8, "big")[-3:],
        Tr.BUFFER_CONTROLLER: sale.buffer_controller,
        Tr.STATE: bytes((sale.state,)),
        Tr.DATE: bytes.fromhex(ended.strftime("%Y%m%d")),
        Tr.TIME: bytes.fromhex(ended.strftime("%H%M%S")),
        Tr.TOTAL_BEFORE: long_total(sale.centi_before),
        Tr.TOTAL_AFTER: long_total(sale.centi_after),
    }


def transaction_event(sale: Sale) -> tuple[Item, ...]:
    """TR_Buff_Status_Message: number, state, locking controller, amount, quantity."""
    values = transaction(sale)
    ids = (Tr.SEQUENCE, Tr.STATE, Tr.BUFFER_CONTROLLER, Tr.AMOUNT, Tr.VOLUME)
    return (Item(Tr.STATUS_MESSAGE), *(Item(one, values[one]) for one in ids))
