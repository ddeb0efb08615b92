"""Whatever a controller and a customer do, what left the meter is in the totaliser and in the ledger."""

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from sandbox.station.data_ids import FpState
from sandbox.station.meter import is_legal
from tests.unit.sandbox_station.bench import PETROL, PREMIUM, Bench


class AnyDay(RuleBasedStateMachine):
    """Random commands, customers, outages and restarts on one fuelling point."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        self.bench = Bench(Path(self._folder.name))
        self.seen = dict.fromkeys((17, 18), 0)

    def teardown(self) -> None:
        self.bench.ledger.close()
        self._folder.cleanup()

    @rule(fen=st.one_of(st.none(), st.integers(1, 30_000)), mask=st.integers(0, 3))
    def release(self, fen: int | None, mask: int) -> None:
        self.bench.release(fen=fen, mask=mask)

    @rule(command=st.sampled_from([0x3C, 0x3D, 0x3F, 0x40, 0x41]))
    def command(self, command: int) -> None:
        self.bench.command(command)

    @rule(nozzle=st.sampled_from([0x11, 0x12]))
    def lift(self, nozzle: int) -> None:
        self.bench.point.lift(nozzle)

    @rule(limit=st.one_of(st.none(), st.integers(0, 5000)))
    def squeeze(self, limit: int | None) -> None:
        self.bench.point.squeeze(limit_centi=limit)

    @rule()
    def hang_up(self) -> None:
        self.bench.point.hang_up()

    @rule(ms=st.integers(1, 90_000))
    def wait(self, ms: int) -> None:
        self.bench.pass_ms(ms)

    @rule(seq=st.integers(1, 9), command=st.sampled_from([0x1E, 0x1F, 0x20]))
    def transaction(self, seq: int, command: int) -> None:
        if self.bench.point.buffer.get(seq):
            self.bench.transaction(seq, command)

    @rule(fault=st.sampled_from(["overshoot", "amount_mismatch", "missing_completion", "late_completion"]))
    def fault(self, fault: str) -> None:
        self.bench.arm(kind=fault)

    @rule()
    def power_cut(self) -> None:
        self.bench.node.power_cut()

    @rule()
    def killed(self) -> None:
        self.bench.restart()

    @invariant()
    def totaliser_is_the_sum_of_the_sales(self) -> None:
        for config in (PETROL, PREMIUM):
            totals = self.bench.ledger.totals(9, 0x21, config.nozzle)
            sales = [one for one in self.bench.ledger.sales() if one.nozzle == config.nozzle]
            assert totals.centi == sum(one.centi for one in sales)
            assert totals.amount_fen == sum(one.amount_fen for one in sales)
            assert totals.sales == len(sales)
            assert totals.centi >= self.seen[config.nozzle]
            self.seen[config.nozzle] = totals.centi

    @invariant()
    def sales_follow_each_other_without_a_gap_and_are_legal(self) -> None:
        last = dict.fromkeys(self.seen, 0)
        for number, sale in enumerate(self.bench.ledger.sales(), start=1):
            assert sale.seq == number
            assert sale.centi_before == last[sale.nozzle]
            assert sale.centi_after == sale.centi_before + sale.centi
            assert is_legal(amount_fen=sale.amount_fen, price_fen=sale.price_fen, centi=sale.centi)
            last[sale.nozzle] = sale.centi_after

    @invariant()
    def the_buffer_never_holds_more_than_it_may(self) -> None:
        assert len(self.bench.point.buffer.unpaid) <= 2

    @invariant()
    def fuel_flows_only_while_fuelling(self) -> None:
        meter = self.bench.point.meter
        assert meter is None or not meter.flowing or self.bench.state() is FpState.FUELLING


AnyDay.TestCase.settings = settings(
    max_examples=40, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestAnyDay = AnyDay.TestCase
