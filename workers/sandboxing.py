"""The workflow sandbox, on.

Our pure packages and the libraries of messages pass through, so it costs little.
"""

from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

_PASSED_THROUGH = (
    "activities",
    "contracts",
    "domain",
    "pydantic",
    "pydantic_core",
    "annotated_types",
    "typing_extensions",
    "structlog",
    "workflows.order_desk",
    "workflows.payment_desk",
    "workflows.refund_desk",
    "workflows.dispenser_desk",
    "workflows.person_desk",
    "workflows.wording",
)
"""What workflow files import. The desks pass through too.

They hold no state of their own, only classes, and the architecture tests hold them free of clocks, randomness
and I/O.
"""


def workflow_runner() -> SandboxedWorkflowRunner:
    """Return the sandboxed runner of every worker and replayer."""
    return SandboxedWorkflowRunner(
        restrictions=SandboxRestrictions.default.with_passthrough_modules(*_PASSED_THROUGH)
    )
