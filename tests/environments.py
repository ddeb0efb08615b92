"""Both Temporal servers, started the way everything else is tested.

Installed binaries, no download, our attributes.
"""

import shutil
import sys
from pathlib import Path

from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode
from temporalio.testing import WorkflowEnvironment

from config.payload_converter import PYDANTIC
from contracts.names import SearchAttribute
from workers.embedded.temporal import DYNAMIC_CONFIG, attribute_type

_TYPES = {
    "Keyword": IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD,
    "Bool": IndexedValueType.INDEXED_VALUE_TYPE_BOOL,
}


def binary(name: str) -> str:
    """The path of a binary of this virtual environment."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise FileNotFoundError(f"{name} is missing: run `make setup`")
    return found


async def add_search_attributes(client: Client) -> None:
    """Register our search attributes; nothing happens when they are there."""
    wanted = {one.value: _TYPES[attribute_type(one)] for one in SearchAttribute}
    request = AddSearchAttributesRequest(namespace=client.namespace, search_attributes=wanted)
    try:
        await client.operator_service.add_search_attributes(request)
    except RPCError as error:
        if error.status is not RPCStatusCode.ALREADY_EXISTS:
            raise


async def start_dev_server() -> WorkflowEnvironment:
    """The dev server in memory, without its dispatch quota of 20 a second (it would cost 50 ms a hop)."""
    extra = [part for one in DYNAMIC_CONFIG for part in ("--dynamic-config-value", one)]
    environment = await WorkflowEnvironment.start_local(
        data_converter=PYDANTIC,
        dev_server_existing_path=binary("temporal"),
        dev_server_extra_args=extra,
        dev_server_log_level="error",
    )
    await add_search_attributes(environment.client)
    return environment


async def start_time_skipping() -> WorkflowEnvironment:
    """The test server that skips time."""
    environment = await WorkflowEnvironment.start_time_skipping(
        data_converter=PYDANTIC,
        test_server_existing_path=binary("temporal-test-server"),
    )
    await add_search_attributes(environment.client)
    return environment
