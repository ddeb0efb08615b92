"""Faults that a test scripts: each is armed once, counted, and taken by the part of the simulator that it
breaks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class FaultKind(StrEnum):
    """What can go wrong. The parameters of each are listed in `PARAMETERS`."""

    DROP_HEARTBEAT = "drop_heartbeat"
    HALF_OPEN = "half_open"
    GLUE = "glue"
    SPLIT = "split"
    DUPLICATE_COMPLETION = "duplicate_completion"
    LATE_COMPLETION = "late_completion"
    MISSING_COMPLETION = "missing_completion"
    OFFLINE = "offline"
    POWER_CUT = "power_cut"
    SEQUENCE = "sequence"
    PRICE_REFUSED = "price_refused"
    STUCK_NOZZLE = "stuck_nozzle"
    OVERSHOOT = "overshoot"
    AMOUNT_MISMATCH = "amount_mismatch"
    COMMAND_REFUSED = "command_refused"


PARAMETERS: Mapping[FaultKind, Mapping[str, int]] = {
    FaultKind.DROP_HEARTBEAT: {"count": 1},
    FaultKind.HALF_OPEN: {"ms": 5000},
    FaultKind.GLUE: {"frames": 3, "hold_ms": 100},
    FaultKind.SPLIT: {"count": 1, "bytes": 3},
    FaultKind.DUPLICATE_COMPLETION: {"count": 1},
    FaultKind.LATE_COMPLETION: {"count": 1, "delay_ms": 2000},
    FaultKind.MISSING_COMPLETION: {"count": 1},
    FaultKind.OFFLINE: {"ms": 3000, "while_fuelling": 0, "after_ms": 0},
    FaultKind.POWER_CUT: {"ms": 3000, "while_fuelling": 0, "after_ms": 0},
    FaultKind.SEQUENCE: {"next": 9999},
    FaultKind.PRICE_REFUSED: {"count": 1, "error": 0x36},
    FaultKind.STUCK_NOZZLE: {"count": 1},
    FaultKind.OVERSHOOT: {"count": 1, "pulses": 1},
    FaultKind.AMOUNT_MISMATCH: {"count": 1, "delta_fen": 500},
    FaultKind.COMMAND_REFUSED: {"count": 1, "data_id": 0x3E, "code": 3},
}


class FaultError(ValueError):
    """A fault script that makes no sense."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault with all its parameters; `fp` None means any fuelling point of the node."""

    kind: FaultKind
    fp: int | None = None
    values: Mapping[str, int] = field(default_factory=dict)

    def __getitem__(self, name: str) -> int:
        return self.values[name]


def parse_fault(raw: Mapping[str, object]) -> Fault:
    """`{"kind": ..., "fp": ..., parameters}` to a fault with defaults filled in. Raises FaultError."""
    kinds = [kind for kind in FaultKind if kind == raw.get("kind")]
    if not kinds:
        raise FaultError(f"kind must be one of {[str(kind) for kind in FaultKind]}")
    known = PARAMETERS[kinds[0]]
    given = {key: int(value) for key, value in raw.items() if key in known and isinstance(value, int)}
    wrong = set(raw) - set(given) - {"kind", "fp", "node"}
    if wrong:
        raise FaultError(f"unknown or not integer: {sorted(wrong)}; known: {sorted(known)}")
    fp = raw.get("fp")
    if fp is not None and not isinstance(fp, int):
        raise FaultError("fp must be an integer")
    return Fault(kind=kinds[0], fp=fp, values={**known, **given})


class FaultBoard:
    """The armed faults of one node."""

    def __init__(self) -> None:
        self._armed: list[tuple[Fault, int]] = []

    def arm(self, fault: Fault) -> None:
        """Let the fault happen `count` times (once when it has no count)."""
        self._armed.append((fault, fault.values.get("count", 1)))

    def clear(self) -> None:
        """Disarm everything."""
        self._armed.clear()

    def armed(self) -> list[Fault]:
        """What is still waiting to happen."""
        return [fault for fault, _ in self._armed]

    def take(self, kind: FaultKind, fp: int | None = None, **match: int) -> Fault | None:
        """The first armed fault that fits, counted down; None when there is none."""
        for at, (fault, left) in enumerate(self._armed):
            fits_fp = fault.fp is None or fp is None or fault.fp == fp
            if fault.kind is kind and fits_fp and all(fault[name] == value for name, value in match.items()):
                if left > 1:
                    self._armed[at] = (fault, left - 1)
                else:
                    del self._armed[at]
                return fault
        return None
