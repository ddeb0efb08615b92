"""Rows as activities see them: frozen, with domain types; repositories translate. Amounts in fen."""

from dataclasses import dataclass
from datetime import datetime

from domain.order import FillMode, OrderStatus
from domain.payment import AttemptStatus, PayMethod


@dataclass(frozen=True, slots=True, kw_only=True)
class NozzleQuote:
    """A nozzle with everything a quote needs, in one look-up; the price is the one in force."""

    operator_id: int
    operator_code: str
    station_id: int
    station_code: str
    station_name: str
    station_open: bool
    gateway_shard: int
    station_seen_at: datetime | None
    fuelling_point_id: int
    node: int
    fp: int
    nozzle_id: int
    nozzle_no: int
    device_nozzle: int
    nozzle_open: bool
    prepaid_allowed: bool
    unit: str
    product_id: int
    product_name: str
    product_kind: str
    tax_rate_bp: int
    platform_priced: bool
    price_fen_per_unit: int
    price_version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderRecord:
    """An order row with the fields that a transaction changes."""

    order_no: str
    operator_id: int
    station_id: int
    fuelling_point_id: int
    nozzle_id: int
    product_id: int
    driver_id: int | None
    cashier_id: int | None
    terminal_id: int | None
    mode: FillMode
    status: OrderStatus
    unit: str
    price_fen_per_unit: int
    price_version: int
    preset_fen: int
    paid_fen: int
    paid_by: str | None
    charge_fen: int
    quantity_milli: int
    refunded_fen: int
    surplus_fen: int
    shortfall_fen: int
    needs_person: str
    end_reason: str
    body_hash: str
    created_at: datetime
    updated_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderPlace:
    """Where an order happens, by names; constant for the order's life."""

    operator_code: str
    station_code: str
    station_name: str
    gateway_shard: int
    node: int
    fp: int
    nozzle_no: int
    device_nozzle: int
    product_name: str
    product_kind: str
    tax_rate_bp: int
    platform_priced: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRecord:
    """A payment attempt row."""

    out_trade_no: str
    order_no: str
    number: int
    command_id: str
    method: PayMethod
    screen: str
    cashier_id: int | None
    driver_id: int | None
    amount_fen: int
    status: AttemptStatus
    request_body: str
    client_params: str
    transaction_id: str
    payer_fen: int
    code: str
    created_at: datetime
    paid_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RefundRecord:
    """A refund row."""

    out_refund_no: str
    out_trade_no: str
    order_no: str
    amount_fen: int
    status: str
    reason: str
    refund_id: str
    code: str
    created_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SaleRow:
    """A sale row: what the device said and what the platform computed."""

    natural_key: str
    order_no: str
    station_id: int
    fuelling_point_id: int
    nozzle_id: int
    sequence: int
    unit: str
    quantity_milli: int
    amount_fen: int
    platform_fen: int
    price_fen_per_unit: int
    totaliser_before_milli: int | None
    totaliser_after_milli: int | None
    end_reason: str
    flag: str
    offline: bool
    device_time: datetime | None
    recorded_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRecord:
    """One line of an order's story; `key` is derived from the step."""

    order_no: str
    key: str
    at: datetime
    kind: str
    status: OrderStatus
    actor: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptRecord:
    """The voucher of a completed order; the body is JSON."""

    receipt_no: str
    order_no: str
    issued_at: datetime
    body: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxRecord:
    """A message that a customer is owed; the body is JSON."""

    key: str
    kind: str
    order_no: str
    driver_id: int | None
    body: str
    at: datetime
