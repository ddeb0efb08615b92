"""A dispenser on a hand-turned clock, driven by messages, without sockets."""

from datetime import UTC, datetime
from pathlib import Path

from sandbox.station.clock import Clock, ManualTime
from sandbox.station.config import DispenserConfig, NozzleConfig, PointConfig
from sandbox.station.data_ids import FpState
from sandbox.station.dispenser import Dispenser
from sandbox.station.faults import parse_fault
from sandbox.station.fuelling_point import FuellingPoint
from sandbox.station.ifsf_wire import Item, Kind, Lna, Message, amount, encode_bcd, volume
from sandbox.station.ledger import Ledger

CONTROLLER = Lna(2, 1)
NOON = datetime(2026, 3, 1, 4, 0, 5, tzinfo=UTC)
PETROL = NozzleConfig(nozzle=0x11, product=1, name="92#", unit="L", price_fen_per_unit=735)
PREMIUM = NozzleConfig(nozzle=0x12, product=2, name="95#", unit="L", price_fen_per_unit=785)


class Bench:
    """One dispenser, node 9, one fuelling point with two nozzles unless told otherwise."""

    def __init__(
        self, folder: Path, *, nozzles: tuple[NozzleConfig, ...] = (PETROL, PREMIUM), **config: int | bool
    ) -> None:
        self.time = ManualTime()
        self.clock = Clock(real_ms=self.time, wall=lambda: NOON)
        self.folder = folder
        self.config = DispenserConfig(
            node=9,
            points=(PointConfig(fp=0x21, nozzles=nozzles),),
            **config,  # type: ignore[arg-type]
        )
        self.start()

    def start(self) -> None:
        self.ledger = Ledger(self.folder / "ledger.sqlite3")
        self.node = Dispenser(config=self.config, clock=self.clock, ledger=self.ledger)

    def restart(self) -> None:
        """The process died and came back: only the file is left."""
        self.ledger.close()
        self.start()

    @property
    def point(self) -> FuellingPoint:
        return self.node.points[0x21]

    def state(self) -> FpState:
        return self.point.state

    def ask(self, kind: Kind, db: bytes, *items: Item, ids: tuple[int, ...] = ()) -> Message:
        message = Message(to=Lna(1, 9), sender=CONTROLLER, kind=kind, token=3, db=db, items=items, ids=ids)
        answer = self.node.handle(message)
        assert answer is not None
        assert (answer.to, answer.sender, answer.token) == (CONTROLLER, Lna(1, 9), 3)
        return answer

    def write(self, db: bytes, *items: Item) -> list[int]:
        """Data acknowledgements in the order of the items (all zero for an accepted message)."""
        answer = self.ask(Kind.WRITE, db, *items)
        return [code for _, code in answer.results] or [answer.ms_ack] * len(items)

    def command(self, data_id: int) -> int:
        return self.write(b"\x21", Item(data_id))[0]

    def read(self, db: bytes, *ids: int) -> dict[int, bytes]:
        return {item.data_id: item.data for item in self.ask(Kind.READ, db, ids=ids).items}

    def release(self, *, fen: int | None = None, centi: int | None = None, mask: int = 1) -> list[int]:
        preset = [Item(0x1B, amount(fen))] if fen else [Item(0x1C, volume(centi))] if centi else []
        return self.write(
            b"\x21", *preset, Item(0x19, bytes((mask,))), Item(0x1E, CONTROLLER.encode()), Item(0x3E)
        )

    def transaction(self, seq: int, command: int) -> int:
        return self.write(b"\x21\x21" + encode_bcd(seq, 4), Item(command))[0]

    def arm(self, **fault: int | str) -> None:
        self.node.faults.arm(parse_fault(fault))

    def pass_ms(self, ms: int) -> None:
        """Let time pass and everything that is due happen at its moment."""
        end = self.time.at_ms + ms
        while (due := self.node.due()) is not None and due <= end:
            self.time.at_ms = max(self.time.at_ms, due)
            self.node.tick()
        self.time.at_ms = end

    def sent(self) -> list[Message]:
        """Unsolicited messages since the last call."""
        messages, self.node.outbox = self.node.outbox, []
        return messages

    def completions(self) -> list[Message]:
        return [one for one in self.sent() if len(one.db) == 4]

    def errors(self) -> list[int]:
        return [one.db[2] for one in self.sent() if one.db[1:2] == b"\x41"]

    def whole_fill(self, *, fen: int = 5000) -> None:
        assert self.release(fen=fen) == [0, 0, 0, 0]
        assert self.point.lift(0x11)
        assert self.point.squeeze()
        self.pass_ms(200_000 if fen > 20_000 else 60_000)
        assert self.point.hang_up()
