"""The one connection.

What is stored in Temporal is encrypted, and a server that is not there is said in one line.
"""

import base64
import uuid

import pytest
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from temporalio.api.failure.v1 import Failure
from temporalio.testing import WorkflowEnvironment

from config.payload_codec import ENCODING
from config.settings import Settings, SettingsError
from config.temporal import connect
from db.session import make_engine
from workers.embedded.ports import any_free

_RING = SecretStr("k1:" + base64.b64encode(bytes(range(32))).decode())


@pytest.mark.feature("000-3")
async def test_arguments_are_encrypted_in_the_history(temporal_env: WorkflowEnvironment) -> None:
    address = temporal_env.client.service_client.config.target_host
    client = await connect(Settings(temporal_address=address, codec_keys=_RING))
    handle = await client.start_workflow(
        "NobodyRunsThis", {"plate": "secret-text"}, id=uuid.uuid4().hex, task_queue=uuid.uuid4().hex
    )
    history = await handle.fetch_history()
    stored = history.events[0].workflow_execution_started_event_attributes.input.payloads[0]
    assert stored.metadata["encoding"] == ENCODING
    assert b"secret-text" not in b"".join(one.SerializeToString() for one in history.events)
    assert (await client.data_converter.decode([stored])) == [{"plate": "secret-text"}]
    await handle.terminate()


async def test_a_failure_shows_nothing_in_clear(temporal_env: WorkflowEnvironment, database_url: str) -> None:
    address = temporal_env.client.service_client.config.target_host
    client = await connect(Settings(temporal_address=address, codec_keys=_RING))
    engine, failure = make_engine(database_url, pool_size=1), Failure()
    with pytest.raises(DBAPIError) as broken, engine.begin() as db:
        db.execute(text("SELECT length(:phone) / 0"), {"phone": "13812345678"})
    assert "13812345678" not in str(broken.value)
    await client.data_converter.encode_failure(ValueError("13812345678"), failure)
    assert "13812345678" not in failure.SerializeToString().decode(errors="replace")
    assert str(await client.data_converter.decode_failure(failure)).endswith("13812345678")
    engine.dispose()


async def test_a_server_that_is_not_there_is_named() -> None:
    address = f"127.0.0.1:{any_free()}"
    with pytest.raises(SettingsError, match=address):
        await connect(Settings(temporal_address=address, temporal_connect_timeout_s=1))
