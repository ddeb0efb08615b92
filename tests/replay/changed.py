"""FillAndPay with one activity more: what replay has to refuse."""

from temporalio import workflow

from workflows.fill_and_pay import FillAndPay

with workflow.unsafe.imports_passed_through():
    from activities import options
    from activities.order_opening import OrderOpeningActivities
    from contracts import names
    from contracts.fill import FillInput, FillResult
    from contracts.orders import LoadAttempt


@workflow.defn(name=names.FILL_AND_PAY)
class OneActivityMore(FillAndPay):
    """Looks an attempt up before it does anything."""

    @workflow.init
    def __init__(self, request: FillInput) -> None:
        super().__init__(request)

    @workflow.run
    async def run(self, request: FillInput) -> FillResult:
        """Run as ever, after one more look."""
        await workflow.execute_local_activity_method(
            OrderOpeningActivities.load_attempt, LoadAttempt(out_trade_no=""), **options.DATABASE
        )
        return await super().run(request)
