"""The floors: one empty workflow, and the product's own FillAndPay with empty activity bodies.

The same workflow class, the same converter, codec, sandbox and options; only the bodies do nothing but build the
answer. So `fill_and_pay / same_shape` is the price of databases, channels, sockets and signatures, nothing else.
"""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from temporalio import activity, workflow

from contracts import names
from contracts.fill import StartAnswer, StartOutcome
from contracts.orders import (
    BeginAttempt,
    BegunAttempt,
    OpenedOrder,
    OpenedSale,
    OpenOrder,
    OpenSale,
    OrderView,
    OwedRefund,
    PostedPayment,
    PostPayment,
    PostVerdict,
    RecordAuthorised,
    RecordRefund,
    SettledSale,
    SettleSale,
)
from contracts.payment import AttemptRef, PaymentOutcome, RefundOutcome, RefundRequest
from contracts.station import AuthoriseCommand, CommandResult, CommandState, EndReason, SaleRecord
from domain import ids
from domain.order import FillMode, OrderStatus
from domain.payment import OutcomeKind, PayMethod, RefundKind
from domain.quantity import Unit

EMPTY = "BenchEmpty"
EMPTY_QUEUE = "bench-empty"
SHAPE_QUEUE = "bench-shape"
SHAPE_SHARD = 99
DUE_FEN = 20_000
CHARGE_FEN = 14_700
_FILL_S = 0.15
_reports: set[asyncio.Task[None]] = set()
"""Keeps the reports alive until they are sent."""


@workflow.defn(name=EMPTY)
class Empty:
    """A workflow that does nothing: start, one task, close."""

    @workflow.run
    async def run(self) -> None:
        """Do nothing."""


def _view(order_no: str, mode: FillMode, status: OrderStatus, **amounts: int) -> OrderView:
    zero = OrderView(
        order_no=order_no,
        mode=mode,
        status=status,
        operator_code="OP001",
        station_code="ST001",
        nozzle_no=1,
        product_name="92号汽油",
        unit="L",
        due_fen=DUE_FEN,
        paid_fen=0,
        charge_fen=0,
        refunded_fen=0,
        shortfall_fen=0,
        price_fen_per_unit=735,
        gateway_shard=SHAPE_SHARD,
        node=1,
        fp=0x21,
        device_nozzle=1,
    )
    return replace(zero, **amounts)  # type: ignore[arg-type]


def _prepaid(order_no: str, status: OrderStatus, **amounts: int) -> OrderView:
    return _view(order_no, FillMode.PREPAID, status, **amounts)


def _ref(order_no: str) -> AttemptRef:
    return AttemptRef(
        out_trade_no=ids.out_trade_no(order_no, 1),
        method=PayMethod.WECHAT_JSAPI,
        amount_fen=DUE_FEN,
        request_body="x" * 420,
    )


@activity.defn(name=names.ACT_OPEN_ORDER)
def open_order(request: OpenOrder) -> OpenedOrder:
    """Open nothing."""
    no = request.start.order_no
    answer = StartAnswer(outcome=StartOutcome.ACCEPTED, order_no=no, amount_fen=DUE_FEN)
    return OpenedOrder(answer=answer, view=_prepaid(no, OrderStatus.AWAITING_PAYMENT), attempt=_ref(no))


@activity.defn(name=names.ACT_OPEN_SALE)
def open_sale(request: OpenSale) -> OpenedSale:
    """Store nothing."""
    view = _view(request.order_no, FillMode.POSTPAID, OrderStatus.UNPAID, charge_fen=CHARGE_FEN)
    return OpenedSale(view=view)


@activity.defn(name=names.ACT_BEGIN_ATTEMPT)
def begin_attempt(request: BeginAttempt) -> BegunAttempt:
    """Begin nothing."""
    view = _view(request.order_no, FillMode.POSTPAID, OrderStatus.UNPAID, charge_fen=CHARGE_FEN)
    return BegunAttempt(view=view, attempt=_ref(request.order_no))


@activity.defn(name=names.ACT_CREATE_PAYMENT)
def create_payment(ref: AttemptRef) -> PaymentOutcome:
    """Place nothing."""
    params = {"paySign": "s" * 344, "package": f"prepay_id={ref.out_trade_no}"}
    return PaymentOutcome(kind=OutcomeKind.PENDING, out_trade_no=ref.out_trade_no, client_params=params)


@activity.defn(name=names.ACT_QUERY_PAYMENT)
def query_payment(ref: AttemptRef) -> PaymentOutcome:
    """Ask nobody."""
    return PaymentOutcome(
        kind=OutcomeKind.SUCCEEDED, out_trade_no=ref.out_trade_no, amount_fen=ref.amount_fen
    )


@activity.defn(name=names.ACT_POST_PAYMENT)
def post_payment(request: PostPayment) -> PostedPayment:
    """Post nothing."""
    prepaid = request.order_no.startswith("P")
    if prepaid:
        view = _prepaid(request.order_no, OrderStatus.PAID, paid_fen=DUE_FEN)
    else:
        view = _view(request.order_no, FillMode.POSTPAID, OrderStatus.COMPLETED, paid_fen=CHARGE_FEN)
    return PostedPayment(view=view, verdict=PostVerdict.ACCEPTED)


@activity.defn(name=names.ACT_RECORD_AUTHORISED)
def record_authorised(request: RecordAuthorised) -> OrderView:
    """Keep nothing."""
    return _prepaid(request.order_no, OrderStatus.AUTHORISED, paid_fen=DUE_FEN)


@activity.defn(name=names.ACT_SETTLE_SALE)
def settle_sale(request: SettleSale) -> SettledSale:
    """Settle nothing; the rest goes back unless the whole preset was used."""
    charge = request.sale.amount_fen
    if charge == DUE_FEN:
        view = _prepaid(request.order_no, OrderStatus.COMPLETED, paid_fen=DUE_FEN, charge_fen=charge)
        return SettledSale(view=view)
    number = ids.out_trade_no(request.order_no, 1)
    refund = RefundRequest(
        method=PayMethod.WECHAT_JSAPI,
        out_trade_no=number,
        out_refund_no=ids.out_refund_no(number, "rest"),
        refund_fen=DUE_FEN - charge,
        total_fen=DUE_FEN,
        reason="rest",
    )
    view = _prepaid(request.order_no, OrderStatus.DISPENSED, paid_fen=DUE_FEN, charge_fen=charge)
    return SettledSale(view=view, refund=refund)


@activity.defn(name=names.ACT_REFUND_PAYMENT)
def refund_payment(request: RefundRequest) -> RefundOutcome:
    """Refund nothing."""
    return RefundOutcome(kind=RefundKind.SUCCEEDED, out_refund_no=request.out_refund_no)


@activity.defn(name=names.ACT_RECORD_REFUND)
def record_refund(request: RecordRefund) -> OwedRefund:
    """Keep nothing."""
    return OwedRefund(view=_prepaid(request.order_no, OrderStatus.COMPLETED, paid_fen=DUE_FEN))


@activity.defn(name=names.ACT_AUTHORISE_DISPENSER)
async def authorise_dispenser(command: AuthoriseCommand) -> CommandResult:
    """Release nothing; a moment later report the sale, as the gateway server would."""
    task = asyncio.create_task(_report_sale(command.order_no))
    _reports.add(task)
    task.add_done_callback(_reports.discard)
    return CommandResult(
        command_id=command.command_id, order_no=command.order_no, state=CommandState.ACCEPTED
    )


async def _report_sale(order_no: str) -> None:
    client = activity.client()
    await asyncio.sleep(_FILL_S)
    handle = client.get_workflow_handle(ids.fill_workflow_id(order_no))
    await handle.signal(names.SIGNAL_FILL_COMPLETED, sale_of(order_no, DUE_FEN))


def sale_of(order_no: str | None, amount_fen: int, key: str = "") -> SaleRecord:
    """Return a sale of a realistic size."""
    return SaleRecord(
        natural_key=f"ST001-1-21-{order_no or key}",
        station_code="ST001",
        node=1,
        fp=0x21,
        nozzle=1,
        sequence=1,
        unit=Unit.LITRE,
        quantity_milli=20_000,
        amount_fen=amount_fen,
        price_fen_per_unit=735,
        end_reason=EndReason.NORMAL,
        recorded_at=datetime.now(tz=UTC),
        order_no=order_no,
        totaliser_before_milli=1,
        totaliser_after_milli=2,
    )


FILL_BODIES: list[Any] = [
    open_order,
    open_sale,
    begin_attempt,
    create_payment,
    query_payment,
    post_payment,
    record_authorised,
    settle_sale,
    refund_payment,
    record_refund,
]
GATEWAY_BODIES: list[Any] = [authorise_dispenser]
