"""The codec server.

Temporal's remote codec protocol, for the UI's own pages and, with a token, for nobody else.
"""

import base64
import json

import pytest
from starlette.testclient import TestClient
from temporalio.api.common.v1 import Payload

from config.payload_codec import AesGcmCodec
from workers.codec_server import allowed_origins, make_app

_UI = "http://127.0.0.1:8233"
_CODEC = AesGcmCodec({"a": bytes(range(32))}, clear_passes=True)


def _body(payload: Payload) -> str:
    metadata = {key: base64.b64encode(value).decode() for key, value in payload.metadata.items()}
    return json.dumps({"payloads": [{"metadata": metadata, "data": base64.b64encode(payload.data).decode()}]})


@pytest.fixture
def client() -> TestClient:
    return TestClient(make_app(_CODEC, _UI, None), headers={"origin": _UI})


def test_without_a_token_only_the_page_of_the_ui_is_served() -> None:
    anybody = TestClient(make_app(_CODEC, _UI, None))
    (sealed,) = _CODEC.seal([Payload(data=b"x")])
    assert anybody.post("/decode", content=_body(sealed)).status_code == 403


def test_decode_shows_what_the_worker_wrote(client: TestClient) -> None:
    (sealed,) = _CODEC.seal([Payload(metadata={"encoding": b"json/plain"}, data=b'"hello"')])
    answer = client.post("/decode", content=_body(sealed), headers={"origin": _UI, "x-namespace": "default"})
    assert answer.status_code == 200
    assert base64.b64decode(answer.json()["payloads"][0]["data"]) == b'"hello"'
    assert answer.headers["access-control-allow-origin"] == _UI


def test_encode_is_the_inverse(client: TestClient) -> None:
    clear = Payload(metadata={"encoding": b"json/plain"}, data=b"1")
    sealed = client.post("/encode", content=_body(clear)).text
    assert base64.b64decode(client.post("/decode", content=sealed).json()["payloads"][0]["data"]) == b"1"


def test_a_foreign_page_is_refused(client: TestClient) -> None:
    headers = {"origin": "https://evil.example", "access-control-request-method": "POST"}
    assert client.options("/decode", headers=headers).status_code == 403
    answer = client.post("/decode", content=_body(Payload()), headers=headers)
    assert answer.status_code == 403
    assert "access-control-allow-origin" not in answer.headers


def test_the_preflight_of_the_ui_is_answered(client: TestClient) -> None:
    answer = client.options("/decode", headers={"origin": _UI, "access-control-request-method": "POST"})
    assert answer.status_code == 204
    assert "x-namespace" in answer.headers["access-control-allow-headers"]


def test_with_a_token_nobody_else_reads() -> None:
    client = TestClient(make_app(_CODEC, _UI, "geheim"))
    assert client.post("/decode", content=_body(Payload())).status_code == 401
    assert (
        client.post(
            "/decode", content=_body(Payload()), headers={"authorization": "Bearer wrong"}
        ).status_code
        == 401
    )
    right = client.post("/decode", content=_body(Payload()), headers={"authorization": "Bearer geheim"})
    assert right.status_code == 200


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"payloads": 7}', b"\xff\xfe", b'"x"'])
def test_garbage_is_a_400(client: TestClient, content: bytes) -> None:
    assert client.post("/decode", content=content).status_code == 400


def test_a_payload_under_an_unknown_key_is_a_400(client: TestClient) -> None:
    (foreign,) = AesGcmCodec({"z": bytes(32)}).seal([Payload(data=b"x")])
    assert client.post("/decode", content=_body(foreign)).status_code == 400


def test_a_local_ui_has_two_names() -> None:
    assert allowed_origins("http://localhost:8233") == {"http://127.0.0.1:8233", "http://localhost:8233"}
    assert allowed_origins("https://temporal.example.cn/") == {"https://temporal.example.cn"}
