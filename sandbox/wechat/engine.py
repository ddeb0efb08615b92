"""What happens to money: payments, reversals, refunds, closings, and everything that becomes due later."""

from __future__ import annotations

from collections.abc import Callable

from sandbox.wechat import ledger, payloads
from sandbox.wechat.clock import rfc3339
from sandbox.wechat.model import Order, Refund, order_key
from sandbox.wechat.notify import Notifications
from sandbox.wechat.rules import COUPON_FEN, PayerRule, Paying, Telling, payer_rule
from sandbox.wechat.state import State
from sandbox.wechat.states import Product, RefundState, TradeState

DAY_MS = 86_400_000


class Engine:
    """Transitions of orders and refunds. The world's lock is held by every caller."""

    def __init__(self, state: State, notifications: Notifications) -> None:
        self.state = state
        self.notifications = notifications
        self._actions: dict[str, Callable[[str, str], None]] = {
            "notify": lambda ref, _: notifications.due(ref),
            "pay": self._pay_due,
            "codepay": self._codepay_due,
            "refund": self._refund_due,
        }

    def now_ms(self) -> int:
        """Sandbox time."""
        return self.state.clock.now_ms()

    def run_due(self) -> int:
        """Run every timer that is due, in order; returns how many."""
        done = 0
        while (timer := self.state.pop_due()) is not None:
            self._actions[timer.action](timer.ref, timer.argument)
            done += 1
        return done

    def refresh(self, order: Order) -> Order:
        """Close an order that nobody paid for seven days; looked at when the order is touched."""
        age_ms = self.now_ms() - order.created_ms
        if order.trade_state is TradeState.NOTPAY and age_ms >= self.state.limits.unpaid_close_days * DAY_MS:
            self.close(order)
        return order

    # --- payment ----------------------------------------------------------------------------------

    def expires_ms(self, order: Order) -> int:
        """Last moment a payer can pay a prepaid order."""
        return order.expire_ms or order.created_ms + self.state.limits.prepay_ttl_s * 1000

    def apply_payer_rule(self, order: Order, rule: PayerRule) -> str:
        """Let the payer of a fresh order act by itself.

        Returns a notification that must arrive before the answer.
        """
        now = self.now_ms()
        if rule.paying is Paying.AT_ONCE:
            notify_id = self.pay(order, order.openid)
            return notify_id if rule.telling is Telling.BEFORE_ANSWER else ""
        if rule.paying is Paying.LATER:
            self.state.schedule("pay", order.key, now + rule.after_s * 1000)
        elif rule.paying is Paying.BEFORE_EXPIRY:
            self.state.schedule("pay", order.key, self.expires_ms(order) - 1000)
        elif rule.paying is Paying.FAILS:
            self.state.event("pay.failed", order.out_trade_no)
        return ""

    def _pay_due(self, ref: str, _: str) -> None:
        order = self.state.orders[ref]
        if order.trade_state is TradeState.NOTPAY:
            self.pay(order, order.openid)

    def pay(self, order: Order, openid: str) -> str:
        """Take the payer's money.

        Returns the id of the notification, "" when none is sent. Raises IllegalMove.
        """
        now = self.now_ms()
        order.move(TradeState.SUCCESS, now)
        rule = payer_rule(openid)
        coupon_fen = min(COUPON_FEN, order.total_fen) if order.coupon or rule.coupon else 0
        order.openid = openid
        order.success_ms = now
        order.payer_total_fen = order.total_fen - coupon_fen
        order.transaction_id = f"42000{rfc3339(now)[:10].replace('-', '')}{self.state.number():015d}"
        legs = {
            f"merchant:{order.mchid}": order.total_fen,
            f"payer:{openid}": -order.payer_total_fen,
            ledger.COUPONS: -coupon_fen,
        }
        self.state.book(ledger.PAY, f"pay:{order.transaction_id}", order, legs)
        self.state.touch_order(order)
        self.state.event("order.paid", order.out_trade_no, total_fen=order.total_fen)
        if order.product == Product.MICROPAY:
            return ""  # pay-by-code is answered, never notified
        notify = self.notifications.announce(
            mchid=order.mchid,
            url=order.notify_url,
            event_type="TRANSACTION.SUCCESS",
            summary="支付成功",
            otn=order.out_trade_no,
            resource=payloads.transaction(order),
            telling=rule.telling,
        )
        return notify.id if notify else ""

    def fail_payment(self, order: Order) -> None:
        """The payer tried and failed: a prepaid order stays open, a pay-by-code order ends as PAYERROR."""
        if order.trade_state is TradeState.USERPAYING:
            order.move(TradeState.PAYERROR, self.now_ms())
            self.state.touch_order(order)
        self.state.event("pay.failed", order.out_trade_no)

    def close(self, order: Order) -> None:
        """NOTPAY -> CLOSED."""
        order.move(TradeState.CLOSED, self.now_ms())
        self.state.unschedule("pay", order.key)
        self.state.touch_order(order)
        self.state.event("order.closed", order.out_trade_no)

    def _codepay_due(self, ref: str, ends: str) -> None:
        order = self.state.orders[ref]
        if order.trade_state is not TradeState.USERPAYING:
            return
        if ends == TradeState.SUCCESS:
            self.pay(order, order.openid)
        elif ends == TradeState.PAYERROR:
            self.fail_payment(order)
        else:
            self.revoke(order)

    def revoke(self, order: Order) -> None:
        """Reverse a pay-by-code order; money that was taken goes back at once."""
        paid = order.is_paid
        order.move(TradeState.REVOKED, self.now_ms())
        if paid:
            legs = {
                f"merchant:{order.mchid}": -order.total_fen,
                f"payer:{order.openid}": order.payer_total_fen,
                ledger.COUPONS: order.total_fen - order.payer_total_fen,
            }
            self.state.book(ledger.REVERSE, f"reverse:{order.transaction_id}", order, legs)
        self.state.unschedule("codepay", order.key)
        self.state.touch_order(order)
        self.state.event("order.revoked", order.out_trade_no, returned_fen=order.total_fen if paid else 0)

    # --- refunds ----------------------------------------------------------------------------------

    def refunds_of(self, order: Order) -> list[Refund]:
        """All refunds of an order, oldest first."""
        return [self.state.refunds[order_key(order.mchid, number)] for number in order.refund_nos]

    def refunded_fen(self, order: Order) -> int:
        """Accepted refunds that are not CLOSED; no further refund may take the sum above the order."""
        return sum(r.refund_fen for r in self.refunds_of(order) if r.refund_state is not RefundState.CLOSED)

    def payer_share(self, order: Order, refund_fen: int) -> int:
        """The payer's part of a refund; shares of all refunds of an order add up to what the payer paid."""
        live = [r for r in self.refunds_of(order) if r.refund_state is not RefundState.CLOSED]
        refunded = sum(r.refund_fen for r in live) + refund_fen
        share = order.payer_total_fen * refunded // order.total_fen - sum(r.payer_refund_fen for r in live)
        return max(0, min(share, refund_fen))  # a CLOSED refund in between may leave a rounding fen behind

    def accept_refund(self, order: Order, refund: Refund, settle_s: int) -> None:
        """Take the money out of the merchant's account and plan the outcome."""
        now = self.now_ms()
        refund.history.append([refund.state, now])
        legs = {f"merchant:{order.mchid}": -refund.refund_fen, ledger.IN_TRANSIT: refund.refund_fen}
        self.state.book(ledger.REFUND_ACCEPTED, f"refund:{refund.refund_id}", order, legs)
        order.refund_nos.append(refund.out_refund_no)
        order.last_refund_ms = now
        if order.trade_state is TradeState.SUCCESS:
            order.move(TradeState.REFUND, now)
        self.state.touch_order(order)
        self.state.touch_refund(refund)
        self.state.event(
            "refund.accepted", order.out_trade_no, no=refund.out_refund_no, fen=refund.refund_fen
        )
        self.state.schedule("refund", refund.key, now + settle_s * 1000, refund.planned)

    def _refund_due(self, ref: str, outcome: str) -> None:
        refund = self.state.refunds[ref]
        if refund.refund_state is RefundState.PROCESSING:
            self.settle_refund(refund, RefundState(outcome))

    def settle_refund(self, refund: Refund, outcome: RefundState) -> None:
        """PROCESSING (or ABNORMAL) -> outcome, with its money and its notification. Raises IllegalMove."""
        now = self.now_ms()
        order = self.state.orders[order_key(refund.mchid, refund.out_trade_no)]
        refund.move(outcome, now)
        if outcome is RefundState.SUCCESS:
            refund.success_ms = now
            legs = {
                ledger.IN_TRANSIT: -refund.refund_fen,
                f"payer:{order.openid}": refund.payer_refund_fen,
                ledger.COUPONS: refund.refund_fen - refund.payer_refund_fen,
            }
            self.state.book(ledger.REFUND_DONE, f"refund-done:{refund.refund_id}", order, legs)
        elif outcome is RefundState.CLOSED:
            legs = {ledger.IN_TRANSIT: -refund.refund_fen, f"merchant:{order.mchid}": refund.refund_fen}
            self.state.book(ledger.REFUND_CLOSED, f"refund-closed:{refund.refund_id}", order, legs)
        self.state.unschedule("refund", refund.key)
        self.state.touch_refund(refund)
        self.state.event("refund.settled", refund.out_trade_no, no=refund.out_refund_no, status=outcome.value)
        if outcome is not RefundState.PROCESSING:
            self._announce_refund(refund, order)

    def _announce_refund(self, refund: Refund, order: Order) -> None:
        self.notifications.announce(
            mchid=refund.mchid,
            url=refund.notify_url,
            event_type=f"REFUND.{refund.state}",
            summary={"SUCCESS": "退款成功", "ABNORMAL": "退款异常"}.get(refund.state, "退款关闭"),
            otn=refund.out_trade_no,
            resource=payloads.refund_notice(refund, order),
            telling=Telling.TWICE_MORE if refund.duplicate_notice else Telling.NORMAL,
        )

    # --- checks -----------------------------------------------------------------------------------

    def invariants(self) -> list[str]:
        """Every disagreement between states and money; an empty list is a sound world."""
        found = self.state.ledger.violations()
        for order in self.state.orders.values():
            found += self._order_violations(order)
        return found

    def _order_violations(self, order: Order) -> list[str]:
        money = self.state.ledger.orders[order.key]
        refunds = self.refunds_of(order)
        done = sum(r.refund_fen for r in refunds if r.refund_state is RefundState.SUCCESS)
        open_fen = sum(
            r.refund_fen for r in refunds if r.refund_state in (RefundState.PROCESSING, RefundState.ABNORMAL)
        )
        expected_paid = order.total_fen if order.transaction_id else 0
        revoked = order.trade_state is TradeState.REVOKED
        checks = {
            "paid": money.paid_fen == expected_paid,
            "state": order.is_paid == bool(order.transaction_id) or (revoked and bool(order.transaction_id)),
            "refunded": money.refunded_fen == (expected_paid if revoked else done),
            "in transit": money.in_transit_fen == open_fen,
            "refunds above total": self.refunded_fen(order) <= order.total_fen,
            "refund state": bool(refunds) == (order.trade_state is TradeState.REFUND),
        }
        return [f"{order.key} ({order.state}): {name}" for name, sound in checks.items() if not sound]
