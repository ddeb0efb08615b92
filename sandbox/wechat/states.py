"""States, transitions, re-entry rules and errors of WeChat Pay v3, held as data.

Sources: WeChat Pay v3 merchant documents (order status flow, error tables of each endpoint,
troubleshooting manual).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class TradeState(StrEnum):
    """`trade_state` of an order; the last three exist for pay-by-code (付款码) only."""

    SUCCESS = "SUCCESS"
    REFUND = "REFUND"
    NOTPAY = "NOTPAY"
    CLOSED = "CLOSED"
    REVOKED = "REVOKED"
    USERPAYING = "USERPAYING"
    PAYERROR = "PAYERROR"


class RefundState(StrEnum):
    """`status` of a refund."""

    PROCESSING = "PROCESSING"
    SUCCESS = "SUCCESS"
    CLOSED = "CLOSED"
    ABNORMAL = "ABNORMAL"


class Product(StrEnum):
    """`trade_type` of the products served here; MICROPAY is pay-by-code."""

    JSAPI = "JSAPI"
    NATIVE = "NATIVE"
    MICROPAY = "MICROPAY"


ALLOWED_TRADE: dict[TradeState, frozenset[TradeState]] = {
    TradeState.NOTPAY: frozenset({TradeState.SUCCESS, TradeState.CLOSED, TradeState.REVOKED}),
    TradeState.USERPAYING: frozenset({TradeState.SUCCESS, TradeState.PAYERROR, TradeState.REVOKED}),
    TradeState.SUCCESS: frozenset({TradeState.REFUND, TradeState.REVOKED}),
    TradeState.REFUND: frozenset(),
    TradeState.CLOSED: frozenset(),
    TradeState.REVOKED: frozenset(),
    # Assumption: a failed pay-by-code order may still be reversed, which only closes it.
    TradeState.PAYERROR: frozenset({TradeState.REVOKED}),
}

ALLOWED_REFUND: dict[RefundState, frozenset[RefundState]] = {
    RefundState.PROCESSING: frozenset({RefundState.SUCCESS, RefundState.CLOSED, RefundState.ABNORMAL}),
    RefundState.ABNORMAL: frozenset({RefundState.PROCESSING, RefundState.SUCCESS}),
    RefundState.SUCCESS: frozenset(),
    RefundState.CLOSED: frozenset(),
}

CODEPAY_ONLY = frozenset({TradeState.REVOKED, TradeState.USERPAYING, TradeState.PAYERROR})
PAID = frozenset({TradeState.SUCCESS, TradeState.REFUND})

TRADE_DESC: dict[TradeState, str] = {
    TradeState.SUCCESS: "支付成功",
    TradeState.REFUND: "转入退款",
    TradeState.NOTPAY: "订单未支付",
    TradeState.CLOSED: "订单已关闭",
    TradeState.REVOKED: "订单已撤销",
    TradeState.USERPAYING: "用户支付中，需要输入密码",
    TradeState.PAYERROR: "支付失败",
}


class IllegalMove(RuntimeError):
    """A transition that WeChat Pay never makes; raising it means the sandbox itself is wrong."""


def check_trade_move(old: TradeState, new: TradeState) -> None:
    """Refuse an order transition outside `ALLOWED_TRADE`; raises IllegalMove."""
    if new not in ALLOWED_TRADE[old]:
        raise IllegalMove(f"{old} -> {new}")


def check_refund_move(old: RefundState, new: RefundState) -> None:
    """Refuse a refund transition outside `ALLOWED_REFUND`; raises IllegalMove."""
    if new not in ALLOWED_REFUND[old]:
        raise IllegalMove(f"{old} -> {new}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorSpec:
    """One row of the error table:

    HTTP status, text for a person, and the number at the end of `Request-ID`.
    """

    http: int
    message: str
    errno: int = 0


ERRORS: dict[str, ErrorSpec] = {
    "PARAM_ERROR": ErrorSpec(http=400, message="参数错误", errno=268435461),
    "INVALID_REQUEST": ErrorSpec(http=400, message="无效请求", errno=268435461),
    "APPID_MCHID_NOT_MATCH": ErrorSpec(http=400, message="appid和mchid不匹配", errno=268445527),
    "MCH_NOT_EXISTS": ErrorSpec(http=400, message="商户号不存在", errno=268443715),
    "SIGN_ERROR": ErrorSpec(http=401, message="签名错误", errno=268443699),
    "NO_AUTH": ErrorSpec(http=403, message="商户无权限", errno=268448010),
    "RULE_LIMIT": ErrorSpec(http=403, message="业务规则限制"),
    "ACCOUNT_ERROR": ErrorSpec(http=403, message="账号异常"),
    "TRADE_ERROR": ErrorSpec(http=403, message="交易错误"),
    "NOT_ENOUGH": ErrorSpec(http=403, message="余额不足"),
    "USER_ACCOUNT_ABNORMAL": ErrorSpec(http=403, message="用户账户异常"),
    "REQUEST_BLOCKED": ErrorSpec(http=403, message="请求被拦截"),
    "OUT_TRADE_NO_USED": ErrorSpec(http=403, message="商户订单号重复", errno=268498689),
    "ORDER_PAID": ErrorSpec(http=400, message="该订单已支付", errno=268449538),
    "ORDER_CLOSED": ErrorSpec(http=400, message="该订单已失效", errno=268447914),
    "ORDER_REVERSED": ErrorSpec(http=400, message="该订单已撤销", errno=268447914),
    "AUTH_CODE_EXPIRE": ErrorSpec(http=403, message="付款码已过期，请用户刷新后再试"),
    "AUTH_CODE_INVALID": ErrorSpec(http=400, message="付款码无效"),
    "USER_NOT_EXISTS": ErrorSpec(http=404, message="用户不存在"),
    "USERPAYING": ErrorSpec(http=202, message="需要用户输入支付密码"),
    "ORDER_NOT_EXIST": ErrorSpec(http=404, message="订单不存在", errno=268512771),
    "RESOURCE_NOT_EXISTS": ErrorSpec(http=404, message="请求的资源不存在", errno=268512771),
    "FREQUENCY_LIMITED": ErrorSpec(http=429, message="频率超限", errno=268447840),
    "RATELIMIT_EXCEEDED": ErrorSpec(http=429, message="频率超限", errno=268447840),
    "SYSTEM_ERROR": ErrorSpec(http=500, message="系统异常，请稍后重试"),
    "BANK_ERROR": ErrorSpec(http=500, message="银行系统异常"),
    "BIZ_ERR_NEED_RETRY": ErrorSpec(http=500, message="退款业务流程错误，需要商户触发重试来解决"),
    "OPENID_MISMATCH": ErrorSpec(http=500, message="openid和appid不匹配"),
    "INVALID_TRANSACTIONID": ErrorSpec(http=500, message="订单号非法"),
}

ERRNO_EXTRA_FIELD = 270924358
ERRNO_REENTRY_DIFFERS = 268498688
ERRNO_REVERSE_ONLY = 268449641
ERRNO_OPENID_MISSING = 268501013
ERRNO_OUT_OF_RANGE = 268435464
ERRNO_WRONG_MERCHANT = 268447843


@dataclass(slots=True)
class ApiError(Exception):
    """An error answer of WeChat: `code` is a key of `ERRORS`; text, number and details may be overridden."""

    code: str
    message: str = ""
    errno: int = 0
    detail: dict[str, Any] = field(default_factory=dict)

    @property
    def http(self) -> int:
        """HTTP status of the answer."""
        return ERRORS[self.code].http

    @property
    def number(self) -> int:
        """Number shown at the end of `Request-ID`."""
        return self.errno or ERRORS[self.code].errno

    def payload(self) -> dict[str, Any]:
        """The JSON error body of the v3 protocol."""
        body: dict[str, Any] = {"code": self.code, "message": self.message or ERRORS[self.code].message}
        if self.detail:
            body["detail"] = self.detail
        return body


@dataclass(frozen=True, slots=True, kw_only=True)
class Reentry:
    """What a second create call on a known `out_trade_no` gets.

    `code` empty means: a fresh prepay, HTTP 200.
    """

    code: str = ""
    message: str = ""
    errno: int = 0


_PARAMS_DIFFER = Reentry(
    code="INVALID_REQUEST", message="请求重入时，参数与首次请求时不一致", errno=ERRNO_REENTRY_DIFFERS
)

# (state of the order, same parameters?) -> answer. A missing pair would be a hole in the table; a test
# walks all of it.
REENTRY: dict[tuple[TradeState, bool], Reentry] = {
    (TradeState.NOTPAY, True): Reentry(),
    (TradeState.NOTPAY, False): _PARAMS_DIFFER,
    (TradeState.SUCCESS, True): Reentry(code="OUT_TRADE_NO_USED"),
    (TradeState.SUCCESS, False): Reentry(code="OUT_TRADE_NO_USED"),
    (TradeState.REFUND, True): Reentry(code="OUT_TRADE_NO_USED"),
    (TradeState.REFUND, False): Reentry(code="OUT_TRADE_NO_USED"),
    (TradeState.CLOSED, True): Reentry(code="ORDER_CLOSED"),
    (TradeState.CLOSED, False): Reentry(code="ORDER_CLOSED"),
    (TradeState.REVOKED, True): Reentry(code="ORDER_REVERSED"),
    (TradeState.REVOKED, False): Reentry(code="ORDER_REVERSED"),
    (TradeState.USERPAYING, True): Reentry(code="USERPAYING"),
    (TradeState.USERPAYING, False): _PARAMS_DIFFER,
    (TradeState.PAYERROR, True): Reentry(code="OUT_TRADE_NO_USED"),
    (TradeState.PAYERROR, False): Reentry(code="OUT_TRADE_NO_USED"),
}
# A repeated pay-by-code call with the very same parameters is told that the order is paid, not that the
# number is used.
CODEPAY_REPAID = Reentry(code="ORDER_PAID")
