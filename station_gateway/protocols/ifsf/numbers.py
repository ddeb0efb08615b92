"""IFSF numbers: bin8 + BCD. The first byte counts the integer digits, so the exponent comes with the value.

Source: IFSF Part 3.01, data types; AMOUNT and VOLUME are usually 6.2, UNIT_PRICE 4.2, totals 10.2, but a
device may send another exponent and is always believed.
"""

from decimal import Decimal

from station_gateway.protocols.ifsf.errors import IfsfError

_BCD_PAIRS = frozenset(high << 4 | low for high in range(10) for low in range(10))
_ALLOWED = bytes(sorted(_BCD_PAIRS))
_TOO_LARGE = 1 << 62
"""No meter counts that far, and no database column holds more."""


def bcd_to_int(raw: bytes) -> int:
    """Return packed decimal digits as an integer. Raises IfsfError on a digit above nine or on no bytes."""
    if not raw or raw.translate(None, _ALLOWED):
        raise IfsfError("not packed decimal")
    return int(raw.hex())


def int_to_bcd(value: int, size: int) -> bytes:
    """Return `value` as packed decimal in `size` bytes. Raises IfsfError when it does not fit."""
    text = f"{value:0{size * 2}d}"
    if value < 0 or len(text) != size * 2:
        raise IfsfError(f"{value} does not fit {size} BCD bytes")
    return bytes.fromhex(text)


def _parts(raw: bytes) -> tuple[int, int]:
    """Return the digits as an integer and how many of them are decimals. Raises IfsfError."""
    if len(raw) < 2:
        raise IfsfError("a number has at least two bytes")
    if raw[0] > 2 * (len(raw) - 1):
        raise IfsfError("more integer digits than the field has")
    return bcd_to_int(raw[1:]), 2 * (len(raw) - 1) - raw[0]


def decode_number(raw: bytes) -> Decimal:
    """Return the value with the device's own decimals. Raises IfsfError."""
    digits, decimals = _parts(raw)
    return Decimal(digits).scaleb(-decimals)


def decode_scaled(raw: bytes, decimals: int) -> int:
    """Return the value times 10**decimals as an integer, whatever exponent the device chose.

    Raises IfsfError when the device sent more decimals than that and they are not zero: money and quantities
    are never rounded on the way in, or a value beyond any meter.
    """
    digits, have = _parts(raw)
    whole, lost = digits * int(10 ** max(0, decimals - have)), 0
    if have > decimals:
        whole, lost = divmod(digits, int(10 ** (have - decimals)))
    if lost:
        raise IfsfError("finer than the unit it is read in")
    if whole >= _TOO_LARGE:
        raise IfsfError("larger than any meter")
    return whole


def encode_number(value: Decimal, *, integer_digits: int, size: int) -> bytes:
    """Return bin8 + BCD with `size` BCD bytes. Raises IfsfError when digits would be lost."""
    scaled = value.scaleb(2 * size - integer_digits)
    if scaled != scaled.to_integral_value():
        raise IfsfError(f"{value} has too many decimals")
    return bytes((integer_digits,)) + int_to_bcd(int(scaled), size)


def encode_amount(fen: int) -> bytes:
    """Return an AMOUNT 6.2 from fen; the widest preset is 999,999.99 yuan."""
    return b"\x06" + int_to_bcd(fen, 4)


def encode_volume(centi: int) -> bytes:
    """Return a VOLUME 6.2 from hundredths of the nozzle's unit."""
    return b"\x06" + int_to_bcd(centi, 4)


def encode_unit_price(fen_per_unit: int) -> bytes:
    """Return a UNIT_PRICE 4.2 from fen per unit."""
    return b"\x04" + int_to_bcd(fen_per_unit, 3)
