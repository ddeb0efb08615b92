"""The buffer of finished transactions of one fuelling point: payable, locked, cleared.

A dispenser holds few unpaid transactions (two by default) and refuses the next release until one is
cleared. It repeats the finished-transaction message every sixteen seconds, three times, until the
controller clears the transaction.
"""

from __future__ import annotations

from collections.abc import Callable

from sandbox.station.config import DispenserConfig
from sandbox.station.data_ids import Tr, TrState
from sandbox.station.faults import FaultBoard, FaultKind
from sandbox.station.ifsf_wire import DataAck, Item
from sandbox.station.ledger import HISTORY, Ledger, Sale

FREE_LOCK = b"\x00\x00"


class TransactionBuffer:
    """Unpaid transactions and a short history; the durable copy is in the ledger."""

    def __init__(
        self,
        *,
        dispenser: DispenserConfig,
        fp: int,
        ledger: Ledger,
        faults: FaultBoard,
        send: Callable[[Sale], None],
    ) -> None:
        self._dispenser = dispenser
        self._fp = fp
        self._ledger = ledger
        self._faults = faults
        self._send = send
        self._sales: dict[int, Sale] = {}
        self._due: dict[int, tuple[int, int]] = {}
        self._load()

    def _load(self) -> None:
        self._sales = {sale.seq: sale for sale in self._ledger.recent(self._dispenser.node, self._fp)}

    @property
    def unpaid(self) -> list[Sale]:
        """Transactions that are not cleared, oldest first."""
        return [sale for sale in self._sales.values() if sale.state != TrState.CLEARED]

    @property
    def full(self) -> bool:
        """True when the point must refuse the next release."""
        return len(self.unpaid) >= self._dispenser.buffer_size

    @property
    def last_sequence(self) -> int:
        """Number of the newest transaction, 0 when there was none."""
        return next(reversed(self._sales), 0)

    def get(self, seq: int) -> Sale | None:
        """A transaction by number; number 0 is the oldest one that is not cleared."""
        if seq == 0:
            return next(iter(self.unpaid), None)
        return self._sales.get(seq)

    def add(self, sale: Sale, now: int) -> None:
        """A fill ended: keep it and tell the controller (unless a fault says otherwise)."""
        self._sales.pop(sale.seq, None)
        self._sales[sale.seq] = sale
        for old in [one.seq for one in self._sales.values() if one.state == TrState.CLEARED][:-HISTORY]:
            del self._sales[old]
        if self._faults.take(FaultKind.MISSING_COMPLETION, self._fp):
            return
        late = self._faults.take(FaultKind.LATE_COMPLETION, self._fp)
        if late:
            self._due[sale.seq] = (now + late["delay_ms"], 0)
            return
        self._announce(sale, now, 0)
        if self._faults.take(FaultKind.DUPLICATE_COMPLETION, self._fp):
            self._send(sale)

    def _announce(self, sale: Sale, now: int, times: int) -> None:
        self._send(sale)
        if times < self._dispenser.resend_max:
            self._due[sale.seq] = (now + self._dispenser.resend_ms, times + 1)
        else:
            self._due.pop(sale.seq, None)

    def restart(self, now: int) -> None:
        """After a power cut, or when the controller comes back: read the ledger, announce what is unpaid
        again soon.
        """
        self._load()
        self._due = {sale.seq: (now, 0) for sale in self.unpaid}

    def due(self) -> int | None:
        """When the next announcement is due."""
        return min((at for at, _ in self._due.values()), default=None)

    def tick(self, now: int) -> bool:
        """Send the announcements that are due."""
        ready = [seq for seq, (at, _) in self._due.items() if at <= now]
        for seq in ready:
            sale = self._sales.get(seq)
            if sale is None or sale.state == TrState.CLEARED:
                del self._due[seq]
                continue
            self._announce(sale, now, self._due[seq][1])
        return bool(ready)

    def write(self, sale: Sale, items: tuple[Item, ...], sender: bytes) -> tuple[tuple[int, int], ...]:
        """Clear, lock, unlock (and C9, confirm an offline record, which is a clear)."""
        results: list[tuple[int, int]] = []
        for item in items:
            fault = self._faults.take(FaultKind.COMMAND_REFUSED, self._fp, data_id=item.data_id)
            if fault:
                results.append((item.data_id, fault["code"]))
                continue
            results.append((item.data_id, self._command(self._sales[sale.seq], item.data_id, sender)))
        return tuple(results)

    def _command(self, sale: Sale, command: int, sender: bytes) -> DataAck:
        mine = sale.state == TrState.PAYABLE or (
            sale.state == TrState.LOCKED and sale.buffer_controller == sender
        )
        match command:
            case Tr.CLEAR | Tr.CONFIRM_OFFLINE:
                return self._move(sale, TrState.CLEARED, sender) if mine else DataAck.WRONG_STATE
            case Tr.LOCK:
                return self._move(sale, TrState.LOCKED, sender) if mine else DataAck.WRONG_STATE
            case Tr.UNLOCK:
                locked = mine and sale.state == TrState.LOCKED
                return self._move(sale, TrState.PAYABLE, FREE_LOCK) if locked else DataAck.WRONG_STATE
        return DataAck.READ_ONLY if command in Tr._value2member_map_ else DataAck.UNKNOWN

    def _move(self, sale: Sale, state: TrState, controller: bytes) -> DataAck:
        if sale.state != state:
            moved = self._ledger.set_state(sale, state, controller)
            self._sales[sale.seq] = moved
            if state is TrState.CLEARED:
                self._due.pop(sale.seq, None)
            self._send(moved)
        return DataAck.OK
