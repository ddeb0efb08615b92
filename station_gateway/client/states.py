"""What the states of a fuelling point mean to the controller, and what its messages say about nozzles."""

from collections.abc import Iterable
from enum import StrEnum

from contracts.station import PointState
from station_gateway.protocols.ifsf.ids import FpId, point_state

WAITING = frozenset({PointState.IDLE, PointState.CALLING})
RELEASED = frozenset({PointState.AUTHORISED, PointState.STARTED, PointState.SUSPENDED_STARTED})
FLOWING = frozenset({PointState.FUELLING, PointState.SUSPENDED_FUELLING})
AT_WORK = RELEASED | FLOWING


class Found(StrEnum):
    """What reading a device's transaction buffer came to."""

    NONE = "none"
    """The device says that there is nothing."""
    CLEARED = "cleared"
    STUCK = "stuck"
    """Stored here, but the device keeps it; what lies behind it cannot be read."""
    BUSY = "busy"
    """The device did not say what is there."""


def told_state(
    values: dict[int, bytes], *, out_bit: int, nozzles: Iterable[int]
) -> tuple[PointState, int | None]:
    """Return FP_State and the lifted nozzle. Raises IfsfError for no state at all."""
    state = point_state(values.get(FpId.STATE, b""))
    return state, lifted_nozzle(values.get(FpId.NOZZLE_STATE, b""), out_bit=out_bit, nozzles=nozzles)


def lifted_nozzle(log_noz_state: bytes, *, out_bit: int, nozzles: Iterable[int]) -> int | None:
    """Return the lifted nozzle of Log_Noz_State; `out_bit` is the value of a lifted nozzle's bit."""
    if not log_noz_state:
        return None
    bits = log_noz_state[-1]
    if not out_bit:
        bits = ~bits
    return next((number for number in nozzles if bits >> number - 1 & 1), None)
