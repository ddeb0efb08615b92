"""What a nozzle measures: litres, cubic metres, kilograms or kilowatt-hours, in integer thousandths.

CNG is sold in kg since JJG 996-2012 while older dispensers report cubic metres, so the unit belongs to the
nozzle and never to the station.
"""

from decimal import Decimal
from enum import StrEnum


class Unit(StrEnum):
    """The unit of a quantity; `quantity_milli` is ml, dm³ (a thousandth of a cubic metre), g or Wh."""

    LITRE = "L"
    CUBIC_METRE = "m3"
    KILOGRAM = "kg"
    KILOWATT_HOUR = "kWh"

    @property
    def label_zh(self) -> str:
        """Return the Chinese word that receipts and screens print."""
        return {"L": "升", "m3": "立方米", "kg": "公斤", "kWh": "千瓦时"}[self.value]


def milli_from_decimal(value: Decimal) -> int:
    """Return a device's decimal quantity in thousandths.

    Raises ValueError when the value is negative or finer than a thousandth: a device never reports that, so it
    is a decoding fault and must not be rounded away.
    """
    scaled = value * 1000
    if value < 0 or scaled != scaled.to_integral_value():
        raise ValueError(f"not a quantity in thousandths: {value}")
    return int(scaled)


def quantity_text(milli: int) -> str:
    """Return a quantity for people: thousandths as a decimal with at least two places, '27.03' or '27.035'."""
    text = str((Decimal(milli) / 1000).quantize(Decimal("0.001")))
    return text[:-1] if text.endswith("0") else text
