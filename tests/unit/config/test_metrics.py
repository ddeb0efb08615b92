"""Probes: alive, ready, metrics, and nothing else."""

import urllib.error
import urllib.request

import pytest

from config.metrics import ProbeServer


def _get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_the_probes_of_a_process() -> None:
    state = {"ready": False}
    server = ProbeServer("127.0.0.1", 0, lambda: state["ready"])
    server.start()
    try:
        assert _get(server.port, "/healthz")[0] == 200
        assert _get(server.port, "/readyz")[0] == 503
        state["ready"] = True
        assert _get(server.port, "/readyz")[0] == 200
        status, text = _get(server.port, "/metrics")
        assert status == 200
        assert "process_cpu_seconds_total" in text
        assert _get(server.port, "/etc/passwd")[0] == 404
    finally:
        server.close()
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(f"http://127.0.0.1:{server.port}/healthz", timeout=1)
