"""The outbox keeps what it promised, also through kill -9."""

import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from contracts.station import CommandResult, CommandState, EndReason, SaleRecord
from domain.quantity import Unit
from station_gateway.client.meters import Meter
from station_gateway.client.outbox import OpenAuthorisation, Outbox

ROOT = Path(__file__).resolve().parents[3]
SALE = SaleRecord(
    natural_key="ST-1-21-0001-6800",
    station_code="ST",
    node=1,
    fp=0x21,
    nozzle=1,
    sequence=1,
    unit=Unit.LITRE,
    quantity_milli=6_800,
    amount_fen=5_000,
    price_fen_per_unit=735,
    end_reason=EndReason.NORMAL,
    recorded_at=datetime(2026, 8, 1, tzinfo=UTC),
    totaliser_after_milli=6_800,
)
OPENED = OpenAuthorisation(
    node=1,
    fp=0x21,
    nozzle=1,
    order_no="P1",
    command_id="auth-P1",
    price_fen_per_unit=735,
    total_before_milli=0,
    confirmed=False,
    opened_ms=5,
)
ACCEPTED = CommandResult(command_id="auth-P1", order_no="P1", state=CommandState.ACCEPTED)


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    box = Outbox(tmp_path / "outbox.sqlite3")
    yield box
    box.close()


def test_durable_settings(outbox: Outbox) -> None:
    assert outbox._durable.execute("PRAGMA synchronous").fetchone() == (2,)
    assert outbox._durable.execute("PRAGMA journal_mode").fetchone() == ("wal",)


@pytest.mark.feature("003-E1")
def test_a_sale_is_kept_once_and_ends_its_authorisation(outbox: Outbox, tmp_path: Path) -> None:
    outbox.open_authorisation(OPENED)
    with pytest.raises(sqlite3.IntegrityError):
        outbox.open_authorisation(replace(OPENED, command_id="other"))
    assert outbox.add_sale(SALE, now_ms=1, closes=OPENED, result=ACCEPTED)
    assert not outbox.add_sale(SALE, now_ms=2)
    assert outbox.authorisations() == []
    assert outbox.meter(1, 0x21, 1) == Meter(6_800, 0, 0)
    assert outbox.result_of("auth-P1") == ACCEPTED
    assert [event.seq for event in outbox.pending(10)] == [1]
    reopened = Outbox(tmp_path / "outbox.sqlite3")
    assert reopened.knows_sale(SALE.natural_key)
    reopened.close()


def test_order_lanes_and_acknowledgement(outbox: Outbox) -> None:
    for number in range(6):
        outbox.add_sale(replace(SALE, natural_key=f"k{number}", node=number % 2 + 1), now_ms=number)
    assert [event.device for event in outbox.pending(10, {"1"})] == ["2", "2", "2"]
    assert [event.seq for event in outbox.pending(2)] == [1, 2]
    outbox.count_attempt([1])
    outbox.acknowledge([1, 2], 10)
    assert [event.seq for event in outbox.pending(10)] == [3, 4, 5, 6]
    assert outbox.depth() == 4
    outbox.prune(11)
    assert not outbox.knows_sale("k0")
    assert outbox.knows_sale("k2")


def test_authorisations_are_confirmed_or_dropped(outbox: Outbox) -> None:
    outbox.open_authorisation(OPENED)
    outbox.confirm_authorisation(ACCEPTED, 6)
    assert outbox.authorisations() == [replace(OPENED, confirmed=True)]
    refused = replace(ACCEPTED, state=CommandState.REFUSED, code="DEVICE_REFUSED")
    outbox.drop_authorisation(refused, 7)
    assert outbox.authorisations() == []
    assert outbox.result_of("auth-P1") == refused


def test_results_are_reported_until_acknowledged_and_a_newer_one_again(outbox: Outbox) -> None:
    unknown = replace(ACCEPTED, state=CommandState.UNKNOWN, code="NO_ANSWER")
    outbox.add_result(unknown, 1)
    sent = outbox.unreported(5)
    outbox.add_result(ACCEPTED, 2)
    outbox.mark_reported(sent, 3)
    assert [command_id for command_id, _ in outbox.unreported(5)] == ["auth-P1"]
    outbox.mark_reported(outbox.unreported(5), 4)
    assert outbox.unreported(5) == []
    outbox.report_again("auth-P1")
    assert len(outbox.unreported(5)) == 1


WRITER = """
import sys
from dataclasses import replace
from pathlib import Path
from station_gateway.client.outbox import Outbox
from tests.unit.station_gateway.test_outbox import SALE
box = Outbox(Path(sys.argv[1]))
for number in range(100000):
    box.add_sale(replace(SALE, natural_key=f"k{number}"), now_ms=number)
    sys.stdout.write(f"k{number}\\n")
    sys.stdout.flush()
"""


@pytest.mark.feature("003-E1")
@pytest.mark.parametrize("after_s", [0.05, 0.21])
def test_what_was_committed_survives_kill_minus_9(tmp_path: Path, after_s: float) -> None:
    path = tmp_path / "outbox.sqlite3"
    child = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    first = child.stdout.readline()
    time.sleep(after_s)
    child.kill()
    told = [first.strip(), *(line.strip() for line in child.stdout if line.endswith("\n"))]
    child.wait(timeout=10)
    outbox = Outbox(path)
    assert len(told) > 5
    assert all(outbox.knows_sale(key) for key in told)
    assert len(outbox.pending(1_000_000)) in (len(told), len(told) + 1)
    outbox.close()
