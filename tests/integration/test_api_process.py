"""The API as a process: settings in, one ready line out, a real channel's notification, a clean end."""

import base64
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from temporalio.client import Client

from sandbox.wechat import keys
from sandbox.wechat.model import Notify
from sandbox.wechat.notify import build
from sandbox.wechat.signing import Keyring

ROOT = Path(__file__).resolve().parents[2]
START_LIMIT_S = 40


def _key(letter: bytes) -> str:
    return base64.b64encode(letter * 32).decode()


@dataclass(frozen=True, kw_only=True)
class Running:
    """The process, its address, and the keys of the sandbox that signs to it."""

    process: subprocess.Popen[str]
    url: str
    material: keys.KeyMaterial


@pytest.fixture(scope="module")
def running(
    database_url: str, temporal_env: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    """`python -m api.main` over this module's database and the shared Temporal server."""
    client: Client = temporal_env.client
    folder = tmp_path_factory.mktemp("keys")
    material = keys.load_or_create(folder)
    public_key = folder / "wechat-public.pem"
    public_key.write_text(material.wechat_public_pem)
    environment = {
        **os.environ,
        "DATABASE_URL": database_url,
        "TEMPORAL_ADDRESS": client.service_client.config.target_host,
        "JIAZHU_API_PORT": "0",
        "JIAZHU_SANDBOX": "true",
        "JIAZHU_CODEC_KEYS": f"k1:{_key(b'c')}",
        "JIAZHU_DATA_KEYS": f"d1:{_key(b'd')}",
        "JIAZHU_INDEX_KEY": _key(b"i"),
        "JIAZHU_NOZZLE_CODE_KEY": _key(b"n"),
        "JIAZHU_JWT_SECRET": "j" * 40,
        "JIAZHU_CONSOLE_SECRET": "c" * 40,
        "JIAZHU_WECHAT_MINIAPP_BASE_URL": "http://127.0.0.1:9",
        "JIAZHU_WECHAT_MCHID": material.mchid,
        "JIAZHU_WECHAT_APPID": material.appid,
        "JIAZHU_WECHAT_APPSECRET": material.appsecret,
        "JIAZHU_WECHAT_APIV3_KEY": material.apiv3_key,
        "JIAZHU_WECHAT_PUBLIC_KEY_PATH": str(public_key),
        "JIAZHU_WECHAT_PUBLIC_KEY_ID": material.wechat_public_key_id,
    }
    log = (folder / "api.log").open("w+")
    process = subprocess.Popen(
        [sys.executable, "-m", "api.main"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
    )
    try:
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        yield Running(process=process, url=_wait_ready(process, log.name), material=material)
    finally:
        process.kill()
        process.wait(10)
        log.close()


def _wait_ready(process: subprocess.Popen[str], log: str) -> str:
    deadline = time.monotonic() + START_LIMIT_S
    assert process.stdout is not None
    while time.monotonic() < deadline and process.poll() is None:
        line = process.stdout.readline()
        if line:
            ready = json.loads(line)
            assert ready["ready"] is True
            return f"http://{ready['host']}:{ready['port']}"
        time.sleep(0.05)
    raise AssertionError(Path(log).read_text()[-2000:])


def _notification(material: keys.KeyMaterial, trade_no: str, **changes: Any) -> tuple[dict[str, str], bytes]:
    now_s = int(time.time())
    resource = {
        "mchid": material.mchid,
        "appid": material.appid,
        "out_trade_no": trade_no,
        "transaction_id": "4200000000000001",
        "trade_state": "SUCCESS",
        "success_time": "2026-05-01T08:00:00+08:00",
        "amount": {"total": 100, "payer_total": 100, "currency": "CNY"},
    }
    notify = Notify(
        id="n1",
        event_id="EV-1",
        mchid=material.mchid,
        url="",
        event_type="TRANSACTION.SUCCESS",
        original_type="transaction",
        summary="支付成功",
        out_trade_no=trade_no,
        resource=resource,
        created_ms=now_s * 1000,
        **changes,
    )
    return build(notify, Keyring(material), now_s)


def test_it_is_ready(running: Running) -> None:
    answer = httpx.get(f"{running.url}/readyz", timeout=10)
    assert answer.json() == {"status": "ready"}
    assert httpx.get(f"{running.url}/healthz").status_code == 200
    assert "沙盒" in httpx.get(f"{running.url}/openapi.json").json()["info"]["title"]


def test_the_channel_s_own_signature_is_accepted(running: Running) -> None:
    headers, body = _notification(running.material, "P" + "W" * 21 + "A001")
    answer = httpx.post(f"{running.url}/v1/notify/wechat/pay", headers=headers, content=body, timeout=5)
    assert answer.status_code == 204


@pytest.mark.parametrize("changes", [{"tamper": 1}, {"probe": True}])
def test_what_it_did_not_sign_is_refused(running: Running, changes: dict[str, Any]) -> None:
    headers, body = _notification(running.material, "P" + "W" * 21 + "A002", **changes)
    answer = httpx.post(f"{running.url}/v1/notify/wechat/pay", headers=headers, content=body, timeout=5)
    assert answer.status_code == 401
    assert answer.json() == {"code": "FAIL", "message": "失败"}
    headers, body = _notification(running.material, "P" + "W" * 21 + "A002")
    reformatted = json.dumps(json.loads(body), indent=1).encode()
    answer = httpx.post(f"{running.url}/v1/notify/wechat/pay", headers=headers, content=reformatted)
    assert answer.status_code == 401, "the bytes are signed, not the JSON"


def test_the_host_of_the_mini_program_may_be_away(running: Running) -> None:
    answer = httpx.post(f"{running.url}/v1/driver/login", json={"code": "abc"}, timeout=20)
    assert (answer.status_code, answer.json()["code"]) == (503, "try_again")


def test_the_console_is_mounted(running: Running) -> None:
    answer = httpx.get(f"{running.url}/console/", follow_redirects=True, timeout=10)
    assert answer.status_code == 200
    assert "text/html" in answer.headers["content-type"]


def test_it_ends_cleanly(running: Running) -> None:
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(15) in (0, -signal.SIGTERM)
