"""Bodies about orders and payments."""

from datetime import datetime
from typing import Any

from pydantic import Field, SecretStr

from api.approval import Approver
from api.schemas.common import (
    MOST_REFUNDS,
    Answer,
    Body,
    Fen,
    NozzleNo,
    PositiveFen,
    Reason,
    RefundNo,
    StationCode,
)
from contracts.fill import PayState, ResolveAction
from domain.payment import PayMethod


class QuoteBody(Body):
    """What a driver wants to know the price of."""

    station_code: StationCode
    nozzle_no: NozzleNo
    amount_fen: PositiveFen = Field(examples=[20000])


class QuoteOut(Answer):
    """A price to confirm; send both price fields back with the start."""

    station_code: str
    nozzle_no: int
    product_name: str
    unit: str
    amount_fen: int
    price_fen_per_unit: int
    price_version: int
    estimated_quantity_milli: int = Field(description="thousandths of the unit", examples=[25477])


class StartBody(QuoteBody):
    """A prepaid start with the price that the customer saw."""

    price_fen_per_unit: PositiveFen = Field(examples=[785])
    price_version: int = Field(strict=True, ge=0, le=1_000_000_000, examples=[4])
    method: PayMethod = Field(examples=[PayMethod.WECHAT_JSAPI])


class PayOut(Answer):
    """How a payment stands. `client_params` are for `wx.requestPayment` or hold the `code_url` of a QR code."""

    state: PayState
    out_trade_no: str = ""
    method: PayMethod | None = None
    amount_fen: int = 0
    client_params: dict[str, str] = Field(default_factory=dict)
    code: str = ""
    message: str = ""


class StartOut(Answer):
    """An accepted start."""

    order_no: str
    amount_fen: int
    price_fen_per_unit: int
    price_version: int
    pay: PayOut | None = None


class PayBody(Body):
    """Pay an order. `auth_code` is the customer's scanned pay code (付款码), only with `wechat_code`."""

    method: PayMethod = Field(examples=[PayMethod.WECHAT_NATIVE])
    auth_code: str | None = Field(default=None, pattern=r"^1[0-5][0-9]{16}$", examples=["134567890123456789"])


class CashBody(Body):
    """Cash taken at the counter: exactly what is due."""

    received_fen: PositiveFen = Field(examples=[20000])


class ApproverBody(Body):
    """Login and password of the person who approves; never stored, logged or hashed into an idempotency record."""

    login: str = Field(min_length=1, max_length=64, examples=["manager1"])
    password: SecretStr = Field(min_length=1, max_length=128, examples=["correct horse battery"])


class CancelBody(Body):
    """Why an order is cancelled.

    A cashier who cancels fuel that was delivered and not paid adds the `approver`: a manager of the station, or an
    operator or admin above it. Everybody else leaves it out.
    """

    reason: Reason
    approver: ApproverBody | None = Field(
        default=None, examples=[{"login": "manager1", "password": "correct horse battery"}]
    )

    def approved_by(self) -> Approver | None:
        """Return who is to approve."""
        if self.approver is None:
            return None
        return Approver(login=self.approver.login, password=self.approver.password.get_secret_value())


class ResolveBody(Body):
    """A person's decision about what the order asks for (`needs_person`).

    Which action fits which need: `charge_device_amount`, `charge_amount` a sale in question (`amount_mismatch`,
    `price_mismatch`, `synthesised`, `unexpected`, `unit_mismatch`, `zero_amount`, `out_of_range`, `sale_key_taken`);
    `collect_cash`, `write_off` a `shortfall`; `cash_returned` a `return_cash`, `refund_closed` or `refund_rejected`;
    `retry_refund` any `refund_...` that stands still; `release_held` a `payment_amount_mismatch`;
    `nothing_dispensed` a `dispenser_unanswered` or `fill_not_reported`. When the order asks for something else by
    now, nothing is done (409 `changed`); when it waits for no such decision, 409 `not_waiting`.
    """

    action: ResolveAction = Field(examples=[ResolveAction.CASH_RETURNED])
    note: Reason
    amount_fen: Fen | None = Field(
        default=None,
        description="fen; required for `charge_amount`: the charge; and for `cash_returned`: what was counted out, the"
        " order's `asked_fen`; refused for every other action",
        examples=[2950],
    )
    need: str = Field(
        default="",
        max_length=64,
        pattern=r"^[a-z_]*$",
        description="the order's `needs_person` as the person saw it; required for `cash_returned`",
        examples=["return_cash"],
    )
    refund_nos: list[RefundNo] = Field(
        default=[],
        max_length=MOST_REFUNDS,
        description="required for `cash_returned`: the `out_refund_no` of each of the order's `asked_refunds`, whose sum is"
        " `amount_fen`; these are settled and no other, all of them or none",
    )


class CommandOut(Answer):
    """A command that was carried out."""

    ok: bool
    status: str | None = None
    status_text: str = ""
    code: str = ""
    message: str = ""


class AskedRefundOut(Answer):
    """A refund that a person decides about; amount in fen."""

    out_refund_no: str
    amount_fen: int


class OrderOut(Answer):
    """An order. Amounts in fen, quantity in thousandths of the unit; hand `version` back to wait for a change."""

    order_no: str
    version: int = Field(examples=[1763800000000000])
    station_code: str
    station_name: str
    nozzle_no: int
    product_name: str
    mode: str = Field(examples=["prepaid"])
    status: str = Field(examples=["authorised"])
    status_text: str = Field(examples=["请提枪加注"])
    is_final: bool
    unit: str
    price_fen_per_unit: int
    price_version: int
    preset_fen: int
    due_fen: int = Field(description="what is to be paid now")
    paid_fen: int
    paid_method: str | None = None
    paid_text: str = Field(default="", examples=["微信支付"])
    charge_fen: int
    quantity_milli: int
    quantity_text: str = Field(examples=["25.47 升"])
    refunded_fen: int
    surplus_fen: int
    shortfall_fen: int
    end_reason: str = ""
    needs_person: str = Field(
        default="",
        description="why a person has to decide (staff only; empty: nobody has to); operations.md lists the reasons",
        examples=["return_cash"],
    )
    asked_fen: int | None = Field(
        default=None, description="what a person is to decide about, collect or hand back", examples=[2950]
    )
    asked_refunds: list[AskedRefundOut] = Field(
        default=[], description="the refunds that `asked_fen` is the sum of"
    )
    notice: str = Field(default="", examples=["已由其他终端支付"])
    created_at: datetime
    updated_at: datetime
    ended_at: datetime | None = None


class OrdersOut(Answer):
    """A page of orders, newest first; `next_cursor` is empty on the last page."""

    orders: list[OrderOut]
    next_cursor: str = ""


class StoryLineOut(Answer):
    """One line of an order's story."""

    at: datetime
    kind: str
    status: str
    actor: str
    detail: str


class ReceiptOut(Answer):
    """The electronic voucher; `content` is what is printed."""

    receipt_no: str
    order_no: str
    issued_at: datetime
    content: dict[str, Any]
