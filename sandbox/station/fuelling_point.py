"""One fuelling point: nine states, a nozzle switch, a meter, and a small buffer of unpaid transactions.

Pure apart from the ledger that it is given: time comes from the clock, messages leave through `Events`.
State rules are those of IFSF Part 3.01; where the standard leaves a choice the simulator takes the careful
one and says so.
"""

from __future__ import annotations

from typing import Protocol

import structlog

from sandbox.station.buffer import TransactionBuffer
from sandbox.station.clock import Clock
from sandbox.station.config import DispenserConfig, NozzleConfig, PointConfig
from sandbox.station.data_ids import Error, Fp, FpState
from sandbox.station.faults import FaultBoard, FaultKind
from sandbox.station.ifsf_wire import DataAck, Item
from sandbox.station.ledger import Fill, Ledger, Sale
from sandbox.station.meter import Meter
from sandbox.station.release import NO_CONTROLLER, SETTABLE, Release

log = structlog.get_logger(__name__)

WAITING = frozenset({FpState.IDLE, FpState.CALLING})
RELEASED = frozenset({FpState.AUTHORISED, FpState.STARTED, FpState.SUSPENDED_STARTED})
FLOWING = frozenset({FpState.FUELLING, FpState.SUSPENDED_FUELLING})


class Events(Protocol):
    """What a point tells the controller without being asked."""

    def status(self, point: FuellingPoint) -> None:
        """The state or the nozzle changed (data id 64)."""

    def running(self, point: FuellingPoint) -> None:
        """Amount and quantity so far (data id 66)."""

    def error(self, point: FuellingPoint, code: Error) -> None:
        """An entry of the error database."""

    def transaction(self, sale: Sale) -> None:
        """A transaction in the buffer is new or changed its state."""


class FuellingPoint:
    """State machine of one side of a dispenser."""

    def __init__(
        self,
        *,
        dispenser: DispenserConfig,
        config: PointConfig,
        clock: Clock,
        ledger: Ledger,
        faults: FaultBoard,
        events: Events,
    ) -> None:
        self.dispenser = dispenser
        self.config = config
        self.fp = config.fp
        self.nozzles = {one.nozzle: one for one in config.nozzles}
        self._clock = clock
        self._ledger = ledger
        self._faults = faults
        self._events = events
        self.state = FpState.IDLE if dispenser.open_at_start else FpState.CLOSED
        self.nozzle_out: int | None = None
        self.stuck = False
        self.suspended_by = NO_CONTROLLER
        self.last_error = Error.NONE
        self.meter: Meter | None = None
        self._flow_stopped = False
        self._timeout: int | None = None
        self._running_at: int | None = None
        self.release = Release()
        self.buffer = TransactionBuffer(
            dispenser=dispenser, fp=self.fp, ledger=ledger, faults=faults, send=events.transaction
        )

    # -- what the controller may set and command ---------------------------------------------------

    def write(self, items: tuple[Item, ...], sender: bytes) -> tuple[tuple[int, int], ...]:
        """Apply a write item by item; returns (data id, data acknowledgement) in the same order."""
        results: list[tuple[int, int]] = []
        for item in items:
            fault = self._faults.take(FaultKind.COMMAND_REFUSED, self.fp, data_id=item.data_id)
            code = fault["code"] if fault else self._write_one(item, sender)
            results.append((item.data_id, code))
            if item.data_id == Fp.RELEASE and code != DataAck.OK and self.state in WAITING:
                self.release = Release()
        return tuple(results)

    def _write_one(self, item: Item, sender: bytes) -> DataAck:
        match item.data_id:
            case Fp.OPEN:
                return self._open()
            case Fp.CLOSE:
                return self._close()
            case Fp.RELEASE:
                return self._release()
            case Fp.TERMINATE:
                return self._terminate()
            case Fp.SUSPEND:
                return self._suspend(sender)
            case Fp.RESUME:
                return self._resume()
        return self._set(item)

    def _set(self, item: Item) -> DataAck:
        if item.data_id == Fp.RUNNING_FREQUENCY:
            return DataAck.OK  # a configured value here: accepted and ignored
        if item.data_id not in SETTABLE:
            return DataAck.READ_ONLY if item.data_id in Fp._value2member_map_ else DataAck.UNKNOWN
        return self.release.accept(item) if self.state in WAITING else DataAck.WRONG_STATE

    def _open(self) -> DataAck:
        if self.state is FpState.CLOSED:
            self._move(FpState.IDLE if self.nozzle_out is None else FpState.CALLING)
        else:
            self._events.error(self, Error.ALREADY_OPEN)
        return DataAck.OK

    def _close(self) -> DataAck:
        if self.state not in WAITING | {FpState.CLOSED}:
            return DataAck.WRONG_STATE
        self.release = Release()
        self._move(FpState.CLOSED)
        return DataAck.OK

    def _release(self) -> DataAck:
        """Only from IDLE with the nozzle in, or CALLING with an allowed nozzle; never while the buffer is
        full.
        """
        ready = self.nozzle_out is None if self.state is FpState.IDLE else self.state is FpState.CALLING
        if (
            not ready
            or self.buffer.full
            or (self.nozzle_out is not None and not self.release.allows(self.nozzle_out))
        ):
            return DataAck.WRONG_STATE
        self.release.prices = {number: self.price(number) for number in self.nozzles}
        self._move(FpState.AUTHORISED if self.nozzle_out is None else FpState.STARTED)
        self._timeout = self._clock.real_ms() + self.dispenser.auth_timeout_s * 1000
        return DataAck.OK

    def _terminate(self) -> DataAck:
        if self.state in FLOWING:
            self._finish(Error.NONE)
        elif self.state in RELEASED:
            self._abandon(FpState.IDLE)
        else:
            return DataAck.WRONG_STATE
        return DataAck.OK

    def _suspend(self, sender: bytes) -> DataAck:
        target = {
            FpState.STARTED: FpState.SUSPENDED_STARTED,
            FpState.FUELLING: FpState.SUSPENDED_FUELLING,
        }.get(self.state)
        if target is None:
            return DataAck.WRONG_STATE
        if self.meter and self.meter.flowing:
            self.meter.stop(self._clock.virtual_ms())
        self.suspended_by = sender
        self._timeout = self._running_at = None
        self._move(target)
        return DataAck.OK

    def _resume(self) -> DataAck:
        now = self._clock.real_ms()
        if self.state is FpState.SUSPENDED_STARTED:
            self._move(FpState.STARTED)
            self._timeout = now + self.dispenser.auth_timeout_s * 1000
        elif self.state is FpState.SUSPENDED_FUELLING and self.meter:
            if not self._flow_stopped:
                self.meter.start(self._clock.virtual_ms())
            self._running_at = now + self.dispenser.running_ms
            self._move(FpState.FUELLING)
        else:
            return DataAck.WRONG_STATE
        return DataAck.OK

    # -- what a customer does ----------------------------------------------------------------------

    def lift(self, nozzle: int) -> bool:
        """Take a nozzle out. False when another one is out, or the number does not exist."""
        if nozzle not in self.nozzles or self.nozzle_out is not None:
            return False
        self.nozzle_out = nozzle
        if self.state is FpState.IDLE:
            self._move(FpState.CALLING)
        elif self.state is FpState.AUTHORISED and self.release.allows(nozzle):
            self._move(FpState.STARTED)
            self._timeout = self._clock.real_ms() + self.dispenser.auth_timeout_s * 1000
        else:
            self._events.status(self)
        return True

    def squeeze(self, *, limit_centi: int | None = None, stop_early_centi: int = 0) -> bool:
        """Pull the trigger until `limit_centi`, the preset (less `stop_early_centi`) or the hang-up.

        False when the point is not released for this nozzle, or the limit leaves nothing to take.
        """
        if (
            self.state is not FpState.STARTED
            or self.nozzle_out is None
            or not self.release.allows(self.nozzle_out)
        ):
            return False
        price = self.release.prices[self.nozzle_out]
        valve = self.release.preset.stop_centi(price)
        limits = [
            one
            for one in (limit_centi, valve - stop_early_centi if valve and stop_early_centi else None)
            if one is not None
        ]
        if limits and min(limits) <= 0:
            return False
        fault = self._faults.take(FaultKind.OVERSHOOT, self.fp)
        self.meter = Meter(
            price_fen=price,
            rate=self.nozzles[self.nozzle_out].flow_centi_per_min,
            preset=self.release.preset,
            limit_centi=min(limits) if limits else None,
            overshoot=fault["pulses"] if fault else 0,
            instant=self._clock.instant,
        )
        self._flow_stopped = False
        self._timeout = None
        self.meter.start(self._clock.virtual_ms())
        self._running_at = self._clock.real_ms() + self.dispenser.running_ms
        self._move(FpState.FUELLING)
        return True

    def hang_up(self) -> bool:
        """Put the nozzle back: ends a fill, withdraws a call, or drops a release that was not used (no
        transaction).
        """
        if self.nozzle_out is None:
            return False
        if self._faults.take(FaultKind.STUCK_NOZZLE, self.fp):
            self.stuck = True
            self._stop_flow()
            return True
        if self.state in FLOWING:
            self._finish(self._reason(), nozzle_back=True)
            return True
        self.nozzle_out = None
        if self.state in (FpState.STARTED, FpState.SUSPENDED_STARTED):
            self._events.error(self, Error.NO_FUEL)
            self._abandon(FpState.IDLE)
        elif self.state is FpState.CALLING:
            self._move(FpState.IDLE)
        else:
            self._events.status(self)
        return True

    # -- time --------------------------------------------------------------------------------------

    def due(self) -> int | None:
        """The next real millisecond at which `tick` has something to do."""
        flow = self.meter.due() if self.meter and self.state is FpState.FUELLING else None
        flow_real = None if flow is None else self._clock.real_when(flow)
        times = [
            one for one in (flow_real, self._timeout, self._running_at, self.buffer.due()) if one is not None
        ]
        return min(times, default=None)

    def tick(self) -> bool:
        """Do what is due; True when something happened."""
        now = self._clock.real_ms()
        happened = self.buffer.tick(now)
        flow = self.meter.due() if self.meter and self.state is FpState.FUELLING else None
        if flow is not None and flow <= self._clock.virtual_ms():
            self._stop_flow()
            happened = True
        if self._running_at is not None and now >= self._running_at:
            self._running_at = now + self.dispenser.running_ms if self.meter and self.meter.flowing else None
            self._events.running(self)
            happened = True
        if self._timeout is not None and now >= self._timeout:
            self._time_out()
            happened = True
        return happened

    def _time_out(self) -> None:
        self._timeout = None
        if self.state in FLOWING:
            self._events.error(self, Error.NO_PROGRESS)
            self._finish(Error.NO_PROGRESS)
        elif self.state in RELEASED:
            self._events.error(self, Error.AUTH_TIMEOUT)
            self._abandon(FpState.IDLE)

    def power_cut(self) -> None:
        """RAM is gone: a fill ends where it is and becomes a transaction, everything else of a release is
        forgotten.
        """
        if self.state in FLOWING:
            self._finish(Error.INOPERATIVE)
        self._abandon(FpState.IDLE if self.dispenser.open_at_start else FpState.CLOSED)
        self.buffer.restart(self._clock.real_ms())

    # -- readings ----------------------------------------------------------------------------------

    def current_centi(self) -> int:
        """Quantity of the running fill."""
        return self.meter.centi(self._clock.virtual_ms()) if self.meter else 0

    def current_amount_fen(self) -> int:
        """Amount of the running fill."""
        return self.meter.amount_fen(self._clock.virtual_ms()) if self.meter else 0

    def flow_ended(self) -> bool:
        """True when fuel stopped flowing but the nozzle is still out."""
        return self.state is FpState.FUELLING and self._flow_stopped

    def current_nozzle(self) -> NozzleConfig:
        """The nozzle that is out, else the first one."""
        return self.nozzles[self.nozzle_out] if self.nozzle_out is not None else self.config.nozzles[0]

    def price(self, nozzle: int) -> int:
        """Price now in force for a nozzle; a running fill keeps the one latched at release."""
        return self._ledger.price(
            self.dispenser.node, self.fp, nozzle, self.nozzles[nozzle].price_fen_per_unit
        )

    def current_price(self) -> int:
        """Price of the running fill, else of the current nozzle."""
        return self.meter.price_fen if self.meter else self.price(self.current_nozzle().nozzle)

    # -- inside ------------------------------------------------------------------------------------

    def _reason(self) -> Error:
        self._stop_flow()
        return Error.LIMIT_REACHED if self.meter and self.meter.reached_preset else Error.CUSTOMER_STOP

    def _stop_flow(self) -> None:
        if self.meter and not self._flow_stopped:
            self.meter.stop(self._clock.virtual_ms())
            self._flow_stopped = True
            self._running_at = None
            self._timeout = self._clock.real_ms() + self.dispenser.no_progress_s * 1000

    def _finish(self, error: Error, *, nozzle_back: bool = False) -> None:
        """End a fill: a transaction, or nothing at all when no fuel passed (ZeroTR_Mode 0)."""
        self._stop_flow()
        centi, amount = self.current_centi(), self.current_amount_fen()
        nozzle = self.current_nozzle()
        if centi > 0:
            self._record(nozzle, centi, amount, error)
        else:
            self._events.error(self, Error.NO_FUEL)
        if nozzle_back:
            self.nozzle_out = None
        self._abandon(FpState.IDLE)

    def _record(self, nozzle: NozzleConfig, centi: int, amount: int, error: Error) -> None:
        fault = self._faults.take(FaultKind.AMOUNT_MISMATCH, self.fp)
        fill = Fill(
            node=self.dispenser.node,
            fp=self.fp,
            nozzle=nozzle.nozzle,
            product=nozzle.product,
            unit=nozzle.unit,
            amount_fen=amount,
            centi=centi,
            price_fen=self.current_price(),
            reported_amount_fen=max(0, amount + (fault["delta_fen"] if fault else 0)),
            controller=self.release.controller,
            token=self.release.token,
            error=error,
            ended_at=self._clock.wall().isoformat(),
        )
        sale = self._ledger.record(fill)
        self.last_error = error
        log.info(
            "sandbox.station.dispensed",
            node=sale.node,
            fp=sale.fp,
            nozzle=sale.nozzle,
            seq=sale.seq,
            amount_fen=sale.amount_fen,
            quantity_milli=centi * 10,
        )
        self.buffer.add(sale, self._clock.real_ms())

    def _abandon(self, state: FpState) -> None:
        self.meter = None
        self._timeout = self._running_at = None
        self._flow_stopped = False
        self.release = Release()
        self._move(state)

    def _move(self, state: FpState) -> None:
        self.state = state
        self._events.status(self)
