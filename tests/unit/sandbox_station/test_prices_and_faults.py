"""Price changes, and the scripted faults of a dispenser."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sandbox.station.data_ids import FpState
from sandbox.station.ifsf_wire import Item, amount, encode, unit_price
from tests.unit.sandbox_station.bench import Bench


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def start_filling(bench: Bench) -> None:
    bench.release(fen=5000)
    bench.point.lift(0x11)
    bench.point.squeeze()
    bench.pass_ms(2000)
    assert bench.state() is FpState.FUELLING


def set_price(bench: Bench, fen: int, product: str = "00000001") -> list[int]:
    return bench.write(bytes.fromhex("61" + product + "11"), Item(2, unit_price(fen)))


def test_a_price_is_applied_in_idle_and_announced_like_the_captured_one(bench: Bench) -> None:
    assert set_price(bench, 750) == [0]
    assert bench.sent() == []
    bench.pass_ms(300)
    [event] = bench.sent()
    assert encode(event).hex() == "020101090080000c" + "03214199" + "6400" + "010199" + "050103"
    assert bench.read(bytes.fromhex("610000000111"), 2) == {2: unit_price(750)}
    assert bench.read(bytes.fromhex("610000000211"), 2) == {2: unit_price(785)}


def test_a_price_is_refused_with_37_while_the_point_is_busy(bench: Bench) -> None:
    start_filling(bench)
    bench.sent()
    set_price(bench, 750)
    bench.pass_ms(300)
    assert bench.errors() == [0x37]
    assert bench.point.price(0x11) == 735


def test_a_running_fill_keeps_its_price(bench: Bench) -> None:
    start_filling(bench)
    bench.ledger.set_price(9, 0x21, 0x11, 999)
    bench.pass_ms(60_000)
    bench.point.hang_up()
    assert bench.ledger.sales()[0].price_fen == 735


@pytest.mark.parametrize(("product", "error"), [("00000077", 0x35), ("00000001", 0x36)])
def test_prices_that_the_board_does_not_take(bench: Bench, product: str, error: int) -> None:
    bench.arm(kind="price_refused")
    set_price(bench, 750, product)
    bench.pass_ms(300)
    assert bench.errors() == [error]


def test_a_price_of_zero_is_an_invalid_value(bench: Bench) -> None:
    assert set_price(bench, 0) == [1]


FAULTY: list[tuple[str, Callable[[Bench], int], int]] = [
    ("duplicate_completion", lambda bench: len(bench.completions()), 2),
    ("missing_completion", lambda bench: len(bench.completions()), 0),
    ("late_completion", lambda bench: len(bench.completions()), 0),
]


@pytest.mark.parametrize(("kind", "measure", "expected"), FAULTY)
def test_faults_of_the_completion_message(
    bench: Bench, kind: str, measure: Callable[[Bench], int], expected: int
) -> None:
    bench.arm(kind=kind)
    bench.whole_fill()
    assert measure(bench) == expected
    assert len(bench.point.buffer.unpaid) == 1


def test_a_late_completion_does_come(bench: Bench) -> None:
    bench.arm(kind="late_completion", delay_ms=2000)
    bench.whole_fill()
    bench.sent()
    bench.pass_ms(2000)
    assert len(bench.completions()) == 1


def test_a_wrong_amount_is_reported_but_the_ledger_knows_better(bench: Bench) -> None:
    bench.arm(kind="amount_mismatch", delta_fen=500)
    bench.whole_fill()
    assert bench.read(b"\x21\x21\x00\x01", 5)[5] == amount(5500)
    assert bench.ledger.sales()[0].amount_fen == 5000


def test_overshoot(bench: Bench) -> None:
    bench.arm(kind="overshoot", pulses=2)
    bench.whole_fill()
    [sale] = bench.ledger.sales()
    assert (sale.centi, sale.amount_fen) == (682, 5012)
