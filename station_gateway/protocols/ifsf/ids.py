"""Addresses and data ids of the dispenser application (IFSF Part 3.01 v2.32; CA..CD are CNPC's own)."""

from enum import IntEnum

from contracts.station import PointState
from station_gateway.protocols.ifsf.errors import IfsfError
from station_gateway.protocols.ifsf.numbers import bcd_to_int, int_to_bcd

DISPENSER_SUBNET = 1
CONTROLLER_SUBNET = 2
COMMUNICATION_DB = b"\x00"
TRANSACTION_DB = 0x21
ERROR_DB = 0x41
PRICE_DB = 0x61
FIRST_FP, LAST_FP = 0x21, 0x24
NOZZLE_BASE = 0x10
DEFAULT_MODE = 0x11


class ComId(IntEnum):
    """COM_SV, database 00."""

    HEARTBEAT_INTERVAL = 0x04
    ADD_RECIPIENT = 0x0B


class FpId(IntEnum):
    """FP_ID, databases 21..24."""

    UNPAID_BUFFER_SIZE = 0x02
    STATE = 0x14
    NOZZLE_STATE = 0x15
    NOZZLE_MASK = 0x19
    AMOUNT_PRESET = 0x1B
    VOLUME_PRESET = 0x1C
    CURRENT_SEQUENCE = 0x1D
    RELEASE_CONTROLLER = 0x1E
    CURRENT_AMOUNT = 0x22
    CURRENT_VOLUME = 0x23
    CURRENT_UNIT_PRICE = 0x24
    CURRENT_NOZZLE = 0x25
    TRANSACTION_SEQUENCE = 0x29
    OPEN = 0x3C
    CLOSE = 0x3D
    RELEASE = 0x3E
    TERMINATE = 0x3F
    STATUS_MESSAGE = 0x64
    RUNNING_MESSAGE = 0x66


class NozzleId(IntEnum):
    """FP_ID + LN_ID, databases 2x 11..18."""

    VOLUME_TOTAL = 0x14
    AMOUNT_TOTAL = 0x15


class TransactionId(IntEnum):
    """TR_DAT, databases 2x 21 nnnn."""

    SEQUENCE = 0x01
    AMOUNT = 0x05
    VOLUME = 0x06
    UNIT_PRICE = 0x07
    NOZZLE = 0x08
    PRODUCT = 0x0A
    ERROR = 0x0C
    STATE = 0x15
    CLEAR = 0x1E
    STATUS_MESSAGE = 0x64
    DATE = 0xCA
    TIME = 0xCB
    TOTAL_BEFORE = 0xCC
    TOTAL_AFTER = 0xCD


class PriceId(IntEnum):
    """PR_DAT, databases 61 pppppppp 11..18."""

    PRICE = 0x02


class ErrorId(IntEnum):
    """Error database, 2x 41 ee."""

    CODE = 0x01
    FP_STATE = 0x05
    STATUS_MESSAGE = 0x64


class TransactionState(IntEnum):
    """State of a transaction in the device's buffer."""

    CLEARED = 1
    PAYABLE = 2
    LOCKED = 3


UNPAID = (TransactionState.PAYABLE, TransactionState.LOCKED)
"""A transaction in one of these states is to be collected; it may be cleared."""


class ErrorCode(IntEnum):
    """Codes of the error database that mean something to us; also TR_DAT's error."""

    CUSTOMER_STOP = 0x22
    AUTHORISE_TIMEOUT = 0x24
    MAX_FUELLING_TIME = 0x25
    NO_FUEL = 0x26
    LIMIT_REACHED = 0x27


_STATES = {
    1: PointState.INOPERATIVE,
    2: PointState.CLOSED,
    3: PointState.IDLE,
    4: PointState.CALLING,
    5: PointState.AUTHORISED,
    6: PointState.STARTED,
    7: PointState.SUSPENDED_STARTED,
    8: PointState.FUELLING,
    9: PointState.SUSPENDED_FUELLING,
}


def point_state(raw: bytes) -> PointState:
    """Return the canonical state of an FP_State byte. Raises IfsfError on a tenth state."""
    state = _STATES.get(raw[0]) if len(raw) == 1 else None
    if state is None:
        raise IfsfError(f"not an FP_State: {raw.hex()}")
    return state


def nozzle_db(fp: int, nozzle: int) -> bytes:
    """Return the address of a logical nozzle (1-8) of a fuelling point."""
    return bytes((fp, NOZZLE_BASE + nozzle))


def transaction_db(fp: int, sequence: int) -> bytes:
    """Return the address of a transaction; sequence 0 is the oldest one that is not cleared."""
    return bytes((fp, TRANSACTION_DB)) + int_to_bcd(sequence, 2)


def sequence_of(database: bytes) -> int | None:
    """Return the sequence number in a transaction address, None when the address is something else."""
    if len(database) != 4 or database[1] != TRANSACTION_DB:
        return None
    return bcd_to_int(database[2:])


def price_db(product: int) -> bytes:
    """Return the address of a product's price in the default fuelling mode."""
    return bytes((PRICE_DB,)) + int_to_bcd(product, 4) + bytes((DEFAULT_MODE,))
