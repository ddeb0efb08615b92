"""Request schemas of the v3 endpoints:

Types, lengths, required fields, and no field that the protocol does not know.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from sandbox.wechat.clock import parse_rfc3339
from sandbox.wechat.states import ERRNO_EXTRA_FIELD, ERRNO_OPENID_MISSING, ERRNO_OUT_OF_RANGE, ApiError

OUT_TRADE_NO = re.compile(r"[0-9A-Za-z_\-|*]{6,32}")
OUT_REFUND_NO = re.compile(r"[0-9A-Za-z_\-|*@]{1,64}")
AUTH_CODE = re.compile(r"[0-9]{18}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One JSON field.

    `kind` is str, int, bool, obj, list, time or url. Lengths count characters, numbers count fen.
    """

    kind: str
    required: bool = False
    longest: int = 1 << 20
    smallest: int = 0
    pattern: re.Pattern[str] | None = None
    fields: dict[str, Field] = field(default_factory=dict)
    item: Field | None = None
    choices: tuple[str, ...] = ()
    missing_errno: int = 0


def _bad(path: str, issue: str, value: object = None, errno: int = 0) -> ApiError:
    detail = {"field": path, "value": value, "issue": issue, "location": "body"}
    return ApiError("PARAM_ERROR", f"参数错误 {path}: {issue}", errno, detail)


def _check_str(spec: Field, value: object, path: str) -> None:
    if not isinstance(value, str):
        raise _bad(path, "应为字符串", value)
    if len(value) > spec.longest or (spec.required and not value):
        raise _bad(path, f"长度应为 1-{spec.longest}", value, ERRNO_OUT_OF_RANGE)
    if spec.pattern is not None and not spec.pattern.fullmatch(value):
        raise _bad(path, "格式不正确", value)
    if spec.choices and value not in spec.choices:
        raise _bad(path, "取值不在范围内", value)


def _check_time(spec: Field, value: object, path: str) -> None:
    _check_str(spec, value, path)
    try:
        parse_rfc3339(str(value))
    except ValueError as wrong:
        raise _bad(path, "不符合 rfc3339", value) from wrong


def _check_url(spec: Field, value: object, path: str) -> None:
    _check_str(spec, value, path)
    parts = urlsplit(str(value))
    # The protocol wants https; plain http is let through for a receiver on the same machine (see
    # notify.py's allow list).
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise _bad(path, "回调地址须为完整的 http(s) 地址", value)
    if parts.query or parts.fragment:
        raise _bad(path, "回调地址不能携带参数", value)


def _check_int(spec: Field, value: object, path: str) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _bad(path, "应为整数", value)
    if value < spec.smallest:
        raise _bad(path, f"应不小于 {spec.smallest}", value, ERRNO_OUT_OF_RANGE)


def _check_object(spec: Field, value: object, path: str) -> None:
    if not isinstance(value, dict):
        raise _bad(path, "应为对象", value)
    for name in value:
        if name not in spec.fields:
            raise _bad(f"{path}/{name}", "参数中含有非法的额外参数", errno=ERRNO_EXTRA_FIELD)
    for name, inner in spec.fields.items():
        if name in value:
            check(inner, value[name], f"{path}/{name}")
        elif inner.required:
            raise _bad(f"{path}/{name}", "缺少必填参数", errno=inner.missing_errno)


def check(spec: Field, value: object, path: str = "") -> None:
    """Hold one value against its schema; raises ApiError PARAM_ERROR with the place in `detail`."""
    if spec.kind == "obj":
        _check_object(spec, value, path)
    elif spec.kind == "int":
        _check_int(spec, value, path)
    elif spec.kind == "time":
        _check_time(spec, value, path)
    elif spec.kind == "url":
        _check_url(spec, value, path)
    elif spec.kind == "str":
        _check_str(spec, value, path)
    elif spec.kind == "bool":
        if not isinstance(value, bool):
            raise _bad(path, "应为布尔值", value)
    elif not isinstance(value, list):
        raise _bad(path, "应为数组", value)
    elif spec.item is not None:
        for position, inner in enumerate(value):
            check(spec.item, inner, f"{path}/{position}")


def _text(longest: int, *, required: bool = False, **more: Any) -> Field:
    return Field(kind="str", longest=longest, required=required, **more)


def _int(smallest: int, *, required: bool = False) -> Field:
    return Field(kind="int", smallest=smallest, required=required)


def _obj(fields: dict[str, Field], *, required: bool = False) -> Field:
    return Field(kind="obj", fields=fields, required=required)


_GOODS = _obj(
    {
        "merchant_goods_id": _text(32, required=True),
        "wechatpay_goods_id": _text(32),
        "goods_name": _text(256),
        "quantity": _int(1, required=True),
        "unit_price": _int(0, required=True),
    }
)
_DETAIL = _obj(
    {
        "cost_price": _int(0),
        "invoice_id": _text(32),
        "receipt_id": _text(32),
        "goods_detail": Field(kind="list", item=_GOODS),
    }
)
_STORE = {
    "id": _text(32),
    "out_id": _text(32),
    "name": _text(256),
    "area_code": _text(32),
    "address": _text(512),
}
_SCENE = _obj(
    {
        "payer_client_ip": _text(45, required=True),
        "device_id": _text(32),
        "store_info": _obj({**_STORE, "id": _text(32, required=True)}),
    }
)
_AMOUNT = _obj({"total": _int(1, required=True), "currency": _text(16, choices=("CNY",))}, required=True)
_SETTLE = _obj({"profit_sharing": Field(kind="bool")})
_NUMBER = _text(32, required=True, pattern=OUT_TRADE_NO)

_CREATE = {
    "appid": _text(32, required=True),
    "mchid": _text(32, required=True),
    "description": _text(127, required=True),
    "out_trade_no": _NUMBER,
    "time_expire": Field(kind="time", longest=64),
    "attach": _text(128),
    "notify_url": Field(kind="url", longest=255, required=True),
    "goods_tag": _text(32),
    "support_fapiao": Field(kind="bool"),
    "amount": _AMOUNT,
    "detail": _DETAIL,
    "scene_info": _SCENE,
    "settle_info": _SETTLE,
}
_OPENID = _text(128, required=True, missing_errno=ERRNO_OPENID_MISSING)

JSAPI = _obj({**_CREATE, "payer": _obj({"openid": _OPENID}, required=True)})
NATIVE = _obj(_CREATE)
CODEPAY = _obj(
    {
        **{
            name: spec
            for name, spec in _CREATE.items()
            if name not in ("time_expire", "notify_url", "scene_info")
        },
        "payer": _obj({"auth_code": _text(32, required=True)}, required=True),
        "scene_info": _obj(
            {"device_id": _text(32), "device_ip": _text(45), "store_info": _obj(_STORE, required=True)},
            required=True,
        ),
    }
)
CLOSE = _obj({"mchid": _text(32, required=True)})
REVERSE = _obj({"appid": _text(32, required=True), "mchid": _text(32, required=True)})

_FROM = _obj({"account": _text(32, required=True), "amount": _int(1, required=True)}, required=True)
_REFUND_AMOUNT = {
    "refund": _int(1, required=True),
    "total": _int(1, required=True),
    "currency": _text(16, required=True, choices=("CNY",)),
    "from": Field(kind="list", item=_FROM),
}
REFUND = _obj(
    {
        "transaction_id": _text(32),
        "out_trade_no": _text(32),
        "out_refund_no": _text(64, required=True, pattern=OUT_REFUND_NO),
        "reason": _text(80),
        "notify_url": Field(kind="url", longest=255),
        "funds_account": _text(32, choices=("AVAILABLE", "UNSETTLED")),
        "amount": _obj(_REFUND_AMOUNT, required=True),
        "goods_detail": Field(kind="list"),
    }
)
ABNORMAL_REFUND = _obj(
    {
        "out_refund_no": _text(64, required=True),
        "type": _text(32, required=True, choices=("USER_BANK_CARD", "MERCHANT_BANK_CARD")),
        "bank_type": _text(16),
        "bank_account": _text(1024),
        "real_name": _text(1024),
    }
)
