"""A scripted customer: waits for a free side, lifts, waits for the release, fills, hangs up.

A customer acts only when the point changes or one of its own delays ends; nothing polls.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import count

from sandbox.station.clock import Clock
from sandbox.station.data_ids import FpState
from sandbox.station.fuelling_point import FuellingPoint
from sandbox.station.meter import FREE

MAX_TIMEOUT_MS = 3_600_000
FULL_TANK_CENTI = 3000
MAX_QUANTITY_MILLI = 10_000_000
"""Ten thousand litres, cubic metres, kilograms or kilowatt-hours: more fits into no vehicle."""


class FillPhase(StrEnum):
    """How far a customer is."""

    WAITING = "waiting"
    LIFTED = "lifted"
    FILLING = "filling"
    DONE = "done"
    FAILED = "failed"


ENDED = frozenset({FillPhase.DONE, FillPhase.FAILED})


class FillError(ValueError):
    """A fill request that makes no sense."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FillRequest:
    """What the customer wants. `quantity_milli` is cut to hundredths; None means until the preset is
    reached.
    """

    node: int
    fp: int
    nozzle: int
    quantity_milli: int | None = None
    stop_early_milli: int = 0
    wait_for_authorise: bool = False
    lift_delay_ms: int = 0
    hang_up_delay_ms: int = 0
    timeout_ms: int = 120_000


INTEGERS = (
    "node",
    "fp",
    "nozzle",
    "quantity_milli",
    "stop_early_milli",
    "lift_delay_ms",
    "hang_up_delay_ms",
    "timeout_ms",
)


def whole_number(name: str, value: object) -> int:
    """Return a whole number from 0 on; a quantity is at most `MAX_QUANTITY_MILLI`. Raises FillError."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise FillError(f"{name} must be a whole number from 0 on")
    if name == "quantity_milli" and value > MAX_QUANTITY_MILLI:
        raise FillError(f"quantity_milli must be at most {MAX_QUANTITY_MILLI}")
    return value


def parse_fill(raw: Mapping[str, object]) -> FillRequest:
    """JSON object to a request. Raises FillError."""
    numbers: dict[str, int] = {}
    for name in INTEGERS:
        value = raw.get(name)
        if value is None:
            continue
        numbers[name] = whole_number(name, value)
    if not {"node", "fp", "nozzle"} <= set(numbers):
        raise FillError("node, fp and nozzle are needed")
    unknown = set(raw) - {*INTEGERS, "until_preset", "wait_for_authorise", "wait"}
    if unknown:
        raise FillError(f"unknown: {sorted(unknown)}")
    if ("quantity_milli" in numbers) == (raw.get("until_preset") is True):
        raise FillError("give either quantity_milli or until_preset: true")
    if numbers.get("timeout_ms", 0) > MAX_TIMEOUT_MS:
        raise FillError("timeout_ms is too long")
    waits = raw.get("wait_for_authorise") is True
    return FillRequest(**numbers, wait_for_authorise=waits)


class Customer:
    """One scripted fill at one point."""

    def __init__(self, number: int, request: FillRequest, clock: Clock) -> None:
        self.id = number
        self.request = request
        self.phase = FillPhase.WAITING
        self.reason = ""
        self.sale_seq: int | None = None
        self.lifted = False
        self._clock = clock
        now = clock.real_ms()
        self._not_before: int | None = now + request.lift_delay_ms
        self._deadline = now + request.timeout_ms
        self._last_seq = 0

    def due(self) -> int:
        """When to look again although nothing changed."""
        if self._not_before is None or self._not_before <= self._clock.real_ms():
            return self._deadline
        return min(self._deadline, self._not_before)

    def step(self, point: FuellingPoint) -> bool:
        """Do the next thing if it can be done; True when something was done."""
        now = self._clock.real_ms()
        if now >= self._deadline:
            self._leave(point, FillPhase.FAILED, f"timed out while {self.phase}")
            return True
        if self._not_before is not None and now < self._not_before:
            return False
        match self.phase:
            case FillPhase.WAITING:
                return self._arrive(point)
            case FillPhase.LIFTED:
                return self._begin(point)
            case FillPhase.FILLING:
                return self._watch(point, now)
        return False

    def _arrive(self, point: FuellingPoint) -> bool:
        ready = (
            {FpState.AUTHORISED} if self.request.wait_for_authorise else {FpState.IDLE, FpState.AUTHORISED}
        )
        if point.state not in ready or point.nozzle_out is not None:
            return False
        self._last_seq = point.buffer.last_sequence
        self._not_before = None
        self.phase = FillPhase.LIFTED
        self.lifted = point.lift(self.request.nozzle)
        return True

    def _begin(self, point: FuellingPoint) -> bool:
        if point.state is FpState.STARTED:
            stop_early = self.request.stop_early_milli // 10
            if not point.squeeze(limit_centi=self._limit(point), stop_early_centi=stop_early):
                self._leave(point, FillPhase.DONE, "no fuel taken")
                return True
            self.phase = FillPhase.FILLING
            return True
        if point.state in (FpState.IDLE, FpState.CLOSED):
            self._leave(point, FillPhase.FAILED, "release withdrawn")
            return True
        return False

    def _limit(self, point: FuellingPoint) -> int | None:
        """Hundredths after which the customer lets go; a free fill that was to end at a preset gets a full
        tank.
        """
        if self.request.quantity_milli is not None:
            return self.request.quantity_milli // 10
        return None if point.release.preset != FREE else FULL_TANK_CENTI

    def _watch(self, point: FuellingPoint, now: int) -> bool:
        if point.flow_ended():
            if self._not_before is None and self.request.hang_up_delay_ms:
                self._not_before = now + self.request.hang_up_delay_ms
                return False
            self._leave(point, FillPhase.DONE, "")
            return True
        if point.state in (FpState.IDLE, FpState.CLOSED):
            self._leave(point, FillPhase.DONE, "ended by the dispenser")
            return True
        return False

    def _leave(self, point: FuellingPoint, phase: FillPhase, reason: str) -> None:
        if self.lifted and point.nozzle_out == self.request.nozzle:
            point.hang_up()
        self.phase = phase
        self.reason = reason
        newest = point.buffer.last_sequence
        self.sale_seq = newest if newest != self._last_seq else None

    def view(self) -> dict[str, object]:
        """For the control interface."""
        wish = self.request
        return {
            "id": self.id,
            "phase": str(self.phase),
            "reason": self.reason,
            "node": wish.node,
            "fp": wish.fp,
            "nozzle": wish.nozzle,
            "seq": self.sale_seq,
        }


class Forecourt:
    """The queues of customers of one dispenser, one queue a fuelling point."""

    KEEP_ENDED = 200

    def __init__(self, points: Mapping[int, FuellingPoint], clock: Clock, numbers: count[int]) -> None:
        self._points = points
        self._clock = clock
        self._numbers = numbers
        self._queues: dict[int, deque[Customer]] = {fp: deque() for fp in points}
        self._ended: deque[Customer] = deque(maxlen=self.KEEP_ENDED)

    def arrive(self, request: FillRequest) -> Customer:
        """Join the queue of a point. Raises FillError when there is no such nozzle."""
        point = self._points.get(request.fp)
        if point is None or request.nozzle not in point.nozzles:
            raise FillError("no such nozzle")
        customer = Customer(next(self._numbers), request, self._clock)
        self._queues[request.fp].append(customer)
        return customer

    def find(self, number: int) -> Customer | None:
        """A customer by number, also one that has left recently."""
        everyone = [*self._ended, *(one for queue in self._queues.values() for one in queue)]
        return next((one for one in everyone if one.id == number), None)

    def due(self) -> int | None:
        """The next time at which somebody must look."""
        return min((queue[0].due() for queue in self._queues.values() if queue), default=None)

    def step(self) -> bool:
        """Let the first customer of every queue act; True when somebody did."""
        acted = False
        for fp, queue in self._queues.items():
            if not queue:
                continue
            acted = queue[0].step(self._points[fp]) or acted
            if queue[0].phase in ENDED:
                self._ended.append(queue.popleft())
        return acted
