"""FillAndPay with one activity less: what replay has to refuse."""

from temporalio import workflow

from workflows.fill_and_pay import FillAndPay

with workflow.unsafe.imports_passed_through():
    from contracts import names
    from contracts.fill import FillInput, FillResult


@workflow.defn(name=names.FILL_AND_PAY)
class OneActivityLess(FillAndPay):
    """Never asks for a person."""

    @workflow.init
    def __init__(self, request: FillInput) -> None:
        super().__init__(request)

    @workflow.run
    async def run(self, request: FillInput) -> FillResult:
        """Run as ever, but flag nothing."""

        async def flag(reason: str) -> None:
            workflow.logger.info("not flagged: %s", reason)

        setattr(self._desk, "flag", flag)  # noqa: B010 - one method of one instance
        return await super().run(request)
