"""The nine states of a fuelling point, and what leads from one to the other."""

from pathlib import Path

import pytest

from sandbox.station.config import NozzleConfig
from sandbox.station.data_ids import FpState
from sandbox.station.ifsf_wire import Item, Kind, amount, encode
from sandbox.station.ledger import Fill
from tests.unit.sandbox_station.bench import CONTROLLER, PETROL, PREMIUM, Bench

REFUSED = 3
OPEN, CLOSE, RELEASE, TERMINATE, SUSPEND, RESUME = 0x3C, 0x3D, 0x3E, 0x3F, 0x40, 0x41
CLEAR, LOCK, UNLOCK = 0x1E, 0x1F, 0x20
CAPTURED_COMPLETION = (
    "0201010900800020"
    + "0421212997"
    + "6400"
    + "01022997"
    + "150102"
    + "14020000"
    + "05050600005000"
    + "06050600000680"
)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def reach(bench: Bench, state: FpState) -> None:
    """Bring a fresh bench to a state."""
    if state is FpState.CLOSED:
        bench.command(CLOSE)
    if state is FpState.CALLING:
        bench.point.lift(0x11)
    if state.value >= FpState.AUTHORISED:
        bench.release(fen=5000)
    if state.value >= FpState.STARTED:
        bench.point.lift(0x11)
    if state.value >= FpState.FUELLING:
        bench.point.squeeze()
        bench.pass_ms(2000)
    if state in (FpState.SUSPENDED_STARTED, FpState.SUSPENDED_FUELLING):
        bench.command(SUSPEND)
    assert bench.state() is state


REACHABLE = [state for state in FpState if state is not FpState.INOPERATIVE]
ACCEPTED: dict[int, dict[FpState, FpState]] = {
    OPEN: {state: FpState.IDLE if state is FpState.CLOSED else state for state in REACHABLE},
    CLOSE: dict.fromkeys((FpState.CLOSED, FpState.IDLE, FpState.CALLING), FpState.CLOSED),
    RELEASE: {FpState.IDLE: FpState.AUTHORISED, FpState.CALLING: FpState.STARTED},
    TERMINATE: {state: FpState.IDLE for state in REACHABLE if state.value >= FpState.AUTHORISED},
    SUSPEND: {
        FpState.STARTED: FpState.SUSPENDED_STARTED,
        FpState.FUELLING: FpState.SUSPENDED_FUELLING,
    },
    RESUME: {
        FpState.SUSPENDED_STARTED: FpState.STARTED,
        FpState.SUSPENDED_FUELLING: FpState.FUELLING,
    },
}


@pytest.mark.parametrize("state", REACHABLE)
@pytest.mark.parametrize("command", list(ACCEPTED))
def test_every_command_in_every_state(bench: Bench, state: FpState, command: int) -> None:
    reach(bench, state)
    target = ACCEPTED[command].get(state)
    assert bench.command(command) == (0 if target else REFUSED)
    assert bench.state() is (target or state)


def test_the_captured_sale_comes_out_byte_by_byte(tmp_path: Path) -> None:
    bench = Bench(tmp_path, nozzles=(PETROL,))
    earlier = Fill(
        node=9,
        fp=0x21,
        nozzle=0x11,
        product=1,
        unit="L",
        amount_fen=10_579_364,
        reported_amount_fen=10_579_364,
        centi=2_126_433,
        price_fen=735,
        controller=b"\x02\x01",
        token=b"\x00",
        error=0,
        ended_at="2026-03-01T00:00:00+00:00",
    )
    sale = bench.ledger.record(earlier)
    bench.ledger.set_state(sale, 1, b"\x02\x01")  # type: ignore[arg-type]
    bench.ledger.set_sequence(9, 0x21, 2997)
    bench.restart()
    bench.whole_fill(fen=5000)
    assert encode(bench.completions()[0]).hex() == CAPTURED_COMPLETION
    answer = bench.read(b"\x21\x21\x29\x97", 5, 6, 7, 8, 0x0A, 0xCA, 0xCB, 0xCC, 0xCD, 0xEA)
    assert {key: value.hex() for key, value in answer.items()} == {
        5: "0600005000",
        6: "0600000680",
        7: "04000735",
        8: "01",
        0x0A: "00000001",
        0xCA: "20260301",
        0xCB: "120005",
        0xCC: "0a000002126433",
        0xCD: "0a000002127113",
        0xEA: "",
    }
    totals = bench.ask(Kind.READ, b"\x21\x10", ids=(0x14, 0x15))
    assert encode(totals).hex().endswith("022111" + "14070a000002127113" + "15070a000010584364")
    assert bench.transaction(2997, CLEAR) == 0
    assert bench.transaction(2997, CLEAR) == REFUSED


def test_lift_first_calls_and_a_release_without_preset_is_a_free_fill(bench: Bench) -> None:
    bench.point.lift(0x12)
    assert bench.state() is FpState.CALLING
    status = bench.sent()[-1]
    assert encode(status).hex().endswith("0121" + "6400" + "140104" + "150102" + "16020000")
    assert bench.release(mask=0) == [0, 0, 0]
    assert bench.state() is FpState.STARTED
    bench.point.squeeze(limit_centi=2700)
    bench.pass_ms(60_000)
    bench.point.hang_up()
    [sale] = bench.ledger.sales()
    assert (sale.nozzle, sale.centi, sale.price_fen, sale.amount_fen) == (0x12, 2700, 785, 21195)


def test_a_nozzle_outside_the_mask_is_not_released(bench: Bench) -> None:
    bench.release(fen=5000, mask=1)
    bench.point.lift(0x12)
    assert bench.state() is FpState.AUTHORISED
    assert not bench.point.squeeze()
    bench.point.hang_up()
    bench.point.lift(0x11)
    assert bench.state() is FpState.STARTED


def test_an_unused_release_ends_with_error_24(bench: Bench) -> None:
    bench.release(fen=5000)
    bench.sent()
    bench.pass_ms(119_999)
    assert bench.state() is FpState.AUTHORISED
    bench.pass_ms(1)
    assert bench.state() is FpState.IDLE
    assert bench.errors() == [0x24]


def test_the_nozzle_back_before_flow_is_no_transaction(bench: Bench) -> None:
    bench.release(fen=5000)
    bench.point.lift(0x11)
    bench.point.hang_up()
    assert bench.state() is FpState.IDLE
    assert bench.completions() == []
    assert bench.ledger.sales() == []
    assert bench.ledger.next_sequence(9, 0x21) == 1


def test_terminate_ends_a_fill_where_it_is(bench: Bench) -> None:
    reach(bench, FpState.FUELLING)
    bench.pass_ms(3000)
    assert bench.command(TERMINATE) == 0
    [sale] = bench.ledger.sales()
    assert 0 < sale.amount_fen < 5000
    assert bench.state() is FpState.IDLE
    assert bench.command(RELEASE) == REFUSED, "the nozzle is still out"
    bench.point.hang_up()
    assert bench.command(RELEASE) == 0


def test_suspended_fuel_does_not_flow(bench: Bench) -> None:
    reach(bench, FpState.SUSPENDED_FUELLING)
    held = bench.point.current_centi()
    bench.pass_ms(30_000)
    assert bench.point.current_centi() == held
    bench.command(RESUME)
    bench.pass_ms(60_000)
    bench.point.hang_up()
    assert bench.ledger.sales()[0].amount_fen == 5000


def test_running_messages_grow_and_stop(bench: Bench) -> None:
    reach(bench, FpState.FUELLING)
    bench.pass_ms(3000)
    amounts = [one.items[1].data for one in bench.sent() if one.items[0].data_id == 0x66]
    assert len(amounts) == 5
    assert amounts == sorted(set(amounts))
    bench.pass_ms(30_000)
    bench.sent()
    bench.pass_ms(20_000)
    assert bench.sent() == []


def test_a_nozzle_left_out_after_the_flow_is_ended_by_the_dispenser(bench: Bench) -> None:
    bench.arm(kind="stuck_nozzle")
    reach(bench, FpState.FUELLING)
    bench.point.hang_up()
    assert bench.state() is FpState.FUELLING
    bench.pass_ms(60_000)
    assert bench.state() is FpState.IDLE
    assert len(bench.ledger.sales()) == 1


def test_a_refused_release_leaves_no_preset_behind(bench: Bench) -> None:
    bench.arm(kind="command_refused", data_id=RELEASE)
    assert bench.release(fen=100) == [0, 0, 0, REFUSED]
    assert bench.release() == [0, 0, 0]
    assert bench.read(b"\x21", 0x1B)[0x1B] == amount(0)


def test_a_full_buffer_blocks_the_point_until_one_is_cleared(bench: Bench) -> None:
    bench.whole_fill()
    bench.whole_fill()
    assert bench.release(fen=5000)[-1] == REFUSED
    assert bench.transaction(1, LOCK) == 0
    assert bench.release(fen=5000)[-1] == REFUSED
    assert bench.transaction(1, UNLOCK) == 0
    assert bench.transaction(1, CLEAR) == 0
    bench.whole_fill()


def test_a_locked_transaction_belongs_to_its_controller(bench: Bench) -> None:
    bench.whole_fill()
    bench.transaction(1, LOCK)
    [sale] = bench.point.buffer.unpaid
    buffer = bench.point.buffer
    assert buffer.write(sale, (Item(CLEAR),), b"\x02\x02") == ((CLEAR, REFUSED),)
    assert bench.read(b"\x21\x21\x00\x01", 0x14, 0x15) == {0x14: CONTROLLER.encode(), 0x15: b"\x03"}
    assert bench.transaction(1, CLEAR) == 0


def test_an_uncleared_transaction_is_announced_four_times_and_no_more(bench: Bench) -> None:
    bench.whole_fill()
    bench.pass_ms(15_999)
    assert len(bench.completions()) == 1
    bench.pass_ms(200_000)
    assert len(bench.completions()) == 3


def test_a_cleared_transaction_is_not_announced_again(bench: Bench) -> None:
    bench.whole_fill()
    bench.transaction(1, CLEAR)
    bench.sent()
    bench.pass_ms(200_000)
    assert bench.sent() == []


def test_the_oldest_unpaid_sale_is_read_by_number_zero_and_confirmed(bench: Bench) -> None:
    bench.whole_fill()
    bench.whole_fill()
    answer = bench.ask(Kind.READ, b"\x21\x20\x00\x00", ids=(5,))
    assert answer.db == b"\x21\x20\x00\x01"
    assert bench.write(b"\x21\x20\x00\x01", Item(0xC9)) == [0]
    assert bench.ask(Kind.READ, b"\x21\x20\x00\x00", ids=(5,)).db == b"\x21\x20\x00\x02"


def test_sequence_numbers_wrap_from_9999_to_1(bench: Bench) -> None:
    bench.ledger.set_sequence(9, 0x21, 9999)
    bench.whole_fill()
    bench.whole_fill()
    assert [one.seq for one in bench.ledger.sales()] == [9999, 1]


def test_memory_without_power(bench: Bench) -> None:
    bench.whole_fill()
    before = bench.read(b"\x21\x11", 0x14, 0x15, 0x16)
    bench.restart()
    assert bench.read(b"\x21\x11", 0x14, 0x15, 0x16) == before
    assert [one.seq for one in bench.point.buffer.unpaid] == [1]


def test_a_power_cut_turns_the_running_fill_into_a_transaction(bench: Bench) -> None:
    reach(bench, FpState.FUELLING)
    shown = bench.point.current_centi()
    bench.node.power_cut()
    assert bench.state() is FpState.IDLE
    [sale] = bench.ledger.sales()
    assert sale.centi == shown == bench.ledger.totals(9, 0x21, 0x11).centi
    bench.pass_ms(1)
    assert len(bench.completions()) == 1


@pytest.mark.parametrize(("out_bit", "bits"), [(1, b"\x02"), (0, b"\x01")])
def test_the_polarity_of_the_nozzle_bits_is_a_setting(tmp_path: Path, out_bit: int, bits: bytes) -> None:
    bench = Bench(tmp_path, nozzle_out_bit=out_bit)
    bench.point.lift(0x12)
    assert bench.read(b"\x21", 0x15)[0x15] == bits


def test_unsolicited_messages_need_a_recipient_when_configured(tmp_path: Path) -> None:
    bench = Bench(tmp_path, require_recipient=True)
    bench.point.lift(0x11)
    assert bench.sent() == []
    bench.write(b"\x00", Item(0x0B, CONTROLLER.encode()))
    bench.point.hang_up()
    assert len(bench.sent()) == 1


def test_reads_of_what_does_not_exist(bench: Bench) -> None:
    assert bench.ask(Kind.READ, b"\x24", ids=(0x14,)).ms_ack == 6
    assert bench.ask(Kind.READ, b"\x21\x21\x00\x07", ids=(5,)).ms_ack == 6
    assert bench.read(b"\x21", 0xF0) == {0xF0: b""}
    assert bench.read(b"\x00", 4) == {4: b"\x0a"}
    assert bench.read(b"\x01", 5, 6) == {5: b"\x01", 6: b"\x00\x86"}


def test_a_message_for_another_node_is_not_answered(bench: Bench) -> None:
    message = bench.node.handle(
        bench.ask(Kind.READ, b"\x00", ids=(4,))  # an answer, addressed to the controller
    )
    assert message is None


@pytest.mark.parametrize("nozzle", [PETROL, PREMIUM])
def test_totals_of_one_nozzle_count_only_its_sales(bench: Bench, nozzle: NozzleConfig) -> None:
    bench.whole_fill()
    expected = 680 if nozzle is PETROL else 0
    assert bench.ledger.totals(9, 0x21, nozzle.nozzle).centi == expected
    assert bench.read(b"\x21\x10", 0x14)[0x14].hex() == "0a000000000680"
