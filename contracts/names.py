"""Persistent names: workflows, signals, updates, queries, activities, task queues, search attributes.

They are written into histories, so they are constants and never follow a rename of a class or a method.
"""

from enum import StrEnum
from typing import Final

FILL_AND_PAY: Final = "FillAndPay"
RETURN_SURPLUS: Final = "ReturnSurplus"

SIGNAL_PAYMENT_REPORTED: Final = "payment_reported"
SIGNAL_FILL_COMPLETED: Final = "fill_completed"
SIGNAL_COMMAND_REPORTED: Final = "command_reported"
UPDATE_START: Final = "start"
UPDATE_PAY: Final = "pay"
UPDATE_TAKE_CASH: Final = "take_cash"
UPDATE_CANCEL: Final = "cancel"
UPDATE_RESOLVE: Final = "resolve"
QUERY_STATUS: Final = "status"

FILL_TASK_QUEUE: Final = "jiazhu-fill"


def gateway_task_queue(shard: int) -> str:
    """Return the task queue of a gateway shard; its gateway server polls it itself."""
    return f"jiazhu-gateway-{shard}"


ACT_OPEN_ORDER: Final = "open_order"
ACT_OPEN_SALE: Final = "open_sale"
ACT_BEGIN_ATTEMPT: Final = "begin_attempt"
ACT_RECORD_ATTEMPT: Final = "record_attempt"
ACT_POST_PAYMENT: Final = "post_payment"
ACT_RECORD_AUTHORISED: Final = "record_authorised"
ACT_SETTLE_SALE: Final = "settle_sale"
ACT_OWE_REFUND: Final = "owe_refund"
ACT_RECORD_REFUND: Final = "record_refund"
ACT_RENEW_REFUND: Final = "renew_refund"
ACT_END_ORDER: Final = "end_order"
ACT_FLAG_ORDER: Final = "flag_order"
ACT_TAKE_COMMAND: Final = "take_command"
ACT_RESOLVE_SHORTFALL: Final = "resolve_shortfall"
ACT_LOAD_ATTEMPT: Final = "load_attempt"

ACT_CREATE_PAYMENT: Final = "create_payment"
ACT_CHARGE_CODE: Final = "charge_code"
ACT_QUERY_PAYMENT: Final = "query_payment"
ACT_CLOSE_PAYMENT: Final = "close_payment"
ACT_REVERSE_PAYMENT: Final = "reverse_payment"
ACT_REFUND_PAYMENT: Final = "refund_payment"
ACT_QUERY_REFUND: Final = "query_refund"

ACT_AUTHORISE_DISPENSER: Final = "authorise_dispenser"
ACT_STOP_DISPENSER: Final = "stop_dispenser"


class SearchAttribute(StrEnum):
    """Search attributes of every workflow; never personal data. All are keywords but NeedsPerson (bool)."""

    OPERATOR = "Operator"
    STATION = "Station"
    STAGE = "Stage"
    BUSINESS_NO = "BusinessNo"
    NEEDS_PERSON = "NeedsPerson"
