"""The request bodies of new orders: made once, stored, sent byte for byte on every retry.

WeChat refuses a retry whose parameters differ from the first request, so nothing here depends on the clock.
"""

import json
import re
from collections.abc import Mapping
from datetime import timedelta, timezone
from types import SimpleNamespace
from typing import Any

from wechatpayv3 import WeChatPayType

from adapters.payments.wechat.core import HardenedWeChatPay
from contracts.payment import AttemptSpec
from domain.payment import PayMethod

PATHS: Mapping[PayMethod, str] = {
    PayMethod.WECHAT_JSAPI: "/v3/pay/transactions/jsapi",
    PayMethod.WECHAT_NATIVE: "/v3/pay/transactions/native",
    PayMethod.WECHAT_CODE: "/v3/pay/transactions/codepay",
}
_TYPES = {
    PayMethod.WECHAT_JSAPI: WeChatPayType.JSAPI,
    PayMethod.WECHAT_NATIVE: WeChatPayType.NATIVE,
    PayMethod.WECHAT_CODE: WeChatPayType.CODEPAY,
}
_OUT_TRADE_NO = re.compile(r"[0-9A-Za-z_\-|*]{6,32}")
_BEIJING = timezone(timedelta(hours=8))
MAX_DESCRIPTION = 127


class _Composer:
    """Stands where the transport would: keeps what the library's endpoint method was about to send."""

    def __init__(self, mchid: str) -> None:
        self.mchid = mchid

    def request(self, path: str, method: object = None, data: Mapping[str, Any] | None = None) -> Any:
        """Return the composed call instead of sending it."""
        return SimpleNamespace(path=path, method=method, data=data)


class OrderComposer:
    """Makes the exact JSON of an order for one merchant and mini-program."""

    def __init__(self, *, mchid: str, appid: str, notify_url: str) -> None:
        self._library = HardenedWeChatPay(core=_Composer(mchid), appid=appid, notify_url=notify_url)

    def body(self, spec: AttemptSpec) -> str:
        """Return the JSON text of an order.

        Raises ValueError for what is not a WeChat method, a bad number, an amount below 1 fen, an expiry
        without time zone, or a missing payer.
        """
        self._check(spec)
        call = self._library.pay(
            description=spec.description[:MAX_DESCRIPTION],
            out_trade_no=spec.out_trade_no,
            amount={"total": spec.amount_fen, "currency": "CNY"},
            attach=spec.station_code,
            pay_type=_TYPES[spec.method],
            **self._particulars(spec),
        )
        if call.path != PATHS[spec.method]:
            raise ValueError(f"the library composes {call.path} for {spec.method}")
        return json.dumps(call.data, ensure_ascii=False, separators=(",", ":"), sort_keys=True)

    @staticmethod
    def _particulars(spec: AttemptSpec) -> dict[str, Any]:
        """A pay code has no time_expire and names the store; the others expire in Beijing time."""
        if spec.method is PayMethod.WECHAT_CODE:
            store = {"out_id": spec.station_code}
            return {"payer": {"auth_code": spec.payer}, "scene_info": {"store_info": store}}
        expire = spec.expires_at.astimezone(_BEIJING).replace(microsecond=0).isoformat()
        payer = {"openid": spec.payer} if spec.method is PayMethod.WECHAT_JSAPI else None
        return {"time_expire": expire, "payer": payer}

    @staticmethod
    def _check(spec: AttemptSpec) -> None:
        if spec.method not in PATHS:
            raise ValueError(f"not a WeChat method: {spec.method}")
        if not _OUT_TRADE_NO.fullmatch(spec.out_trade_no):
            raise ValueError("out_trade_no breaks WeChat's rule")
        if isinstance(spec.amount_fen, bool) or not isinstance(spec.amount_fen, int) or spec.amount_fen < 1:
            raise ValueError("the amount must be at least 1 fen, as an integer")
        if spec.expires_at.tzinfo is None:
            raise ValueError("expires_at needs a time zone")
        if spec.method is not PayMethod.WECHAT_NATIVE and not spec.payer:
            raise ValueError(f"{spec.method} needs a payer")
