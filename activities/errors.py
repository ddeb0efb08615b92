"""Error mapping: domain and port errors to Temporal's, in one place. Workflows match on these type constants."""

from datetime import timedelta
from typing import Final, NoReturn

from temporalio.exceptions import ApplicationError

from activities.ports import LedgerConflictError
from domain.order import IllegalMoveError

ERR_ILLEGAL_MOVE: Final = "IllegalMove"
ERR_LEDGER_CONFLICT: Final = "LedgerConflict"
ERR_ORDER_UNKNOWN: Final = "OrderUnknown"
ERR_PLACE_UNKNOWN: Final = "PlaceUnknown"
_PLACE_UNKNOWN_AGAIN: Final = timedelta(minutes=10)
"""Setting up a nozzle takes days, and every retry writes history: each ten seconds would fill it in one day."""


class OrderUnknownError(Exception):
    """No order under this number: retrying cannot help."""


class PlaceUnknownError(Exception):
    """A sale came from a nozzle that nobody has set up yet; a retry helps once somebody has."""


class SaleBookedMeanwhileError(Exception):
    """Another transaction has just booked the same sale; the next try finds its order."""


def raise_mapped(error: Exception) -> NoReturn:
    """Raise the Temporal error of a domain or port error; anything else passes and is retried.

    Raises ApplicationError, or the given error itself.
    """
    match error:
        case IllegalMoveError():
            raise ApplicationError(str(error), type=ERR_ILLEGAL_MOVE, non_retryable=True) from error
        case LedgerConflictError():
            raise ApplicationError(str(error), type=ERR_LEDGER_CONFLICT, non_retryable=True) from error
        case OrderUnknownError():
            raise ApplicationError(str(error), type=ERR_ORDER_UNKNOWN, non_retryable=True) from error
        case PlaceUnknownError():
            raise ApplicationError(
                str(error), type=ERR_PLACE_UNKNOWN, next_retry_delay=_PLACE_UNKNOWN_AGAIN
            ) from error
        case _:
            raise error
