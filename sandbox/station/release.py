"""What a controller writes before it releases a point, and what the release latches."""

from __future__ import annotations

from sandbox.station.config import FIRST_NOZZLE
from sandbox.station.data_ids import Fp
from sandbox.station.ifsf_wire import DataAck, Item, WireError, hundredths
from sandbox.station.meter import FREE, Preset

ALL_NOZZLES_MASK = 0xFF
NO_CONTROLLER = b"\x00\x00"
SETTABLE = frozenset(
    {
        Fp.AMOUNT_PRESET,
        Fp.VOLUME_PRESET,
        Fp.NOZZLE_MASK,
        Fp.RELEASE_CONTROLLER,
        Fp.RELEASE_TOKEN,
        Fp.RELEASE_MODE,
        Fp.ASSIGNED_CONTROLLER,
        Fp.MODE,
    }
)


class Release:
    """Preset, allowed nozzles, controller and token of one release; prices are latched when it is granted."""

    def __init__(self) -> None:
        self.preset = FREE
        self.mask = ALL_NOZZLES_MASK
        self.controller = NO_CONTROLLER
        self.token = b"\x00"
        self.prices: dict[int, int] = {}

    def allows(self, nozzle: int) -> bool:
        """Log_Noz_Mask: bit 0 is nozzle 11."""
        return bool(self.mask >> (nozzle - FIRST_NOZZLE) & 1)

    def accept(self, item: Item) -> DataAck:
        """Take one value. A preset of zero is no preset, a mask of zero allows every nozzle."""
        try:
            self._take(item)
        except (WireError, IndexError):
            return DataAck.INVALID_VALUE
        return DataAck.OK

    def _take(self, item: Item) -> None:
        match item.data_id:
            case Fp.AMOUNT_PRESET:
                self.preset = Preset(amount_fen=hundredths(item.data) or None)
            case Fp.VOLUME_PRESET:
                self.preset = Preset(centi=hundredths(item.data) or None)
            case Fp.NOZZLE_MASK:
                self.mask = item.data[0] or ALL_NOZZLES_MASK
            case Fp.RELEASE_CONTROLLER:
                self.controller = item.data[:2].ljust(2, b"\x00")
            case Fp.RELEASE_TOKEN:
                self.token = item.data[:4] or b"\x00"
