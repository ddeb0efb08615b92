"""`python -m workers.main`: one worker process. Sync activities run in threads.

SIGTERM lets running ones finish.
"""

import asyncio
import json
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import structlog
from temporalio.worker import Worker

from config.logging import configure
from config.metrics import ProbeServer
from config.settings import Role, Settings, SettingsError, load
from config.temporal import connect
from contracts.names import FILL_TASK_QUEUE
from db.repositories.outbox import OutboxRelayStore
from workers import bootstrap
from workers.outbox_relay import Relay
from workers.registry import FILL, activity_methods
from workers.sandboxing import workflow_runner

log = structlog.get_logger(__name__)


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Serve the fill queue until asked to stop."""
    client = await connect(settings, identity=f"worker@{settings.probe_host}:{settings.worker_probe_port}")
    engine = bootstrap.database(settings, "jiazhu-worker")
    channels = bootstrap.payment_channels(settings)
    instances = bootstrap.fill_activities(bootstrap.open_database(settings, engine), channels)
    is_polling = False
    probes = ProbeServer(
        settings.probe_host, settings.worker_probe_port, lambda: is_polling and not stop.is_set()
    )
    probes.start()
    relay_stop = threading.Event()
    cipher = bootstrap.column_cipher(settings)
    relay = Relay(
        store=OutboxRelayStore(engine),
        client=bootstrap.miniprogram(settings),
        decrypt_openid=lambda text: cipher.decrypt("driver", "openid", text),
        clock=bootstrap.utc_now,
    )
    relay_thread = threading.Thread(target=relay.run_forever, args=(relay_stop,), name="outbox")
    with ThreadPoolExecutor(settings.worker_max_activities, thread_name_prefix="activity") as pool:
        worker = Worker(
            client,
            task_queue=FILL_TASK_QUEUE,
            workflows=FILL.workflows,
            activities=activity_methods(instances),
            activity_executor=pool,
            workflow_runner=workflow_runner(),
            max_concurrent_workflow_tasks=settings.worker_max_workflow_tasks,
            max_concurrent_activities=settings.worker_max_activities,
            max_concurrent_local_activities=settings.worker_max_activities,
            max_cached_workflows=2000,
            graceful_shutdown_timeout=timedelta(seconds=20),
            # After a kill -9 an order waits this long for the dead worker's cache before another one replays it.
            sticky_queue_schedule_to_start_timeout=timedelta(seconds=5),
        )
        relay_thread.start()
        async with worker:
            is_polling = True
            ready = {"ready": True, "task_queue": FILL_TASK_QUEUE, "probe_port": probes.port}
            sys.stdout.write(json.dumps(ready) + "\n")
            sys.stdout.flush()
            log.info("worker.ready", task_queue=FILL_TASK_QUEUE, sandbox=settings.sandbox)
            await stop.wait()
        relay_stop.set()
        relay_thread.join()
    probes.close()
    engine.dispose()
    log.info("worker.stopped")


async def _main() -> None:
    settings = load(Role.WORKER)
    configure("worker", level=settings.log_level, fmt=settings.log_format)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    await serve(settings, stop)
    await asyncio.sleep(0.3)  # the SDK's runtime may abort a process that ends at once (sdk-python #300)


def main() -> int:
    """Run a worker; return the process's exit status."""
    try:
        asyncio.run(_main())
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
