"""The way of one v3 call through the world, step by step, and the certificates endpoint."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import structlog
from cryptography.hazmat.primitives import serialization

from sandbox.wechat import codepay, orders, refunds, schema
from sandbox.wechat.calls import Answer, Call, Reply
from sandbox.wechat.clock import rfc3339
from sandbox.wechat.rules import FaultRule, Mangle, Phase
from sandbox.wechat.schema import Field
from sandbox.wechat.signing import (
    Authorization,
    Keyring,
    aes_gcm_encrypt,
    broken,
    check_request,
    parse_authorization,
    signed_headers,
)
from sandbox.wechat.states import ERRORS, ApiError
from sandbox.wechat.text import dump, token

if TYPE_CHECKING:
    from sandbox.wechat.world import World

log = structlog.get_logger(__name__)


def certificates(call: Call) -> Answer:
    """GET /v3/certificates: the platform certificate, sealed with the APIv3 key."""
    certificate = call.ring.platform_certificate
    nonce = token(12)
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    entry = {
        "serial_no": call.ring.platform.serial,
        "effective_time": rfc3339(int(certificate.not_valid_before_utc.timestamp()) * 1000),
        "expire_time": rfc3339(int(certificate.not_valid_after_utc.timestamp()) * 1000),
        "encrypt_certificate": {
            "algorithm": "AEAD_AES_256_GCM",
            "nonce": nonce,
            "associated_data": "certificate",
            "ciphertext": aes_gcm_encrypt(call.ring.apiv3_key, nonce, "certificate", pem),
        },
    }
    return Answer(payload={"data": [entry]})


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One endpoint; `quota` names the rate limit in `Limits`."""

    method: str
    path: re.Pattern[str]
    run: Callable[[Call], Answer]
    body: Field | None = None
    quota: str = ""


def _route(
    method: str, path: str, run: Callable[[Call], Answer], body: Field | None = None, quota: str = ""
) -> Route:
    pattern = re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path))
    return Route(method=method, path=pattern, run=run, body=body, quota=quota)


_PAY = "/v3/pay/transactions"
_REFUND = "/v3/refund/domestic/refunds"
ROUTES = (
    _route("POST", f"{_PAY}/jsapi", orders.create_jsapi, schema.JSAPI, "create_per_s"),
    _route("POST", f"{_PAY}/native", orders.create_native, schema.NATIVE, "create_per_s"),
    _route("POST", f"{_PAY}/codepay", codepay.create_codepay, schema.CODEPAY, "codepay_per_s"),
    _route("GET", f"{_PAY}/out-trade-no/{{otn}}", orders.query_by_number),
    _route("GET", f"{_PAY}/id/{{transaction_id}}", orders.query_by_id),
    _route("POST", f"{_PAY}/out-trade-no/{{otn}}/close", orders.close, schema.CLOSE),
    _route("POST", f"{_PAY}/out-trade-no/{{otn}}/reverse", codepay.reverse, schema.REVERSE),
    _route("POST", _REFUND, refunds.create_refund, schema.REFUND, "refund_per_s"),
    _route("GET", f"{_REFUND}/{{no}}", refunds.query_refund),
    _route(
        "POST",
        f"{_REFUND}/{{refund_id}}/apply-abnormal-refund",
        refunds.apply_abnormal,
        schema.ABNORMAL_REFUND,
    ),
    _route("GET", "/v3/certificates", certificates),
)


def find_route(method: str, path: str) -> tuple[Route, dict[str, str]] | None:
    """The endpoint of a path and the values in it."""
    for route in ROUTES:
        found = route.path.fullmatch(path)
        if found and route.method == method:
            return route, {name: unquote(value) for name, value in found.groupdict().items()}
    return None


@dataclass(slots=True, kw_only=True)
class Visit:
    """What is known about one call while it is under way."""

    world: World
    method: str
    path_qs: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    raw: bytes
    ring: Keyring
    mchid: str = ""
    otn: str = ""
    delay_ms: int = 0

    def fault(self, phase: Phase) -> FaultRule | None:
        """The first admin fault that strikes now; delays are added up and let the call go on."""
        for rule in self.world.faults:
            if rule.phase is not phase or not rule.matches(self.method, self.path, self.otn, self.mchid):
                continue
            if self.world.rng.random() >= rule.p:
                continue
            rule.used += 1
            if rule.action != "delay_ms":
                return rule
            self.delay_ms += int(rule.value)
        return None


def run(
    world: World,
    method: str,
    path_qs: str,
    path: str,
    query: dict[str, str],
    headers: dict[str, str],
    raw: bytes,
) -> Reply:
    """Answer one v3 call."""
    visit = Visit(
        world=world,
        method=method,
        path_qs=path_qs,
        path=path,
        query=query,
        headers=headers,
        raw=raw,
        ring=world.rings[world.material.mchid],
    )
    found = find_route(method, path)
    if found is None:
        return _reply(visit, _as_answer(ApiError("RESOURCE_NOT_EXISTS")), signed=False)
    try:
        answer = _decide(visit, *found)
    except ApiError as error:
        return _reply(visit, _as_answer(error), signed=error.code != "SIGN_ERROR")
    return _cut(visit) if answer is None else _reply(visit, answer)


def _decide(visit: Visit, route: Route, params: dict[str, str]) -> Answer | None:
    """Everything up to the unsigned answer; None when the connection was cut before anything happened."""
    world = visit.world
    body = _peek(visit.raw)
    visit.otn = params.get("otn") or str(body.get("out_trade_no", ""))
    auth = parse_authorization(visit.headers["authorization"]) if "authorization" in visit.headers else None
    visit.mchid = auth.mchid if auth else ""
    with world.lock:
        early = _before(visit)
    if early is not None:
        return None if early.status == 0 else early
    _authenticate(visit, auth)
    _check_body(visit, route)
    call = Call(
        engine=world.engine,
        ring=visit.ring,
        mchid=visit.mchid,
        params=params,
        query=visit.query,
        headers=visit.headers,
        body=body if route.body is not None else {},
    )
    with world.transaction():
        _check_quota(visit, route)
        answer = route.run(call)
        return _after(visit, answer)


def _peek(raw: bytes) -> dict[str, Any]:
    try:
        body = json.loads(raw) if raw else {}
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _before(visit: Visit) -> Answer | None:
    """Admin faults, then chaos, that strike before execution; status 0 cuts the connection."""
    chaos, rng = visit.world.chaos, visit.world.rng
    rule = visit.fault(Phase.BEFORE)
    if rule is not None:
        if rule.action == "reset_conn":
            return Answer(status=0)
        return Answer(mangle=Mangle.HTML_502) if rule.action == "html502" else _as_answer(_fault_error(rule))
    low, high = chaos.slow_ms
    visit.delay_ms += rng.randint(low, high) if high else 0
    if chaos.strikes("reset_conn", rng):
        return Answer(status=0)
    return _as_answer(ApiError("SYSTEM_ERROR")) if chaos.strikes("sys_error", rng) else None


def _fault_error(rule: FaultRule) -> ApiError:
    return ApiError(rule.value if rule.value in ERRORS else "SYSTEM_ERROR")


def _authenticate(visit: Visit, auth: Authorization | None) -> None:
    if auth is None:
        raise ApiError("SIGN_ERROR", "Http头缺少Authorization")
    ring = visit.world.rings.get(auth.mchid)
    if ring is None:
        raise ApiError("SIGN_ERROR", "商户号不存在")
    visit.ring = ring
    check_request(ring, auth, visit.method, visit.path_qs, visit.raw, visit.world.signature_s())
    for name in ("accept", "user-agent"):
        if not visit.headers.get(name):
            raise ApiError("PARAM_ERROR", f"Http头缺少 {name}")
    ring.answering(visit.headers.get("wechatpay-serial", ""))


def _check_body(visit: Visit, route: Route) -> None:
    if route.body is None:
        return
    try:
        body = json.loads(visit.raw)
    except ValueError as wrong:
        raise ApiError("PARAM_ERROR", "传入的数据非JSON格式") from wrong
    schema.check(route.body, body)
    if body.get("mchid", visit.mchid) != visit.mchid:
        raise ApiError("PARAM_ERROR", "mchid不匹配")
    if body.get("appid", visit.ring.material.appid) != visit.ring.material.appid:
        raise ApiError("APPID_MCHID_NOT_MATCH")


def _check_quota(visit: Visit, route: Route) -> None:
    allowed = getattr(visit.world.state.limits, route.quota) if route.quota else 0
    if not allowed:
        return
    second, used = visit.world.quotas.get((visit.mchid, route.quota), (0, 0))
    now = visit.world.signature_s()
    used = used + 1 if second == now else 1
    visit.world.quotas[visit.mchid, route.quota] = (now, used)
    if used > allowed:
        raise ApiError("FREQUENCY_LIMITED")


def _after(visit: Visit, answer: Answer) -> Answer:
    """Admin faults, then chaos, that strike after execution."""
    chaos, rng = visit.world.chaos, visit.world.rng
    rule = visit.fault(Phase.AFTER)
    if rule is None:
        if chaos.strikes("sys_error_done", rng):
            return _as_answer(ApiError("SYSTEM_ERROR"))
        if chaos.strikes("lost_response", rng):
            answer.mangle = Mangle.LOST
        return answer
    if rule.action == "code":
        return _as_answer(_fault_error(rule))
    answer.mangle = Mangle(rule.action)
    return answer


def _as_answer(error: ApiError) -> Answer:
    return Answer(status=error.http, payload=error.payload(), errno=error.number)


def _cut(visit: Visit) -> Reply:
    reply = _reply(visit, Answer(status=502), signed=False)
    reply.reset = True
    return reply


def _reply(visit: Visit, answer: Answer, *, signed: bool = True) -> Reply:
    """Write and sign the answer, then spoil it when a rule says so."""
    body = b"" if answer.payload is None else dump(answer.payload).encode()
    headers = {
        "Content-Type": "application/json; charset=utf-8",
        "Request-ID": f"08{token(24)}-{answer.errno}",
    }
    if answer.mangle is Mangle.HTML_502:
        page = b"<html><head><title>502 Bad Gateway</title></head><body>502 Bad Gateway</body></html>"
        return Reply(status=502, headers={"Content-Type": "text/html"}, body=page, delay_ms=visit.delay_ms)
    if signed and answer.mangle is not Mangle.UNSIGNED:
        headers |= _signature(visit, body)
    if answer.mangle is Mangle.BAD_SIGNATURE:
        headers = broken(headers)
    if answer.mangle is Mangle.TRUNCATED:
        body = body[: len(body) // 2]
    return Reply(
        status=answer.status,
        headers=headers,
        body=body,
        lost=answer.mangle is Mangle.LOST,
        delay_ms=visit.delay_ms,
        wait_notify=answer.wait_notify,
    )


def _signature(visit: Visit, body: bytes) -> dict[str, str]:
    try:
        key = visit.ring.answering(visit.headers.get("wechatpay-serial", ""))
    except ApiError:
        key = visit.ring.platform  # the serial itself was the mistake
    return signed_headers(key, visit.world.signature_s(), body)
