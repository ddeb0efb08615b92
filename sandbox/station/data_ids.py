"""Database addresses, data ids, states and error codes of the IFSF dispenser application (Part 3.01)."""

from __future__ import annotations

from enum import IntEnum

COMMUNICATION = b"\x00"
CALCULATOR = b"\x01"
TRANSACTIONS = 0x21
OFFLINE_TRANSACTIONS = 0x20
ERRORS = 0x41
PRODUCT_PRICES = 0x61
ALL_NOZZLES = 0x10


class FpState(IntEnum):
    """The nine states of a fuelling point."""

    INOPERATIVE = 1
    CLOSED = 2
    IDLE = 3
    CALLING = 4
    AUTHORISED = 5
    STARTED = 6
    SUSPENDED_STARTED = 7
    FUELLING = 8
    SUSPENDED_FUELLING = 9


class TrState(IntEnum):
    """State of a transaction in the buffer."""

    CLEARED = 1
    PAYABLE = 2
    LOCKED = 3


class Com(IntEnum):
    """Communication service database 00."""

    PROTOCOL_VERSION = 0x01
    LOCAL_NODE = 0x02
    RECIPIENTS = 0x03
    HEARTBEAT_INTERVAL = 0x04
    MAX_BLOCK = 0x05
    ADD_RECIPIENT = 0x0B
    REMOVE_RECIPIENT = 0x0C


class Calc(IntEnum):
    """Calculator database 01."""

    PRODUCTS = 0x02
    MODES = 0x03
    METERS = 0x04
    POINTS = 0x05
    COUNTRY = 0x06
    AUTH_STATE_MODE = 0x0B
    STAND_ALONE = 0x0C
    MAX_AUTH_TIME = 0x0D
    MAX_IDLE_FLOW_TIME = 0x15


class Fp(IntEnum):
    """Fuelling point database 21..24."""

    NAME = 0x01
    BUFFER_SIZE = 0x02
    HISTORY_SIZE = 0x03
    NOZZLES = 0x04
    DEFAULT_MODE = 0x07
    STATE = 0x14
    NOZZLE_STATE = 0x15
    ASSIGNED_CONTROLLER = 0x16
    RELEASE_MODE = 0x17
    ZERO_TR_MODE = 0x18
    NOZZLE_MASK = 0x19
    CONFIG_LOCK = 0x1A
    AMOUNT_PRESET = 0x1B
    VOLUME_PRESET = 0x1C
    CURRENT_SEQUENCE = 0x1D
    RELEASE_CONTROLLER = 0x1E
    SUSPEND_CONTROLLER = 0x1F
    RELEASE_TOKEN = 0x20
    MODE = 0x21
    CURRENT_AMOUNT = 0x22
    CURRENT_VOLUME = 0x23
    CURRENT_PRICE = 0x24
    CURRENT_NOZZLE = 0x25
    CURRENT_PRODUCT = 0x26
    CURRENT_ERROR = 0x27
    LAST_SEQUENCE = 0x29
    RUNNING_FREQUENCY = 0x3B
    OPEN = 0x3C
    CLOSE = 0x3D
    RELEASE = 0x3E
    TERMINATE = 0x3F
    SUSPEND = 0x40
    RESUME = 0x41
    STATUS_MESSAGE = 0x64
    RUNNING_MESSAGE = 0x66


class Nozzle(IntEnum):
    """Logical nozzle database 2x 11..18."""

    PRODUCT = 0x01
    PHYSICAL = 0x05
    METER = 0x07
    VOLUME_TOTAL = 0x14
    AMOUNT_TOTAL = 0x15
    COUNT_TOTAL = 0x16


class Tr(IntEnum):
    """Transaction database 2x 21 nnnn. CA..CD are the ids that CNPC dispensers add."""

    SEQUENCE = 0x01
    CONTROLLER = 0x02
    TOKEN = 0x03
    MODE = 0x04
    AMOUNT = 0x05
    VOLUME = 0x06
    PRICE = 0x07
    NOZZLE = 0x08
    PRODUCT = 0x0A
    DESCRIPTION = 0x0B
    ERROR = 0x0C
    CHECKSUM = 0x0E
    BUFFER_CONTROLLER = 0x14
    STATE = 0x15
    CLEAR = 0x1E
    LOCK = 0x1F
    UNLOCK = 0x20
    STATUS_MESSAGE = 0x64
    CONFIRM_OFFLINE = 0xC9
    DATE = 0xCA
    TIME = 0xCB
    TOTAL_BEFORE = 0xCC
    TOTAL_AFTER = 0xCD


class Price(IntEnum):
    """Product price database 61 pppppppp 11..18."""

    MODE_NAME = 0x01
    PRICE = 0x02


class Error(IntEnum):
    """Codes of the error database, also used as the error of a transaction."""

    NONE = 0x00
    CUSTOMER_STOP = 0x22
    AUTH_TIMEOUT = 0x24
    NO_PROGRESS = 0x25
    NO_FUEL = 0x26
    LIMIT_REACHED = 0x27
    SUSPENDED = 0x28
    RESUMED = 0x29
    INOPERATIVE = 0x2D
    CLOSED = 0x2E
    ALREADY_OPEN = 0x2F
    PRICE_MISMATCH = 0x35
    PRICE_NO_ANSWER = 0x36
    PRICE_NOT_ALLOWED = 0x37
    PRICE_APPLIED = 0x99
