"""EVERY timeout and retry of the product's activities, by name. Business waits are in `domain/policy.py`.

Database steps are local activities: they write no extra state transition when they end in the workflow task that
asked for them. Short, safe-to-repeat channel calls (create with stored bytes, query) are local too (ADR 0004);
whatever moves money or fuel is a regular activity.
"""

from datetime import timedelta
from typing import Final

from temporalio.common import RetryPolicy
from temporalio.workflow import ActivityConfig, LocalActivityConfig

_ONCE: Final = RetryPolicy(maximum_attempts=1)

NEVER_MENDED_BY_TIME: Final = (
    "IllegalMoveError",
    "LedgerConflictError",
    "OrderUnknownError",
    "IntegrityError",
    "DataError",
    "ProgrammingError",
    "LookupError",
    "KeyError",
    "IndexError",
    "ValueError",
    "TypeError",
    "AttributeError",
    "AssertionError",
)
"""A defect in code or data, by the class name that Temporal compares; a subclass has to stand here itself.

IntegrityError is one only where the database refuses what no race explains: a race that is normal (two reports of one
sale) is answered inside its activity, by ON CONFLICT or an error of its own.
"""

DATABASE: Final = LocalActivityConfig(
    start_to_close_timeout=timedelta(seconds=20),
    local_retry_threshold=timedelta(seconds=5),
    retry_policy=RetryPolicy(
        initial_interval=timedelta(milliseconds=200),
        backoff_coefficient=2.0,
        maximum_interval=timedelta(seconds=60),
        non_retryable_error_types=list(NEVER_MENDED_BY_TIME),
    ),
)
"""One transaction in our own database; retried for ever while only time can mend it (a database that is away).

What no retry can mend is not retried: it fails the workflow task (ADR 0004), which is visible and writes no history.
"""

COMMAND: Final = ActivityConfig(start_to_close_timeout=timedelta(seconds=5))
"""What a person's command waits for before it acts (ADR 0004); it touches nothing, so it is repeated until it ends."""

CHANNEL_READ: Final = LocalActivityConfig(
    start_to_close_timeout=timedelta(seconds=15),
    retry_policy=_ONCE,
)
"""One safe-to-repeat channel call; an outcome UNKNOWN is an answer, and the workflow decides what follows."""

CHANNEL_MOVE: Final = ActivityConfig(
    start_to_close_timeout=timedelta(seconds=15),
    schedule_to_start_timeout=timedelta(minutes=10),
    retry_policy=_ONCE,
)
"""One channel call that moves money; never retried blindly: after a timeout the workflow asks the channel."""

DISPENSER: Final = ActivityConfig(
    start_to_close_timeout=timedelta(seconds=90),
    schedule_to_close_timeout=timedelta(minutes=3),
    heartbeat_timeout=timedelta(seconds=15),
    retry_policy=RetryPolicy(
        initial_interval=timedelta(seconds=1), backoff_coefficient=2.0, maximum_interval=timedelta(seconds=10)
    ),
)
"""One command to a dispenser by its derived command id: a retry finds the stored command and its result."""


def named(config: ActivityConfig, summary: str, task_queue: str | None = None) -> ActivityConfig:
    """Return the same options with the line that ops staff read in the timeline, and a queue when it is not ours."""
    merged = config.copy()
    merged["summary"] = summary
    if task_queue is not None:
        merged["task_queue"] = task_queue
    return merged
