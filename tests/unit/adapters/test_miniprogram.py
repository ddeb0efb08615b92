"""The mini-program client: typed errors, one token for all threads, no secret in an error."""

import json
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
import responses

from adapters.miniprogram.client import MiniProgramClient, MiniProgramSession
from adapters.miniprogram.errors import (
    AccessTokenError,
    LoginCodeInvalidError,
    MessageInvalidError,
    MiniProgramBusyError,
    MiniProgramConfigError,
    MiniProgramError,
    MiniProgramRateLimitError,
    PhoneCodeInvalidError,
    RiskUserError,
    SubscribeRefusedError,
)
from tests.unit.adapters.kit import Ticker

BASE = "https://api.weixin.qq.com"
SECRET = "s3cret-of-the-mini-program"


@dataclass
class Host:
    """A mini-program host that hands out numbered tokens and accepts only those in `valid`."""

    rsps: responses.RequestsMock
    clock: Ticker = field(default_factory=lambda: Ticker(1_000_000))
    answer: Any = field(default_factory=dict)
    status: int = 200
    token_calls: list[dict[str, Any]] = field(default_factory=list)
    calls: list[requests.PreparedRequest] = field(default_factory=list)
    current: int = 1
    valid: set[str] = field(default_factory=lambda: {"token-1"})
    on_force: str = ""
    slow_s: float = 0

    def __post_init__(self) -> None:
        self.rsps.add_callback("POST", f"{BASE}/cgi-bin/stable_token", callback=self._token)
        self.rsps.add_callback("GET", f"{BASE}/sns/jscode2session", callback=self._plain)
        for path in ("/wxa/business/getuserphonenumber", "/cgi-bin/message/subscribe/send"):
            self.rsps.add_callback("POST", BASE + path, callback=self._guarded)

    def _token(self, request: requests.PreparedRequest) -> tuple[int, dict[str, str], str]:
        time.sleep(self.slow_s)
        body = json.loads(request.body or b"")
        self.token_calls.append(body)
        if body["force_refresh"] and self.on_force:
            self.current, self.valid = self.current + 1, {self.on_force}
        return 200, {}, json.dumps({"access_token": f"token-{self.current}", "expires_in": 7200})

    def _plain(self, request: requests.PreparedRequest) -> tuple[int, dict[str, str], str]:
        self.calls.append(request)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.status, {}, self.answer if isinstance(self.answer, str) else json.dumps(self.answer)

    def _guarded(self, request: requests.PreparedRequest) -> tuple[int, dict[str, str], str]:
        token = parse_qs(urlsplit(str(request.url)).query)["access_token"][0]
        if token not in self.valid:
            self.calls.append(request)
            return 200, {}, json.dumps({"errcode": 40001, "errmsg": "invalid credential rid: 6"})
        return self._plain(request)

    def client(self) -> MiniProgramClient:
        return MiniProgramClient(BASE, "wx1", SECRET, clock=self.clock)


@pytest.fixture
def host() -> Iterator[Host]:
    with responses.RequestsMock(assert_all_requests_are_fired=False) as rsps:
        yield Host(rsps)


def test_login_keeps_the_session_key_inside(host: Host) -> None:
    host.answer = {"openid": "o1", "session_key": "tiihtNczf5v6AKRyjwEUhQ==", "unionid": "u1"}
    assert host.client().code_to_session("code") == MiniProgramSession(openid="o1", unionid="u1")
    asked = parse_qs(urlsplit(str(host.calls[0].url)).query)
    assert (asked["js_code"], asked["grant_type"]) == (["code"], ["authorization_code"])


@pytest.mark.parametrize(
    ("errcode", "kind"),
    [
        (40029, LoginCodeInvalidError),
        (40163, LoginCodeInvalidError),
        (40226, RiskUserError),
        (-1, MiniProgramBusyError),
        (45011, MiniProgramRateLimitError),
        (40013, MiniProgramConfigError),
        (40125, MiniProgramConfigError),
        (41002, MiniProgramConfigError),
        (99999, MiniProgramError),
    ],
)
def test_login_errors_are_typed(host: Host, errcode: int, kind: type[MiniProgramError]) -> None:
    host.answer = {"errcode": errcode, "errmsg": "rid: 6"}
    with pytest.raises(MiniProgramError) as caught:
        host.client().code_to_session("code")
    assert type(caught.value) is kind
    assert caught.value.errcode == errcode


@pytest.mark.parametrize(
    "answer", ["<html>", "[]", "null", {}, {"openid": ""}, {"errcode": "0"}, requests.ReadTimeout("x")]
)
def test_unreadable_answers_are_busy(host: Host, answer: Any) -> None:
    host.answer = answer
    with pytest.raises(MiniProgramBusyError):
        host.client().code_to_session("code")


def test_http_500_is_busy(host: Host) -> None:
    host.answer, host.status = {"openid": "o1"}, 500
    with pytest.raises(MiniProgramBusyError):
        host.client().code_to_session("code")


def test_no_secret_in_a_traceback(host: Host) -> None:
    host.answer = requests.ConnectionError(f"{BASE}/sns/jscode2session?secret={SECRET}")
    with pytest.raises(MiniProgramBusyError) as caught:
        host.client().code_to_session("code")
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_phone_number_and_token_are_fetched_once(host: Host) -> None:
    host.answer = {"errcode": 0, "phone_info": {"phoneNumber": "+86138", "purePhoneNumber": "138"}}
    client = host.client()
    assert [client.phone_number("a"), client.phone_number("b")] == ["138", "138"]
    assert len(host.token_calls) == 1
    assert host.token_calls[0]["force_refresh"] is False
    assert json.loads(host.calls[0].body or b"") == {"code": "a"}
    host.clock.now += 7200 - 301
    client.phone_number("c")
    assert len(host.token_calls) == 1
    host.clock.now += 1
    client.phone_number("d")
    assert len(host.token_calls) == 2


@pytest.mark.parametrize(
    ("errcode", "kind"), [(40029, PhoneCodeInvalidError), (45011, MiniProgramRateLimitError)]
)
def test_r83_phone_errors(host: Host, errcode: int, kind: type[MiniProgramError]) -> None:
    host.answer = {"errcode": errcode, "errmsg": ""}
    with pytest.raises(kind):
        host.client().phone_number("login-code")
    assert len(host.calls) == 1


def test_r80_a_refused_token_is_replaced_once(host: Host) -> None:
    host.answer = {"errcode": 0, "phone_info": {"purePhoneNumber": "138"}}
    client = host.client()
    client.phone_number("a")
    host.current, host.valid = 2, {"token-2"}
    assert client.phone_number("b") == "138"
    assert [call["force_refresh"] for call in host.token_calls] == [False, False]


def test_r80_force_only_when_the_refused_token_comes_back(host: Host) -> None:
    host.answer = {"errcode": 0, "phone_info": {"purePhoneNumber": "138"}}
    host.valid, host.on_force = set(), "token-2"
    assert host.client().phone_number("a") == "138"
    assert [call["force_refresh"] for call in host.token_calls] == [False, False, True]


def test_r80_a_token_refused_twice_is_an_error(host: Host) -> None:
    host.valid = set()
    with pytest.raises(AccessTokenError):
        host.client().phone_number("a")
    assert len(host.calls) == 2


def test_r80_sixteen_threads_fetch_one_token(host: Host) -> None:
    host.answer = {"errcode": 0, "phone_info": {"purePhoneNumber": "138"}}
    host.slow_s = 0.05
    client = host.client()
    got: list[str] = []
    threads = [threading.Thread(target=lambda: got.append(client.phone_number("a"))) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=10)
    assert (got, len(host.token_calls)) == (["138"] * 16, 1)


def test_subscribe_message(host: Host) -> None:
    host.answer = {"errcode": 0, "errmsg": "ok"}
    host.client().send_subscribe_message(
        openid="o1", template_id="t1", data={"thing1": "加油完成"}, page="pages/order"
    )
    assert json.loads(host.calls[0].body or b"") == {
        "touser": "o1",
        "template_id": "t1",
        "page": "pages/order",
        "data": {"thing1": {"value": "加油完成"}},
        "miniprogram_state": "formal",
        "lang": "zh_CN",
    }


@pytest.mark.parametrize(
    ("errcode", "kind"),
    [
        (43101, SubscribeRefusedError),
        (47003, MessageInvalidError),
        (40037, MessageInvalidError),
        (40003, MessageInvalidError),
        (41030, MessageInvalidError),
        (45009, MiniProgramRateLimitError),
    ],
)
def test_r82_refusals_are_typed_and_not_repeated(
    host: Host, errcode: int, kind: type[MiniProgramError]
) -> None:
    host.answer = {"errcode": errcode, "errmsg": "rid: 6"}
    with pytest.raises(kind):
        host.client().send_subscribe_message(openid="o1", template_id="t1", data={})
    assert len(host.calls) == 1
