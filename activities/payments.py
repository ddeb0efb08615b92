"""The payment boundary: one channel call per activity, the answer is always an outcome. No database here."""

from temporalio import activity

from activities.ports import PaymentChannel
from contracts import names
from contracts.payment import AttemptRef, CloseOutcome, PaymentOutcome, RefundOutcome, RefundRequest


class PaymentActivities:
    """Calls channels; keyed by channel name (`wechat`, `cash`)."""

    def __init__(self, channels: dict[str, PaymentChannel]) -> None:
        self._channels = channels

    def _of(self, ref: AttemptRef) -> PaymentChannel:
        return self._channels[ref.method.channel]

    @activity.defn(name=names.ACT_CREATE_PAYMENT)
    def create_payment(self, ref: AttemptRef) -> PaymentOutcome:
        """Place an attempt at its channel with its stored bytes; safe to repeat."""
        return self._of(ref).create(ref)

    @activity.defn(name=names.ACT_CHARGE_CODE)
    def charge_code(self, ref: AttemptRef) -> PaymentOutcome:
        """Charge a pay code; scheduled once, an unknown result is asked for and never charged again."""
        return self._of(ref).charge_code(ref)

    @activity.defn(name=names.ACT_QUERY_PAYMENT)
    def query_payment(self, ref: AttemptRef) -> PaymentOutcome:
        """Ask what became of an attempt."""
        return self._of(ref).query(ref)

    @activity.defn(name=names.ACT_CLOSE_PAYMENT)
    def close_payment(self, ref: AttemptRef) -> CloseOutcome:
        """Make an attempt unpayable."""
        return self._of(ref).close(ref)

    @activity.defn(name=names.ACT_REVERSE_PAYMENT)
    def reverse_payment(self, ref: AttemptRef) -> CloseOutcome:
        """Undo a pay-code trade."""
        return self._of(ref).reverse(ref)

    @activity.defn(name=names.ACT_REFUND_PAYMENT)
    def refund_payment(self, request: RefundRequest) -> RefundOutcome:
        """Give money back under a fixed refund number; the channel pays a number once."""
        return self._channels[request.method.channel].refund(request)

    @activity.defn(name=names.ACT_QUERY_REFUND)
    def query_refund(self, request: RefundRequest) -> RefundOutcome:
        """Ask how a refund stands."""
        return self._channels[request.method.channel].query_refund(request)
