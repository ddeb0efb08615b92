"""Which task queue serves which workflows and activities: the only list, held exhaustive by a test."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from activities.dispensers import DispenserActivities
from activities.order_money import OrderMoneyActivities
from activities.order_opening import OrderOpeningActivities
from activities.order_steps import OrderStepActivities
from activities.payments import PaymentActivities
from contracts import names
from workflows.fill_and_pay import FillAndPay
from workflows.return_surplus import ReturnSurplus


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSet:
    """What one kind of worker serves; the activity classes are instantiated by `workers/bootstrap.py`."""

    workflows: tuple[type, ...]
    activities: tuple[type, ...]


FILL = WorkerSet(
    workflows=(FillAndPay, ReturnSurplus),
    activities=(OrderOpeningActivities, OrderMoneyActivities, OrderStepActivities, PaymentActivities),
)
GATEWAY = WorkerSet(workflows=(), activities=(DispenserActivities,))

WORKER_SETS: dict[str, WorkerSet] = {
    names.FILL_TASK_QUEUE: FILL,
    names.gateway_task_queue(0): GATEWAY,
}
"""Task queue -> set; gateway shards beyond 0 serve the same set under their own queue."""


def activity_methods(instances: Sequence[object]) -> list[Callable[..., Any]]:
    """Return the activity methods of activity objects, for a Worker."""
    found: list[Callable[..., Any]] = []
    for instance in instances:
        for name in dir(type(instance)):
            if hasattr(getattr(type(instance), name), "__temporal_activity_definition"):
                found.append(getattr(instance, name))
    return found
