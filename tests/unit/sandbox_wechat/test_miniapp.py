"""The mini-program host: sessions, tokens, telephone numbers, subscription messages."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

import pytest

from sandbox.wechat.world import World

Json = dict[str, Any]


def _get(world: World, **query: str) -> Json:
    material = world.material
    fields = {
        "appid": material.appid,
        "secret": material.appsecret,
        "grant_type": "authorization_code",
    } | query
    reply = world.handle("GET", f"/sns/jscode2session?{urlencode(fields)}", {}, b"")
    assert reply.status == 200
    found: Json = json.loads(reply.body)
    return found


def _post(world: World, path: str, body: Json, token: str | None = None) -> Json:
    query = "" if token is None else f"?access_token={token}"
    reply = world.handle("POST", f"{path}{query}", {}, json.dumps(body).encode())
    assert reply.status == 200
    found: Json = json.loads(reply.body)
    return found


def _token(world: World, *, force: bool = False, **change: Any) -> Json:
    material = world.material
    body = {
        "grant_type": "client_credential",
        "appid": material.appid,
        "secret": material.appsecret,
        "force_refresh": force,
    }
    return _post(world, "/cgi-bin/stable_token", body | change)


def test_session(world: World) -> None:
    found = _get(world, js_code="ok:oDriver_late30")
    assert found["openid"] == "oDriver_late30"
    assert "errcode" not in found
    assert found == _get(world, js_code="ok:oDriver_late30")


@pytest.mark.parametrize(
    ("js_code", "number"),
    [
        ("used", 40163),
        ("bad", 40029),
        ("busy", -1),
        ("freq", 45011),
        ("risk", 40226),
        ("", 40029),
        ("ok:", 40029),
    ],
)
def test_session_errors(world: World, js_code: str, number: int) -> None:
    found = _get(world, js_code=js_code)
    assert found["errcode"] == number
    assert "rid: 6" in found["errmsg"]


def test_code_is_used_once(world: World) -> None:
    assert _get(world, js_code="once:oDriver1:7")["openid"] == "oDriver1"
    assert _get(world, js_code="once:oDriver1:7")["errcode"] == 40163
    assert _get(world, js_code="once:oDriver1:8")["openid"] == "oDriver1"


def test_app_and_secret(world: World) -> None:
    assert _get(world, js_code="ok:o", appid="wx0")["errcode"] == 40013
    assert _get(world, js_code="ok:o", appid="")["errcode"] == 41002
    assert _get(world, js_code="ok:o", secret="x")["errcode"] == 40125
    assert _token(world, secret="x")["errcode"] == 40125
    assert _token(world, grant_type="x")["errcode"] == 40002


def test_stable_token_lives_two_hours_and_overlaps(world: World) -> None:
    first = _token(world)
    assert first["expires_in"] == 7200
    world.advance(6_899)
    assert _token(world)["access_token"] == first["access_token"]
    world.advance(1)
    second = _token(world)
    assert second["access_token"] != first["access_token"]
    phone = "/wxa/business/getuserphonenumber"
    assert _post(world, phone, {"code": "phone:138"}, first["access_token"])["errcode"] == 0
    world.advance(300)
    assert _post(world, phone, {"code": "phone:138"}, first["access_token"])["errcode"] == 42001
    assert _post(world, phone, {"code": "phone:138"}, second["access_token"])["errcode"] == 0
    world.advance(7_200)
    assert _post(world, phone, {"code": "phone:138"}, second["access_token"])["errcode"] == 42001
    assert _post(world, phone, {"code": "phone:138"}, "nonsense")["errcode"] == 40001
    assert _post(world, phone, {"code": "phone:138"})["errcode"] == 41001


def test_forced_refresh(world: World) -> None:
    first = _token(world)
    assert _token(world, force=True)["errcode"] == 45011
    world.advance(30)
    assert _token(world, force=True)["access_token"] != first["access_token"]
    for _ in range(19):
        world.advance(30)
        assert "access_token" in _token(world, force=True)
    world.advance(30)
    assert _token(world, force=True)["errcode"] == 45009


def test_telephone_number(world: World) -> None:
    token = _token(world)["access_token"]
    path = "/wxa/business/getuserphonenumber"
    info = _post(world, path, {"code": "phone:13800138000"}, token)["phone_info"]
    assert (info["phoneNumber"], info["countryCode"]) == ("13800138000", "86")
    assert info["watermark"]["appid"] == world.material.appid
    assert _post(world, path, {"code": "phone:13800138000:1"}, token)["errcode"] == 0
    assert _post(world, path, {"code": "phone:13800138000:1"}, token)["errcode"] == 40029
    assert _post(world, path, {"code": "ok:oDriver1"}, token)["errcode"] == 40029


MESSAGE: Json = {"touser": "oDriver1", "template_id": "T1", "data": {"thing1": {"value": "加油完成"}}}


@pytest.mark.parametrize(
    ("change", "number"),
    [
        ({}, 0),
        ({"touser": "oDriver_refuse"}, 43101),
        ({"touser": "oDriver_baddata"}, 47003),
        ({"touser": ""}, 40003),
        ({"template_id": ""}, 40037),
        ({"data": {"thing1": {"value": "油" * 21}}}, 47003),
        ({"data": {"thing1": {"value": ""}}}, 47003),
        ({"data": {"thing1": "x"}}, 47003),
        ({"data": {}}, 47003),
    ],
)
def test_subscription_message(world: World, change: Json, number: int) -> None:
    token = _token(world)["access_token"]
    found = _post(world, "/cgi-bin/message/subscribe/send", MESSAGE | change, token)
    assert found["errcode"] == number
    assert world.miniapp.messages() == ([MESSAGE] if number == 0 else [])


def test_body_must_be_json(world: World) -> None:
    token = _token(world)["access_token"]
    path = f"/cgi-bin/message/subscribe/send?access_token={token}"
    for raw in (b"{", b"[]"):
        assert json.loads(world.handle("POST", path, {}, raw).body)["errcode"] == 47001
