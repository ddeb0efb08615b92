"""Logs.

One JSON object a line (a console rendering on a terminal), one handler for structlog and the standard
library.

`bound(order_no=..., workflow_id=..., station=...)` puts fields on every line of a block; lines written inside
a workflow or an activity carry theirs without that, from what Temporal's SDK attaches.
"""

import logging
import sys
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any, Literal

import structlog
from structlog.typing import Processor

from config.redaction import redact

_QUIET = {"uvicorn.access": logging.WARNING, "coap-server": logging.WARNING, "httpx": logging.WARNING}
_ORDER_PREFIX = "fill-"


def _name_work(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Lift the ids out of what Temporal's SDK attaches to a record of the standard library."""
    for key in ("temporal_workflow", "temporal_activity"):
        details = event.pop(key, None)
        if isinstance(details, dict):
            event.setdefault("workflow_id", details.get("workflow_id"))
            for name in ("workflow_type", "activity_type", "attempt"):
                if details.get(name) is not None:
                    event.setdefault(name, details[name])
    workflow_id = event.get("workflow_id")
    if isinstance(workflow_id, str) and workflow_id.startswith(_ORDER_PREFIX):
        event.setdefault("order_no", workflow_id.removeprefix(_ORDER_PREFIX))
    return event


class _Service:
    """Adds the name of the process."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(
        self, _logger: object, _method: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        event.setdefault("service", self._name)
        return event


class _StandardError(logging.Handler):
    """Writes to what standard error is at that moment, so a replaced stream (a daemon, a test) is followed."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stderr.write(self.format(record) + "\n")
            sys.stderr.flush()
        except (OSError, ValueError):
            self.handleError(record)


def _renderers(*, as_json: bool) -> list[Processor]:
    if as_json:
        return [
            structlog.processors.format_exc_info,
            redact,
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ]
    return [structlog.processors.format_exc_info, redact, structlog.dev.ConsoleRenderer(colors=True)]


def configure(service: str, *, level: str = "INFO", fmt: Literal["auto", "json", "console"] = "auto") -> None:
    """Set up logging of a process, to standard error.

    `auto` is the console on a terminal and JSON elsewhere.
    """
    as_json = fmt == "json" or (fmt == "auto" and not sys.stderr.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _Service(service),
    ]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder(), _name_work],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_renderers(as_json=as_json)],
    )
    handler = _StandardError()
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name, quiet in _QUIET.items():
        logging.getLogger(name).setLevel(quiet)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            _name_work,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


@contextmanager
def bound(**fields: str | int | None) -> Iterator[None]:
    """Put fields on every log line of a block: `order_no`, `workflow_id`, `station`; None is left out."""
    known = {name: value for name, value in fields.items() if value is not None}
    with structlog.contextvars.bound_contextvars(**known):
        yield
