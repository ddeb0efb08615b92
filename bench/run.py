"""`make bench`: fill and pay on the embedded stack against floors measured in the same run.

Prints a table and writes build/bench.json, a list of {"name", "value", "unit", "floor", "ratio"}. Everything runs
on this machine: driver, server, worker, database, sandbox, dispensers; compare ratios, not absolute figures.
"""

import argparse
import asyncio
import json
import os
import shutil
import statistics
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.floors import IN_FLIGHT, Floors
from bench.measure import Rate, percentile
from bench.whole import POINTS, Whole
from config.settings import load
from config.temporal import connect
from workers.embedded.process import Child, ServiceSpec, python
from workers.embedded.services import StackOptions
from workers.embedded.stack import EmbeddedStack

_ROUNDS = 4
_FLOOR_S, _WHOLE_S, _LATENCY_S = 5.0, 8.0, 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure; `floor` and `ratio` are 0 where there is none."""

    name: str
    value: float
    unit: str
    floor: float = 0.0
    ratio: float = 0.0


def _median(rates: list[Rate]) -> float:
    return statistics.median(r.per_s for r in rates)


def _ratio(name: str, rates: list[Rate], floors: list[Rate]) -> Row:
    """Compare round by round, since a machine's speed drifts between rounds; the median round speaks."""
    ratios = [rate.per_s / floor.per_s for rate, floor in zip(rates, floors, strict=True) if floor.per_s]
    middle = statistics.median(ratios) if ratios else 0.0
    return Row(name=name, value=_median(rates), unit="1/s", floor=_median(floors), ratio=middle)


async def measure(stack: EmbeddedStack, floor_pid: int) -> list[Row]:
    """Interleave floors and the whole stack, so that a noisy moment meets both."""
    client = await connect(load())
    pids = {name: pid for name in stack.names() if (pid := stack.pid(name))}
    floors, whole = Floors(client, {"temporal": pids["temporal"], "worker": floor_pid}), Whole(stack, pids)
    empty, prepaid, postpaid, fills, sales = [], [], [], [], []
    for _ in range(_ROUNDS):
        empty.append(await floors.empty(_FLOOR_S))
        prepaid.append(await floors.prepaid(_FLOOR_S))
        fills.append(await whole.prepaid(_WHOLE_S, use_all=True))
        postpaid.append(await floors.postpaid(_FLOOR_S))
        sales.append(await whole.postpaid(_WHOLE_S))
    rests = await whole.prepaid(_WHOLE_S, use_all=False)
    await whole.latency(_LATENCY_S, per_s=_median(fills) / 2)
    waits = whole.receipt_latencies_ms()
    shape = await whole.history_figures(client)
    rows = [
        Row(name="empty_workflow", value=_median(empty), unit="1/s"),
        _ratio("prepaid_shape/empty_workflow", prepaid, empty),
        _ratio("postpaid_shape/empty_workflow", postpaid, empty),
        _ratio("fill_and_pay/same_shape", fills, prepaid),
        Row(name="fill_and_pay with a rest to return", value=rests.per_s, unit="1/s"),
        _ratio("postpaid whole stack/same_shape", sales, postpaid),
        Row(name="completion to receipt p50", value=percentile(waits, 50), unit="ms"),
        Row(name="completion to receipt p99", value=percentile(waits, 99), unit="ms"),
    ]
    rows += [Row(name=name, value=value, unit="") for name, value in shape.items()]
    rows += [
        Row(name=f"cpu per fill: {name}", value=ms, unit="ms")
        for name, ms in sorted(fills[-1].cpu_ms.items())
    ]
    rows += [
        Row(name=f"cpu per same shape: {name}", value=ms, unit="ms")
        for name, ms in sorted(prepaid[-1].cpu_ms.items())
    ]
    return rows


def show(rows: list[Row]) -> str:
    """Return the table."""
    lines = [f"{'figure':<44}{'value':>10} {'unit':<5}{'floor':>9}{'ratio':>8}"]
    for row in rows:
        floor = f"{row.floor:9.2f}{row.ratio:8.3f}" if row.floor else ""
        lines.append(f"{row.name:<44}{row.value:>10.2f} {row.unit:<5}{floor}")
    return "\n".join(lines)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/bench.json"))
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="jz-bench-"))
    options = StackOptions(rate=1000, instant=True, free_ports=True)
    try:
        with EmbeddedStack(folder, options=options, say=lambda _line: None) as stack:
            env = stack.child("worker").spec.env
            os.environ.update(env)
            spec = ServiceSpec(name="floor-worker", command=python("bench.floor_worker"), env=env)
            floor = Child(spec, folder / "logs")
            floor.start()
            try:
                rows = asyncio.run(_measured(stack, floor))
            finally:
                floor.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(show(rows))
    print(
        f"in flight: floors {IN_FLIGHT}, whole stack {len(POINTS)}; dev server on disk with WAL;"
        f" median of {_ROUNDS} rounds"
    )
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps([asdict(row) for row in rows], indent=1, ensure_ascii=False))
    return 0


async def _measured(stack: EmbeddedStack, floor: Child) -> list[Row]:
    for _ in range(300):
        if floor.is_ready() and floor.pid:
            rows = await measure(stack, floor.pid)
            await asyncio.sleep(0.3)
            return rows
        await asyncio.sleep(0.1)
    raise RuntimeError("the floor worker did not start: " + "\n".join(floor.last_lines()))


if __name__ == "__main__":
    sys.exit(main())
