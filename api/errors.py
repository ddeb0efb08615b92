"""Problem details (RFC 9457) for everything that is not a success: one shape, a machine-readable `code`, Chinese words.

No answer contains a stack, a query, or what was sent.
"""

from collections.abc import Mapping
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException

from api.ports import CommandRejectedError, HostBusyError, TemporalAwayError

log = structlog.get_logger(__name__)

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 2
_BOUNDS = ("gt", "ge", "lt", "le", "min_length", "max_length", "pattern", "expected")
"""What pydantic calls the bound of a value in an error's context; all are ours, none is the caller's."""

_BY_STATUS: dict[int, tuple[str, str]] = {
    400: ("bad_request", "请求格式有误"),
    401: ("unauthenticated", "请先登录"),
    403: ("forbidden", "没有权限"),
    404: ("not_found", "没有找到"),
    405: ("method_not_allowed", "不支持的操作"),
    413: ("body_too_large", "请求内容过大"),
    415: ("media_type", "请求格式有误"),
    422: ("invalid", "提交的内容有误"),
    500: ("internal", "系统出错，请稍后重试"),
    503: ("unavailable", "系统繁忙，请稍后重试"),
}


class Fault(BaseModel):
    """One field that is wrong: where, why, and the bound that was missed when there is one."""

    field: str = Field(examples=["body.amount_fen"])
    reason: str = Field(examples=["greater_than"])
    limit: str | None = Field(default=None, examples=["0"])


class Problem(BaseModel):
    """The body of every refusal. `code` is stable and for programs, `title` and `detail` are for people."""

    type: str = Field(examples=["urn:jiazhu:problem:price_changed"])
    title: str = Field(examples=["价格已变动"])
    status: int = Field(examples=[409])
    code: str = Field(examples=["price_changed"])
    detail: str = Field(default="", examples=["请按新价格重新确认"])
    request_id: str = Field(default="", examples=["4f1c0f6e"])
    errors: list[Fault] | None = Field(
        default=None, description="of 422 `invalid`: every field that is wrong"
    )
    price_fen_per_unit: int | None = Field(
        default=None, description="of 409 `price_changed`: the price in force"
    )
    price_version: int | None = Field(default=None, description="of 409 `price_changed`")


class ProblemError(Exception):
    """Ends a request with a problem; `extra` are further members of the body, such as the new price."""

    def __init__(
        self,
        status: int,
        code: str,
        title: str,
        detail: str = "",
        *,
        extra: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(code)
        self.status, self.code, self.title, self.detail = status, code, title, detail
        self.extra, self.headers = dict(extra or {}), dict(headers or {})


def not_found(detail: str = "") -> ProblemError:
    """Return the refusal for what does not exist or belongs to somebody else: both look the same."""
    return ProblemError(404, "not_found", "没有找到", detail)


def unauthenticated() -> ProblemError:
    """Return the refusal for a missing, wrong or expired credential; says nothing about which."""
    return ProblemError(401, "unauthenticated", "请先登录", headers={"WWW-Authenticate": "Bearer"})


def try_again(detail: str = "稍后重试，订单不会丢失", *, after_s: int = RETRY_AFTER_SECONDS) -> ProblemError:
    """Return the refusal for something that is away for a moment: the same request with the same key is safe."""
    headers = {"Retry-After": str(after_s)}
    return ProblemError(503, "try_again", "系统繁忙，请稍后重试", detail, headers=headers)


def too_many_requests() -> ProblemError:
    """Return the refusal of a caller who asks too often; a minute later the same request is heard."""
    headers = {"Retry-After": "60"}
    return ProblemError(429, "too_many_requests", "操作过于频繁", "请一分钟后再试", headers=headers)


def problem_response(
    status: int,
    code: str,
    title: str,
    detail: str = "",
    *,
    request_id: str = "",
    extra: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """Return the response of a problem."""
    body = {
        "type": f"urn:jiazhu:problem:{code}",
        "title": title,
        "status": status,
        "code": code,
        "detail": detail,
        "request_id": request_id,
        **(extra or {}),
    }
    return JSONResponse(body, status_code=status, headers=dict(headers or {}), media_type=MEDIA_TYPE)


def _request_id(request: Request) -> str:
    return str(request.scope.get("request_id", ""))


def _respond(request: Request, error: ProblemError) -> JSONResponse:
    return problem_response(
        error.status,
        error.code,
        error.title,
        error.detail,
        request_id=_request_id(request),
        extra=error.extra,
        headers=error.headers,
    )


async def _on_problem(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ProblemError)
    return _respond(request, error)


async def _on_http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    code, title = _BY_STATUS.get(error.status_code, ("http_error", "请求未能完成"))
    headers = error.headers or {}
    detail = "请求内容须为 UTF-8 的 JSON" if error.status_code == 400 else ""
    return problem_response(
        error.status_code, code, title, detail, request_id=_request_id(request), headers=headers
    )


async def _on_invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    errors = [_fault(one) for one in error.errors()[:20]]
    code, title = _BY_STATUS[422]
    no_object = {"field": "body", "reason": "model_attributes_type"} in errors
    detail = "请求内容须为 JSON 对象，并带 Content-Type: application/json" if no_object else ""
    extra = {"errors": errors}
    return problem_response(422, code, title, detail, request_id=_request_id(request), extra=extra)


def _fault(error: Mapping[str, Any]) -> dict[str, str]:
    """Return where, what, and the bound that was missed when there is one; never what was sent."""
    reason, where = str(error["type"]), error["loc"]
    if reason == "json_invalid":
        where = where[:1]  # the rest is a position in the text
    fault = {"field": ".".join(_ascii(part) for part in where), "reason": reason}
    bounds = error.get("ctx", {})
    limit = next((bounds[name] for name in _BOUNDS if name in bounds), None)
    return fault if limit is None else {**fault, "limit": str(limit)}


def _ascii(part: object) -> str:
    return str(part).encode("ascii", "backslashreplace").decode()[:64]


async def _on_away(request: Request, error: Exception) -> JSONResponse:
    log.warning("api.dependency.away", kind=type(error).__name__)
    return _respond(request, try_again())


async def _on_rejected(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, CommandRejectedError)
    return _respond(
        request, ProblemError(409, error.code.lower() or "refused", "操作未被接受", error.message)
    )


async def _on_database(request: Request, error: Exception) -> JSONResponse:
    if isinstance(error, DataError):
        return problem_response(
            422, *_BY_STATUS[422], "含有不能保存的字符或数值", request_id=_request_id(request)
        )
    if isinstance(error, IntegrityError):
        return problem_response(409, "conflict", "与现有数据冲突", request_id=_request_id(request))
    return await _on_away(request, error)


async def _on_bug(request: Request, error: Exception) -> JSONResponse:
    log.error("api.request.failed", kind=type(error).__name__, exc_info=error)
    code, title = _BY_STATUS[500]
    return problem_response(500, code, title, request_id=_request_id(request))


def install(app: FastAPI) -> None:
    """Answer every error of an app with a problem."""
    app.add_exception_handler(ProblemError, _on_problem)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    for away in (TemporalAwayError, HostBusyError, PoolTimeoutError, OperationalError):
        app.add_exception_handler(away, _on_away)
    app.add_exception_handler(CommandRejectedError, _on_rejected)
    app.add_exception_handler(DBAPIError, _on_database)
    app.add_exception_handler(Exception, _on_bug)
