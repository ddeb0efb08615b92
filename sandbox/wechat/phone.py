"""The payer's telephone: scans, checks the merchant's `paySign`, pays, enters the password or gives up."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from sandbox.wechat.engine import Engine
from sandbox.wechat.model import Order, order_key
from sandbox.wechat.orders import Scanned
from sandbox.wechat.rules import Paying, payer_rule
from sandbox.wechat.signing import Keyring, pay_sign_message, verify
from sandbox.wechat.states import TradeState

DEFAULT_OPENID = "oSandboxPayerPhone000000000"
_PACKAGE_PREFIX = "prepay_id="


class PhoneRefused(RuntimeError):
    """What the telephone tells the payer instead of paying; the text is the reason."""


class Phone:
    """Acts on orders as their payer. `transaction` locks the world and commits."""

    def __init__(
        self,
        engine: Engine,
        rings: dict[str, Keyring],
        transaction: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._engine = engine
        self._rings = rings
        self._transaction = transaction

    def scan(self, code_url: str) -> Scanned:
        """Read a Native code; raises PhoneRefused for an unknown, expired or finished one."""
        with self._transaction():
            order = self._by_code_url(code_url)
            self._check_open(order)
            self._engine.state.event("phone.scanned", order.out_trade_no)
            return Scanned(
                out_trade_no=order.out_trade_no, description=order.description, total_fen=order.total_fen
            )

    def confirm(self, prepay: dict[str, Any], openid: str = "") -> str:
        """`wx.requestPayment` with the parameters the merchant signed, then pay.

        Returns "paid". Raises PhoneRefused when paySign does not verify with the merchant's public key,
        when the
        payer is somebody else, or when the order cannot be paid.
        """
        package = str(prepay.get("package", ""))
        with self._transaction():
            key = self._engine.state.by_prepay.get(package.removeprefix(_PACKAGE_PREFIX), "")
            order = self._engine.state.orders.get(key)
            if order is None or not package.startswith(_PACKAGE_PREFIX):
                raise PhoneRefused("prepay_id无效")
            self._check_pay_sign(order, prepay, package)
            self._check_prepay_age(order, package.removeprefix(_PACKAGE_PREFIX))
            return self._pay(order, openid)

    def pay(
        self, *, out_trade_no: str = "", prepay_id: str = "", code_url: str = "", openid: str = ""
    ) -> str:
        """Pay an order by any of its names, without a signed form; returns "paid", raises PhoneRefused."""
        with self._transaction():
            return self._pay(
                self.find(out_trade_no=out_trade_no, prepay_id=prepay_id, code_url=code_url), openid
            )

    def fail(self, out_trade_no: str) -> None:
        """Try to pay and fail: the prepaid order stays NOTPAY, the pay-by-code order ends as PAYERROR."""
        with self._transaction():
            self._engine.fail_payment(self.find(out_trade_no=out_trade_no))

    def enter_password(self, out_trade_no: str) -> str:
        """USERPAYING -> SUCCESS; raises PhoneRefused when nothing waits for a password."""
        with self._transaction():
            order = self.find(out_trade_no=out_trade_no)
            if order.trade_state is not TradeState.USERPAYING:
                raise PhoneRefused("没有等待输入密码的订单")
            self._engine.pay(order, order.openid)
            self._engine.state.unschedule("codepay", order.key)
            return "paid"

    def cancel(self, out_trade_no: str) -> None:
        """The payer closes the payment page; a waiting pay-by-code order ends as PAYERROR."""
        self.fail(out_trade_no)

    def find(self, *, out_trade_no: str = "", prepay_id: str = "", code_url: str = "") -> Order:
        """An order by one of its names; raises PhoneRefused."""
        state = self._engine.state
        if code_url:
            return self._by_code_url(code_url)
        key = state.by_prepay.get(prepay_id, "")
        candidates = [key] if prepay_id else [order_key(mchid, out_trade_no) for mchid in self._rings]
        for candidate in candidates:
            if candidate in state.orders:
                return self._engine.refresh(state.orders[candidate])
        raise PhoneRefused("订单不存在")

    def _by_code_url(self, code_url: str) -> Order:
        state = self._engine.state
        order = state.orders.get(state.by_code_url.get(code_url, ""))
        if order is None:
            raise PhoneRefused("二维码无效")
        shown_ms = next(at for url, at in order.code_urls if url == code_url)
        self._check_age(shown_ms)
        return self._engine.refresh(order)

    def _check_age(self, made_ms: int) -> None:
        if self._engine.now_ms() - made_ms >= self._engine.state.limits.prepay_ttl_s * 1000:
            raise PhoneRefused("支付会话已过期")

    def _check_prepay_age(self, order: Order, prepay_id: str) -> None:
        self._check_age(next(at for known, at in order.prepays if known == prepay_id))

    def _check_pay_sign(self, order: Order, prepay: dict[str, Any], package: str) -> None:
        if prepay.get("appId", order.appid) != order.appid:
            raise PhoneRefused("appId不一致")
        if prepay.get("signType", "RSA") != "RSA":
            raise PhoneRefused("签名类型错误")
        message = pay_sign_message(
            order.appid, str(prepay.get("timeStamp", "")), str(prepay.get("nonceStr", "")), package
        )
        if not verify(self._rings[order.mchid].merchant_public, message, str(prepay.get("paySign", ""))):
            raise PhoneRefused("支付验证签名失败")

    def _check_open(self, order: Order) -> None:
        if order.trade_state is TradeState.CLOSED or order.trade_state is TradeState.REVOKED:
            raise PhoneRefused("订单已关闭")
        if order.is_paid:
            raise PhoneRefused("订单已支付")
        if self._engine.now_ms() >= self._engine.expires_ms(order):
            raise PhoneRefused("订单已过期")

    def _pay(self, order: Order, openid: str) -> str:
        payer = openid or order.openid or DEFAULT_OPENID
        if order.openid and payer != order.openid:
            raise PhoneRefused("支付用户与下单用户不一致")
        if order.is_paid and order.openid == payer and not order.is_codepay:
            return "paid"  # the payer acted by rule before the page was shown
        self._check_open(order)
        if order.trade_state is not TradeState.NOTPAY:
            raise PhoneRefused("订单不能由手机支付")
        rule = payer_rule(payer)
        if rule.paying is Paying.NEVER:
            raise PhoneRefused("用户取消支付")
        if rule.paying is Paying.FAILS:
            self._engine.fail_payment(order)
            raise PhoneRefused("支付失败")
        self._engine.state.unschedule("pay", order.key)
        self._engine.pay(order, payer)
        return "paid"
