"""Stops a worker after its n-th activation, so that a test can start another one and look for what was lost."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from temporalio.bridge.proto.workflow_activation import WorkflowActivation
from temporalio.bridge.proto.workflow_completion import WorkflowActivationCompletion
from temporalio.worker import WorkflowInstance, WorkflowInstanceDetails, WorkflowRunner
from temporalio.workflow import _Definition

from tests.workflows.harness import Harness
from workers.sandboxing import workflow_runner

_LIMIT_S = 20


class CountingRunner(WorkflowRunner):
    """The production runner; sets `reached` at the n-th activation that is not a replay."""

    def __init__(self, stop_at: int) -> None:
        self._inner, self._stop_at = workflow_runner(), stop_at
        self._loop = asyncio.get_running_loop()
        self.seen, self.reached = 0, asyncio.Event()

    def prepare_workflow(self, defn: _Definition) -> None:
        self._inner.prepare_workflow(defn)

    def create_instance(self, det: WorkflowInstanceDetails) -> WorkflowInstance:
        instance = self._inner.create_instance(det)
        inner = instance.activate

        def activate(act: WorkflowActivation) -> WorkflowActivationCompletion:
            completion = inner(act)
            if not act.is_replaying and any(j.WhichOneof("variant") != "remove_from_cache" for j in act.jobs):
                self._count()
            return completion

        setattr(instance, "activate", activate)  # noqa: B010 - a method of this one instance
        return instance

    def set_worker_level_failure_exception_types(self, types: Any) -> None:
        self._inner.set_worker_level_failure_exception_types(types)

    def _count(self) -> None:
        self.seen += 1
        if self.seen == self._stop_at:
            self._loop.call_soon_threadsafe(self.reached.set)


@dataclass(frozen=True, slots=True, kw_only=True)
class Crashed:
    """What became of a run whose worker was stopped: whether the point was reached at all."""

    happened: bool


async def crash_once(
    harness: Harness, stop_at: int, scenario: Callable[[], Awaitable[None]], *, cached: bool = True
) -> Crashed:
    """Run `scenario` while the worker is stopped (its cache dropped) after an activation, and another one started.

    Without `cached` both workers replay at every task; the time-skipping server needs that, because it never gives
    a dead worker's sticky task to another one while its clock stands still. Raises what the scenario raises, and
    TimeoutError when it does not end.
    """
    runner = CountingRunner(stop_at)
    running = asyncio.ensure_future(scenario())
    reached = asyncio.ensure_future(runner.reached.wait())
    try:
        async with harness.worker(runner, cached=cached):
            await asyncio.wait({running, reached}, timeout=_LIMIT_S, return_when=asyncio.FIRST_COMPLETED)
        happened = reached.done()
        async with harness.worker(cached=cached):
            await asyncio.wait_for(running, _LIMIT_S)
    finally:
        running.cancel()
        reached.cancel()
    return Crashed(happened=happened)
