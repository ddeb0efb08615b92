"""Money: payment attempts, refunds and the ledger. Nothing here can be changed by anybody."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement
from sqlmodel import col
from starlette.requests import Request
from starlette_admin.fields import IntegerField, StringField

from api.console import labels
from api.console.fields import MomentField, TextCell, WordField, YuanField
from api.console.person import Person, Role, person_of
from api.console.ports import ConsoleDeps
from api.console.scope import of_orders_of
from api.console.story import entry_lines
from api.console.views.base import ConsoleView, in_thread
from db.tables.ledger import LedgerJournal
from db.tables.payment import PaymentAttempt, Refund

ORDER_CELL = "console/cell_order.html"


def can_see_ledger(request: Request) -> bool:
    """Return whether the person may read journals: everybody but cashiers."""
    return person_of(request).role is not Role.CASHIER


class Payments(ConsoleView):
    """Payment attempts; one row a channel number."""

    key = "payment"
    menu_label = "支付"
    display_name = "支付"
    search_columns = ("out_trade_no", "order_no", "transaction_id")
    fields_default_sort = (("created_at", True),)
    fields = (
        StringField("out_trade_no", label="商户单号"),
        StringField("order_no", label="订单号", list_template=ORDER_CELL, detail_template=ORDER_CELL),
        IntegerField("number", label="第几次"),
        WordField("method", label="支付方式", labels=labels.METHOD),
        WordField("screen", label="发起处", labels=labels.SCREEN),
        YuanField("amount_fen", label="金额"),
        WordField("status", label="状态", labels=labels.ATTEMPT_STATUS, colours=labels.MONEY_COLOURS),
        StringField("transaction_id", label="渠道交易号"),
        YuanField("payer_fen", label="顾客实付", exclude_from_list=True),
        StringField("code", label="渠道返回码", exclude_from_list=True),
        MomentField("created_at", label="发起时间"),
        MomentField("paid_at", label="支付时间"),
    )

    def __init__(self, deps: ConsoleDeps) -> None:
        super().__init__(PaymentAttempt, deps)

    def scope(self, person: Person) -> ColumnElement[bool]:
        """Attempts of visible orders."""
        return of_orders_of(person, col(PaymentAttempt.order_no))


class Refunds(ConsoleView):
    """Refunds; one row a refund number."""

    key = "refund"
    menu_label = "退款"
    display_name = "退款"
    search_columns = ("out_refund_no", "out_trade_no", "order_no", "refund_id")
    fields_default_sort = (("created_at", True),)
    fields = (
        StringField("out_refund_no", label="退款单号"),
        StringField("order_no", label="订单号", list_template=ORDER_CELL, detail_template=ORDER_CELL),
        StringField("out_trade_no", label="原商户单号", exclude_from_list=True),
        YuanField("amount_fen", label="金额"),
        WordField("status", label="状态", labels=labels.REFUND_STATUS, colours=labels.MONEY_COLOURS),
        StringField("reason", label="原因"),
        StringField("refund_id", label="渠道退款号"),
        StringField("code", label="渠道返回码", exclude_from_list=True),
        MomentField("created_at", label="发起时间"),
        MomentField("finished_at", label="完成时间"),
    )

    def __init__(self, deps: ConsoleDeps) -> None:
        super().__init__(Refund, deps)

    def scope(self, person: Person) -> ColumnElement[bool]:
        """Refunds of visible orders."""
        return of_orders_of(person, col(Refund.order_no))


class Journals(ConsoleView):
    """The ledger, journal by journal with its entries; not for cashiers."""

    key = "journal"
    menu_label = "账本"
    display_name = "记账凭证"
    search_columns = ("key", "order_no")
    fields_default_sort = (("id", True),)
    fields = (
        IntegerField("id", label="凭证号"),
        WordField("memo", label="摘要", labels=labels.MEMO),
        TextCell(
            "entries",
            label="分录",
            list_template="console/cell_entries.html",
            detail_template="console/cell_entries.html",
        ),
        StringField("order_no", label="订单号", list_template=ORDER_CELL, detail_template=ORDER_CELL),
        StringField("key", label="业务键"),
        MomentField("posted_at", label="记账时间"),
    )

    def __init__(self, deps: ConsoleDeps) -> None:
        super().__init__(LedgerJournal, deps)
        entries = next(f for f in self.fields if f.name == "entries")
        entries.getter = lambda request, row: "；".join(
            " ".join(line) for line in request.state.entries.get(row.id, ())
        )

    def is_accessible(self, request: Request) -> bool:
        """Hide the ledger from cashiers."""
        return can_see_ledger(request)

    def scope(self, person: Person) -> ColumnElement[bool]:
        """Journals of visible orders."""
        return of_orders_of(person, col(LedgerJournal.order_no))

    async def prepare(self, request: Request, rows: Sequence[Any]) -> None:
        """Read the entries of all rows at once."""
        await super().prepare(request, rows)
        numbers = [row.id for row in rows]
        request.state.entries = await in_thread(request, lambda db: entry_lines(db, numbers))
