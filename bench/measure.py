"""Closed loops, CPU by process from /proc, and percentiles; nothing here knows the product."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """How many per second, over how many, and the CPU milliseconds of each by process name."""

    per_s: float
    count: int
    cpu_ms: dict[str, float]


def percentile(values: list[float], percent: float) -> float:
    """Return the nearest-rank percentile.

    Raises ValueError for no values.
    """
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    return ordered[max(0, min(len(ordered) - 1, round(percent / 100 * len(ordered) + 0.5) - 1))]


def cpu_seconds(pids: dict[str, int]) -> dict[str, float]:
    """Return the CPU seconds used so far by each process and its living children."""
    usage: dict[int, tuple[int, float]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:  # a process may end between listing and reading
                continue
            usage[int(entry.name)] = (int(fields[1]), (int(fields[11]) + int(fields[12])) * _TICK_S)
    return {name: sum(usage[p][1] for p in _family(pid, usage)) for name, pid in pids.items()}


def _family(pid: int, usage: dict[int, tuple[int, float]]) -> list[int]:
    found = [pid] if pid in usage else []
    for child, (parent, _) in usage.items():
        if parent == pid:
            found += _family(child, usage)
    return found


async def closed_loop(
    job: Callable[[int], Awaitable[None]], *, in_flight: int, seconds: float, pids: dict[str, int]
) -> Rate:
    """Run `job` with so many in flight for so long, after a warm-up of a fifth of it, and return the rate."""
    counted, running, number = 0, True, 0

    async def one() -> None:
        nonlocal counted, number
        while running:
            number += 1
            await job(number)
            counted += 1

    tasks = [asyncio.create_task(one()) for _ in range(in_flight)]
    await asyncio.sleep(seconds / 5)
    before, at, cpu = counted, time.monotonic(), cpu_seconds(pids)
    await asyncio.sleep(seconds)
    done, took, after = counted - before, time.monotonic() - at, cpu_seconds(pids)
    running = False
    await asyncio.gather(*tasks)
    each = {name: (after[name] - cpu[name]) * 1000 / max(done, 1) for name in pids}
    return Rate(per_s=done / took, count=done, cpu_ms=each)
