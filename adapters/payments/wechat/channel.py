"""WeChat Pay as a payment channel: JSAPI, Native and pay code of a direct merchant, each call a
closed outcome.

Whatever is not a signed, well-formed answer about this very trade is UNKNOWN, so the caller asks again.
"""

import secrets
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import structlog

from adapters.payments.wechat import outcomes
from adapters.payments.wechat.core import HardenedCore, HardenedWeChatPay, Reply
from adapters.payments.wechat.errors import WeChatPayError
from adapters.payments.wechat.orders import PATHS, OrderComposer
from contracts.payment import (
    AttemptRef,
    AttemptSpec,
    CloseOutcome,
    PaymentOutcome,
    RefundOutcome,
    RefundRequest,
)
from domain.payment import FOREIGN_CURRENCY, CloseKind, OutcomeKind, PayMethod, RefundKind

MAX_REASON = 80
MALFORMED = "MALFORMED"
"""Signed, but not what the protocol promises."""
MISMATCH = "MISMATCH"
"""Signed, but about another merchant, app or trade than the one asked for."""

_log = structlog.get_logger(__name__)


class WeChatChannel:
    """Implements `PaymentChannel` for WeChat Pay; thread-safe, keeps no state about trades."""

    name = "wechat"

    def __init__(self, *, core: HardenedCore, appid: str, notify_url: str, refund_notify_url: str) -> None:
        """Take the transport, the mini-program's appid and the two notification addresses (they differ)."""
        self._core = core
        self._appid = appid
        self._refund_notify_url = refund_notify_url
        self._library = HardenedWeChatPay(core=core, appid=appid, notify_url=notify_url)
        self._composer = OrderComposer(mchid=core.mchid, appid=appid, notify_url=notify_url)

    def prepare(self, spec: AttemptSpec) -> str:
        """Return the exact JSON of the order; raises ValueError for a spec that WeChat would never accept."""
        return self._composer.body(spec)

    def create(self, ref: AttemptRef) -> PaymentOutcome:
        """Place the order with the stored bytes; raises ValueError for another channel's method."""
        if ref.method not in PATHS:
            raise ValueError(f"not a WeChat method: {ref.method}")
        try:
            reply = self._core.send("POST", PATHS[ref.method], ref.request_body.encode())
        except WeChatPayError as error:
            return self._unproved(ref, error)
        if reply.signed and reply.status == 200:
            if ref.method is PayMethod.WECHAT_CODE:
                return self._transaction(ref, reply)
            return self._payable(ref, reply)
        return self._refused(ref, reply)

    def charge_code(self, ref: AttemptRef) -> PaymentOutcome:
        """Charge the scanned code in the stored bytes; raises ValueError for another method."""
        if ref.method is not PayMethod.WECHAT_CODE:
            raise ValueError(f"not a pay code: {ref.method}")
        return self.create(ref)

    def query(self, ref: AttemptRef) -> PaymentOutcome:
        """Ask for the trade. An error answer says nothing about it, except that it does not exist."""
        try:
            reply: Reply = self._library.query(out_trade_no=quote(ref.out_trade_no, safe=""))
        except WeChatPayError as error:
            return self._unproved(ref, error)
        if reply.signed and reply.status == 200:
            return self._transaction(ref, reply)
        refusal = outcomes.channel_error(reply)
        missing = reply.signed and refusal.code in outcomes.NOT_FOUND_CODES
        kind = OutcomeKind.NOT_FOUND if missing else OutcomeKind.UNKNOWN
        return self._outcome(ref, reply, kind, code=refusal.code, message=refusal.message)

    def close(self, ref: AttemptRef) -> CloseOutcome:
        """Close the order. A pay-code trade cannot be closed: MUST_REVERSE without a call."""
        if ref.method is PayMethod.WECHAT_CODE:
            return CloseOutcome(kind=CloseKind.MUST_REVERSE, out_trade_no=ref.out_trade_no)
        try:
            reply: Reply = self._library.close(quote(ref.out_trade_no, safe=""))
        except WeChatPayError as error:
            return _close_unproved(ref, error)
        if reply.signed and reply.status == 204:
            return _closed(ref, reply, CloseKind.CLOSED)
        refusal = outcomes.channel_error(reply)
        kind = outcomes.closed(refusal) if reply.signed else CloseKind.UNKNOWN
        return _closed(ref, reply, kind, refusal)

    def reverse(self, ref: AttemptRef) -> CloseOutcome:
        """Reverse a pay-code trade: closes it unpaid, returns the money when it was paid."""
        try:
            reply: Reply = self._library.codepay_reverse(quote(ref.out_trade_no, safe=""))
        except WeChatPayError as error:
            return _close_unproved(ref, error)
        if reply.signed and reply.status == 200:
            body = outcomes.payload(reply) or {}
            ours = body.get("out_trade_no") == ref.out_trade_no
            return _closed(ref, reply, CloseKind.CLOSED if ours else CloseKind.UNKNOWN)
        refusal = outcomes.channel_error(reply)
        known = outcomes.REVERSE_ERRORS.get(refusal.code, CloseKind.UNKNOWN)
        return _closed(ref, reply, known if reply.signed else CloseKind.UNKNOWN, refusal)

    def refund(self, request: RefundRequest) -> RefundOutcome:
        """Ask for a refund. The same number never pays twice: repeat UNKNOWN with the same request."""
        amount = {"refund": request.refund_fen, "total": request.total_fen, "currency": outcomes.CURRENCY}
        try:
            reply: Reply = self._library.refund(
                out_refund_no=request.out_refund_no,
                out_trade_no=request.out_trade_no,
                amount=amount,
                reason=request.reason[:MAX_REASON],
                notify_url=self._refund_notify_url,
            )
        except WeChatPayError as error:
            return _refund_unproved(request, error)
        if reply.signed and reply.status == 200:
            return _refunded(request, reply)
        refusal = outcomes.channel_error(reply)
        known = outcomes.REFUND_ERRORS.get(refusal.code, RefundKind.UNKNOWN)
        return _refund_error(request, reply, known if reply.signed else RefundKind.UNKNOWN, refusal)

    def query_refund(self, request: RefundRequest) -> RefundOutcome:
        """Ask for the refund. An error answer says nothing about it, except that it does not exist."""
        try:
            reply: Reply = self._library.query_refund(quote(request.out_refund_no, safe=""))
        except WeChatPayError as error:
            return _refund_unproved(request, error)
        if reply.signed and reply.status == 200:
            return _refunded(request, reply)
        refusal = outcomes.channel_error(reply)
        missing = reply.signed and refusal.code in outcomes.NOT_FOUND_CODES
        return _refund_error(request, reply, RefundKind.NOT_FOUND if missing else RefundKind.UNKNOWN, refusal)

    def _payable(self, ref: AttemptRef, reply: Reply) -> PaymentOutcome:
        """A placed order: what the phone or the QR code needs."""
        body = outcomes.payload(reply) or {}
        native = ref.method is PayMethod.WECHAT_NATIVE
        params = {"code_url": body.get("code_url")} if native else self._jsapi_params(body.get("prepay_id"))
        if not all(isinstance(value, str) and value for value in params.values()):
            return self._outcome(ref, reply, OutcomeKind.UNKNOWN, code=MALFORMED)
        return self._outcome(ref, reply, OutcomeKind.PENDING, client_params=params)

    def _jsapi_params(self, prepay_id: object) -> dict[str, Any]:
        """Return the arguments of `wx.requestPayment`, signed by the merchant (paySign)."""
        if not isinstance(prepay_id, str) or not prepay_id:
            return {"package": ""}
        stamp, nonce = str(self._core.clock()), secrets.token_hex(16)
        package = f"prepay_id={prepay_id}"
        return {
            "appId": self._appid,
            "timeStamp": stamp,
            "nonceStr": nonce,
            "package": package,
            "signType": "RSA",
            "paySign": self._library.sign([self._appid, stamp, nonce, package]),
        }

    def _transaction(self, ref: AttemptRef, reply: Reply) -> PaymentOutcome:
        """Map a transaction object. Compare `amount_fen` (total), never the payer's part, with the order."""
        body = outcomes.payload(reply) or {}
        state = body.get("trade_state")
        kind = outcomes.STATES.get(state) if isinstance(state, str) else None
        if kind is None or not isinstance(state, str):
            return self._outcome(ref, reply, OutcomeKind.UNKNOWN, code=MALFORMED)
        asked = (ref.out_trade_no, self._core.mchid, self._appid)
        if (body.get("out_trade_no"), body.get("mchid"), body.get("appid")) != asked:
            _log.error("wechat.transaction.mismatch", out_trade_no=ref.out_trade_no)
            return self._outcome(ref, reply, OutcomeKind.UNKNOWN, code=MISMATCH)
        if kind is OutcomeKind.SUCCEEDED:
            return self._paid(ref, reply, body, state)
        desc = str(body.get("trade_state_desc", ""))
        return self._outcome(
            ref,
            reply,
            kind,
            trade_state=state,
            message=desc,
            new_attempt_allowed=kind is OutcomeKind.FAILED,
        )

    def _paid(self, ref: AttemptRef, reply: Reply, body: dict[str, Any], state: str) -> PaymentOutcome:
        amount, number = body.get("amount"), body.get("transaction_id")
        total, paid_at = outcomes.fen(amount, "total"), _time(body.get("success_time"))
        payer_total = outcomes.fen(amount, "payer_total")
        if total is None or paid_at is None or not isinstance(number, str) or not number:
            return self._outcome(ref, reply, OutcomeKind.UNKNOWN, code=MALFORMED)
        paid: dict[str, Any] = {"trade_state": state, "transaction_id": number, "paid_at": paid_at}
        if currency := outcomes.foreign_currency(amount):
            # Definite, so that it is recorded and shown to a person; in fen it is nothing that we know.
            _log.error("wechat.transaction.currency", out_trade_no=ref.out_trade_no, currency=currency)
            paid |= {"code": FOREIGN_CURRENCY, "message": f"{total} {currency}"}
        else:
            paid |= {"amount_fen": total, "payer_amount_fen": total if payer_total is None else payer_total}
        return self._outcome(ref, reply, OutcomeKind.SUCCEEDED, **paid)

    def _refused(self, ref: AttemptRef, reply: Reply) -> PaymentOutcome:
        """Map an error of a create or charge; an unsigned one may come from any box on the way."""
        refusal = outcomes.channel_error(reply)
        kind, again = outcomes.created(refusal) if reply.signed else (OutcomeKind.UNKNOWN, False)
        if refusal.errno == outcomes.ERRNO_REENTRY_DIFFERS:
            _log.error("wechat.create.parameters_differ", out_trade_no=ref.out_trade_no)
        return self._outcome(
            ref,
            reply,
            kind,
            code=refusal.code,
            message=refusal.message,
            trade_state=refusal.code if kind is OutcomeKind.PENDING else "",
            new_attempt_allowed=again,
        )

    def _outcome(self, ref: AttemptRef, reply: Reply, kind: OutcomeKind, **more: Any) -> PaymentOutcome:
        return PaymentOutcome(
            kind=kind,
            out_trade_no=ref.out_trade_no,
            request_id=reply.request_id,
            http_status=reply.status,
            signed=reply.signed,
            **more,
        )

    @staticmethod
    def _unproved(ref: AttemptRef, error: WeChatPayError) -> PaymentOutcome:
        return PaymentOutcome(
            kind=OutcomeKind.UNKNOWN,
            out_trade_no=ref.out_trade_no,
            code=error.code,
            message=str(error),
            request_id=error.request_id,
            http_status=error.http_status,
        )


def _time(value: object) -> datetime | None:
    """Parse an RFC 3339 time into UTC, None when it is not one."""
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    return moment.astimezone(UTC) if moment.tzinfo is not None else None


def _closed(
    ref: AttemptRef, reply: Reply, kind: CloseKind, error: outcomes.ChannelError | None = None
) -> CloseOutcome:
    return CloseOutcome(
        kind=kind,
        out_trade_no=ref.out_trade_no,
        code=error.code if error else "",
        message=error.message if error else "",
        request_id=reply.request_id,
    )


def _close_unproved(ref: AttemptRef, error: WeChatPayError) -> CloseOutcome:
    return CloseOutcome(
        kind=CloseKind.UNKNOWN,
        out_trade_no=ref.out_trade_no,
        code=error.code,
        message=str(error),
        request_id=error.request_id,
    )


def _refunded(request: RefundRequest, reply: Reply) -> RefundOutcome:
    """Map a refund object; one about another refund or amount is UNKNOWN and shouts."""
    body = outcomes.payload(reply) or {}
    status, number = body.get("status"), body.get("refund_id")
    kind = outcomes.REFUND_STATES.get(status) if isinstance(status, str) else None
    amount = outcomes.fen(body.get("amount"), "refund")
    if kind is None or amount is None or not isinstance(number, str):
        unread = outcomes.ChannelError(code=MALFORMED, message="", errno=0)
        return _refund_error(request, reply, RefundKind.UNKNOWN, unread)
    foreign = outcomes.foreign_currency(body.get("amount"))
    if body.get("out_refund_no") != request.out_refund_no or amount != request.refund_fen or foreign:
        _log.error("wechat.refund.mismatch", out_refund_no=request.out_refund_no)
        other = outcomes.ChannelError(code=MISMATCH, message="", errno=0)
        return _refund_error(request, reply, RefundKind.UNKNOWN, other)
    return RefundOutcome(
        kind=kind,
        out_refund_no=request.out_refund_no,
        amount_fen=amount,
        refund_id=number,
        code=str(status),
        request_id=reply.request_id,
    )


def _refund_error(
    request: RefundRequest, reply: Reply, kind: RefundKind, error: outcomes.ChannelError
) -> RefundOutcome:
    return RefundOutcome(
        kind=kind,
        out_refund_no=request.out_refund_no,
        code=error.code,
        message=error.message,
        request_id=reply.request_id,
    )


def _refund_unproved(request: RefundRequest, error: WeChatPayError) -> RefundOutcome:
    return RefundOutcome(
        kind=RefundKind.UNKNOWN,
        out_refund_no=request.out_refund_no,
        code=error.code,
        message=str(error),
        request_id=error.request_id,
    )
