"""`python -m bench.floor_worker`: the worker process of the floors, set up like the product's own."""

import asyncio
import json
import signal
import sys
from concurrent.futures import ThreadPoolExecutor

from temporalio.worker import Worker

from bench import shapes
from config.settings import load
from config.temporal import connect
from contracts.names import gateway_task_queue
from workers.sandboxing import workflow_runner
from workflows.fill_and_pay import FillAndPay


async def _main() -> None:
    client = await connect(load())
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    with ThreadPoolExecutor(32) as pool:
        empty = Worker(
            client,
            task_queue=shapes.EMPTY_QUEUE,
            workflows=[shapes.Empty],
            workflow_runner=workflow_runner(),
            max_concurrent_workflow_tasks=16,
        )
        shape = Worker(
            client,
            task_queue=shapes.SHAPE_QUEUE,
            workflows=[FillAndPay],
            activities=shapes.FILL_BODIES,
            activity_executor=pool,
            workflow_runner=workflow_runner(),
            max_concurrent_workflow_tasks=16,
            max_concurrent_activities=32,
        )
        gateway = Worker(
            client,
            task_queue=gateway_task_queue(shapes.SHAPE_SHARD),
            activities=shapes.GATEWAY_BODIES,
        )
        async with empty, shape, gateway:
            sys.stdout.write(json.dumps({"ready": True}) + "\n")
            sys.stdout.flush()
            await stop.wait()
    await asyncio.sleep(0.3)


if __name__ == "__main__":
    asyncio.run(_main())
