"""In-process front: mounts a world on the `responses` library, so that `requests` reaches it by WeChat's
real addresses.

A lost response runs the core and then raises `ReadTimeout`; a connection reset raises `ConnectionError`
without running it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from requests.exceptions import ConnectionError as RequestsConnectionError
from requests.exceptions import ReadTimeout

from sandbox.wechat.world import World

if TYPE_CHECKING:
    from requests import PreparedRequest
    from responses import RequestsMock

PAY_HOSTS = ("api.mch.weixin.qq.com", "api2.mch.weixin.qq.com", "api.wechatpay.cn", "api2.wechatpay.cn")
MINI_PROGRAM_HOST = "api.weixin.qq.com"
_METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH")
Answer = tuple[int, dict[str, str], bytes]


def _read_timeout_ms(request: PreparedRequest) -> int:
    kwargs: dict[str, Any] = getattr(request, "req_kwargs", {}) or {}
    timeout = kwargs.get("timeout")
    read = timeout[1] if isinstance(timeout, tuple) else timeout
    return int(read * 1000) if read else 0


def _body(request: PreparedRequest) -> bytes:
    if request.body is None:
        return b""
    return request.body.encode() if isinstance(request.body, str) else bytes(request.body)


def answering(
    world: World, sleep: Callable[[float], None] = time.sleep
) -> Callable[[PreparedRequest], Answer]:
    """A callback for `responses`:

    One request in, (status, headers, body) out, or the exception of a real wire.
    """

    def answer(request: PreparedRequest) -> Answer:
        parts = urlsplit(str(request.url))
        path_qs = parts.path + (f"?{parts.query}" if parts.query else "")
        headers = {str(name): str(value) for name, value in request.headers.items()}
        reply = world.handle(str(request.method), path_qs, headers, _body(request))
        if reply.reset:
            raise RequestsConnectionError("connection reset by the sandbox")
        limit_ms = _read_timeout_ms(request)
        if reply.lost or (limit_ms and reply.delay_ms >= limit_ms):
            raise ReadTimeout("answer lost by the sandbox")
        if reply.delay_ms:
            sleep(reply.delay_ms / 1000)
        return reply.status, reply.headers, reply.body

    return answer


def install(rsps: RequestsMock, world: World, sleep: Callable[[float], None] = time.sleep) -> None:
    """Mount the world on WeChat's five hosts. The admin API is not reachable this way."""
    hosts = "|".join(re.escape(host) for host in (*PAY_HOSTS, MINI_PROGRAM_HOST))
    pattern = re.compile(rf"https://({hosts})/.*")
    for method in _METHODS:
        rsps.add_callback(method, pattern, callback=answering(world, sleep), content_type=None)
