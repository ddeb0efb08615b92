"""`make replay-record`: run every scenario, keep its history, and write the fingerprints of the workflows.

Run it after a workflow was changed on purpose, with the change behind `workflow.patched()` as long as runs of the old
code may be open. Histories carry no host, process, path or person: names of this machine are replaced.
"""

import asyncio
import json
import os
import re
import socket
import sys
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

from temporalio.client import WorkflowExecutionStatus
from temporalio.testing import WorkflowEnvironment

from tests.environments import start_dev_server, start_time_skipping
from tests.replay import fingerprints
from tests.replay.scenarios import REAL_TIME, SKIPPING, Recorded
from tests.workflows.harness import running
from workers.embedded.postgres import EmbeddedPostgres, run_migrations
from workers.embedded.process import Child, wait_until

HISTORIES = Path(__file__).parent / "histories"
_MACHINE = re.compile(re.escape(f"{os.getpid()}@{socket.gethostname()}"))


def scrubbed(value: Any) -> Any:
    """Return a history without what names this machine: worker identities, sticky queues, stack traces."""
    if isinstance(value, dict):
        return {k: "" if k == "stackTrace" else scrubbed(v) for k, v in value.items()}
    if isinstance(value, list):
        return [scrubbed(v) for v in value]
    return _MACHINE.sub("recorder", value) if isinstance(value, str) else value


async def _keep(name: str, handle: Recorded) -> None:
    history = await handle.fetch_history()
    body = {"workflow_id": handle.id, "history": scrubbed(json.loads(history.to_json()))}
    (HISTORIES / f"{name}.json").write_text(json.dumps(body, sort_keys=True, separators=(",", ":")) + "\n")
    print(f"{name}: {len(history.events)} events")


async def _finish(handle: Recorded, env: WorkflowEnvironment) -> None:
    """Wait until a recorded run has ended, letting time pass where it can be skipped."""
    if not env.supports_time_skipping_v1:
        await asyncio.wait_for(handle.result(), 30)
        return
    for _ in range(300):
        if (await handle.describe()).status is not WorkflowExecutionStatus.RUNNING:
            return
        await env.sleep(timedelta(seconds=7))
    raise AssertionError(f"{handle.id} did not end")


async def _record_real_time(env: WorkflowEnvironment, database_url: str) -> None:
    async with running(env.client, database_url) as harness:
        for scenario in REAL_TIME:
            harness.fresh()
            handle = await scenario(harness)
            await _finish(handle, env)
            await _keep(scenario.__name__, handle)
            await harness.end_all()


async def _record_skipping(env: WorkflowEnvironment, database_url: str) -> None:
    async with running(env.client, database_url) as harness:
        for scenario in SKIPPING:
            harness.fresh()
            handle = await scenario(harness, env)
            await _finish(handle, env)
            await _keep(scenario.__name__, handle)
            await harness.end_all()


async def record(database_url: str) -> None:
    """Record every scenario on the server that suits it."""
    HISTORIES.mkdir(exist_ok=True)
    for old in HISTORIES.glob("*.json"):
        old.unlink()
    async with await start_dev_server() as env:
        await _record_real_time(env, database_url)
    async with await start_time_skipping() as env:
        await _record_skipping(env, database_url)


def main() -> int:
    """Record histories and fingerprints; `--fingerprints` writes only the latter."""
    if "--fingerprints" not in sys.argv:
        with tempfile.TemporaryDirectory(prefix="jz-rec-") as folder:
            cluster = EmbeddedPostgres(Path(folder) / "postgres", durable=False)
            child = Child(cluster.spec(), Path(folder) / "logs")
            try:
                child.start()
                if not wait_until(child.is_ready, 30):
                    raise RuntimeError(child.last_lines())
                cluster.ensure_database("record")
                run_migrations(cluster.url("record"))
                asyncio.run(record(cluster.url("record")))
            finally:
                child.stop()
    fingerprints.write()
    print(f"fingerprints of {len(fingerprints.compute())} methods")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
