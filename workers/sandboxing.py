"""The workflow sandbox, on.

Our pure packages and the libraries of messages pass through, and payloads do not enter the sandbox to ask whose they
are, so it costs little (docs/performance.md).
"""

from typing import Any

from temporalio.bridge.proto.workflow_activation import WorkflowActivation
from temporalio.bridge.proto.workflow_completion import WorkflowActivationCompletion
from temporalio.converter import SerializationContext, StorageDriverStoreContext
from temporalio.worker import WorkflowInstance, WorkflowInstanceDetails
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions
from temporalio.workflow import Info

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


class _ContextFree(WorkflowInstance):
    """A sandboxed run whose payloads need no context.

    For every payload the SDK asks the run which workflow or activity it belongs to, so that a converter, a codec or
    an external store may depend on it; the sandboxed instance enters the sandbox for each question. Our converter and
    codec depend on nothing and there is no external store, so the answer is always the same.
    """

    def __init__(self, inner: WorkflowInstance) -> None:
        self._inner = inner

    def activate(self, act: WorkflowActivation) -> WorkflowActivationCompletion:
        return self._inner.activate(act)

    def get_serialization_context(self, command_info: Any) -> SerializationContext | None:
        return None

    def get_external_store_context(self, command_info: Any) -> StorageDriverStoreContext:
        return StorageDriverStoreContext()

    def get_info(self) -> Info:
        return self._inner.get_info()

    def get_thread_id(self) -> int | None:
        return self._inner.get_thread_id()


class ContextFreeSandbox(SandboxedWorkflowRunner):
    """The SDK's sandbox for data converters that need no serialization context."""

    def create_instance(self, det: WorkflowInstanceDetails) -> WorkflowInstance:
        """Return the sandboxed instance of a run."""
        return _ContextFree(super().create_instance(det))


def workflow_runner() -> SandboxedWorkflowRunner:
    """Return the sandboxed runner of every worker and replayer."""
    return ContextFreeSandbox(
        restrictions=SandboxRestrictions.default.with_passthrough_modules(*_PASSED_THROUGH)
    )
