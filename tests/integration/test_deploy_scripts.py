"""The job that prepares a namespace in production, run against a real server with the real command line."""

import os
import subprocess
import uuid

from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.testing import WorkflowEnvironment

from contracts.names import SearchAttribute
from tests.environments import binary
from workers.embedded.process import ROOT


async def test_the_namespace_job_may_run_again(temporal_env: WorkflowEnvironment) -> None:
    namespace = f"n-{uuid.uuid4().hex[:8]}"
    env = {
        "PATH": f"{os.path.dirname(binary('temporal'))}:{os.environ['PATH']}",
        "HOME": "/nonexistent",
        "TEMPORAL_ADDRESS": temporal_env.client.service_client.config.target_host,
        "TEMPORAL_NAMESPACE": namespace,
    }
    for _ in range(2):
        result = subprocess.run(
            ["sh", str(ROOT / "deploy" / "temporal" / "namespace.sh")],
            env=env,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert result.returncode == 0, result.stderr
    answer = await temporal_env.client.operator_service.list_search_attributes(
        ListSearchAttributesRequest(namespace=namespace)
    )
    assert {one.value for one in SearchAttribute} <= set(answer.custom_attributes)
