"""Orders: all of them, the unpaid ones, and those that need a person; each with the commands that a role may give."""

from collections.abc import Awaitable, Sequence
from datetime import datetime
from typing import Any, cast

import anyio.to_thread
import structlog
from sqlalchemy import ColumnElement, or_, select
from sqlmodel import col
from starlette.requests import Request
from starlette_admin.actions import row_action
from starlette_admin.exceptions import ActionFailed
from starlette_admin.fields import BaseField, StringField
from starlette_admin.flash import flash
from starlette_admin.types import RequestAction

from api.console import actions, labels
from api.console.facts import facts_of, head_of
from api.console.fields import (
    LookupField,
    MomentField,
    PriceField,
    QuantityField,
    TextCell,
    WordField,
    YuanField,
)
from api.console.person import Deed, Person, Role, person_of
from api.console.ports import CommandUnavailableError, ConsoleDeps
from api.console.scope import at_stations_of
from api.console.story import tell
from api.console.views.base import ConsoleView, in_thread
from contracts.fill import CommandAnswer, ResolveCommand
from db.repositories.asked import asked_of, sum_of_refunds
from db.tables.order import FuelOrder
from db.tables.station import Nozzle
from domain.ids import fill_workflow_id
from domain.order import OrderStatus

UNAVAILABLE_ZH = "系统暂时没有响应，操作是否完成尚不确定。请稍候刷新页面，确认订单状态后再操作。"
_PAYABLE = frozenset({OrderStatus.UNPAID, OrderStatus.AWAITING_PAYMENT})
_CANCELLABLE = _PAYABLE | {OrderStatus.PAID, OrderStatus.AUTHORISED}
_log = structlog.get_logger(__name__)


def can_be_done(deed: Deed, order: FuelOrder) -> bool:
    """Return whether a deed makes sense for an order as it stands; the workflow has the last word."""
    if deed is Deed.RESOLVE:
        return order.needs_person != ""
    return order.status in (_PAYABLE if deed is Deed.TAKE_CASH else _CANCELLABLE)


def waiting_text(since: datetime, now: datetime) -> str:
    """Return how long something has waited, in minutes or hours."""
    minutes = int((now - since).total_seconds()) // 60
    if minutes < 1:
        return "不到 1 分钟"
    return f"{minutes} 分钟" if minutes < 120 else f"{minutes // 60} 小时"


class OrderRows(ConsoleView):
    """Shared by the three lists of orders."""

    row_actions: Sequence[str] | None = ("take_cash", "cancel", "resolve", "view")
    search_columns = ("order_no",)
    detail_template = "console/order_detail.html"
    fields_default_sort = (("created_at", True),)

    def scope(self, person: Person) -> ColumnElement[bool]:
        """Orders of the person's stations."""
        return at_stations_of(person, col(FuelOrder.station_id))

    def get_search_query(self, request: Request, term: str) -> Any:
        """Search by order number, or by nozzle number when a short number is typed."""
        by_number = super().get_search_query(request, term)
        digits = term.strip().removesuffix("枪").removesuffix("号").strip()
        if not (digits.isascii() and digits.isdigit() and len(digits) <= 4):
            return by_number
        nozzles = select(col(Nozzle.id)).where(col(Nozzle.number) == int(digits))
        return or_(by_number, col(FuelOrder.nozzle_id).in_(nozzles))

    async def prepare(self, request: Request, rows: Sequence[Any]) -> None:
        """Look up names and what people have to decide about; for the page of one order also its story and facts."""
        await super().prepare(request, rows)
        request.state.asked = await in_thread(request, lambda db: asked_of(db, rows))
        if request.state.action == RequestAction.DETAIL and len(rows) == 1:
            story = await in_thread(request, lambda db: tell(db, rows[0]))
            request.state.story = story
            request.state.facts = facts_of(rows[0], story, request.state.names, self.deps.phone_mask)
            request.state.order_head = head_of(rows[0])
            request.state.workflow_url = self.workflow_url(rows[0].order_no)

    def workflow_url(self, order_no: str) -> str:
        """Return the address of the order's workflow in the Temporal UI; empty when there is no UI."""
        base = self.deps.temporal_ui_url.rstrip("/")
        name = self.deps.temporal_namespace
        return f"{base}/namespaces/{name}/workflows/{fill_workflow_id(order_no)}" if base else ""

    def can_access_field(
        self, request: Request, field: BaseField, action: RequestAction | None = None
    ) -> bool:
        """Leave the station out for people who have only one."""
        if field.name == "station_id" and person_of(request).station_id is not None:
            return False
        return bool(super().can_access_field(request, field, action))

    async def is_row_action_allowed(self, request: Request, name: str) -> bool:
        """Return whether the person's role may do it at all."""
        if name in set(Deed):
            return person_of(request).may(Deed(name))
        return bool(await super().is_row_action_allowed(request, name))

    async def is_row_action_allowed_for_obj(self, request: Request, name: str, obj: Any) -> bool:
        """Offer a deed only where it makes sense; a late click goes through, and the answer says why not."""
        allowed = await self.is_row_action_allowed(request, name)
        if name in set(Deed) and request.state.action != RequestAction.ROW_ACTION:
            return allowed and can_be_done(Deed(name), obj)
        return allowed

    @row_action(
        name=Deed.TAKE_CASH.value,
        text="收现金",
        header="收现金",
        confirmation="请确认已收到以下全额现金：",
        icon_class="fa-solid fa-money-bill-wave",
        action_btn_class="btn btn-success",
        submit_btn_class="btn btn-success",
        submit_btn_text="确认收款",
        form=actions.cash_form,
    )
    async def take_cash_action(self, request: Request, pk: Any) -> None:
        """Take the whole amount due in cash."""
        received = actions.read_received(await request.form())
        command = self.deps.commands.take_cash(str(pk), person_of(request).staff_id, received)
        await self._give(request, Deed.TAKE_CASH, command)

    @row_action(
        name=Deed.CANCEL.value,
        text="取消订单",
        header="取消订单",
        confirmation="取消后不能恢复，原因将记入订单记录。",
        icon_class="fa-solid fa-ban",
        action_btn_class="btn btn-outline-danger",
        submit_btn_class="btn btn-danger",
        submit_btn_text="确认取消订单",
        form=actions.cancel_form,
    )
    async def cancel_action(self, request: Request, pk: Any) -> None:
        """Cancel with a reason, and with a second person where it is needed."""
        form = await request.form()
        reason, approver = actions.read_words(form, "reason", "取消原因"), actions.read_approver(form)
        person, address = person_of(request).principal, request.client.host if request.client else ""
        command = self.deps.commands.cancel(str(pk), person, reason, approver, address)
        await self._give(request, Deed.CANCEL, command)

    @row_action(
        name=Deed.RESOLVE.value,
        text="处理",
        header="人工处理",
        confirmation="您的决定和说明将记入订单记录。",
        icon_class="fa-solid fa-gavel",
        action_btn_class="btn btn-warning",
        submit_btn_class="btn btn-primary",
        submit_btn_text="提交处理",
        form=actions.resolve_form,
        modal_size="md",
    )
    async def resolve_action(self, request: Request, pk: Any) -> None:
        """Decide about an order that needs a person."""
        decision, person = actions.read_decision(await request.form()), person_of(request)
        if not person.may_resolve_by(decision.action, decision.need):
            raise ActionFailed("您的角色无权选择该处理方式，请联系站长。")
        refunds = decision.refund_nos
        if refunds and await in_thread(request, lambda db: sum_of_refunds(db, str(pk), refunds)) is None:
            raise ActionFailed("请刷新页面后重试。")
        command = ResolveCommand(
            actor=person.actor,
            action=decision.action,
            note=decision.note,
            amount_fen=decision.amount_fen,
            by_cashier=person.role is Role.CASHIER,
            need=decision.need,
            refund_nos=refunds,
        )
        await self._give(request, Deed.RESOLVE, self.deps.commands.resolve(str(pk), command))

    async def _give(self, request: Request, deed: Deed, command: Awaitable[CommandAnswer]) -> None:
        # The command may wait seconds for a worker; a pooled connection must not wait with it.
        await anyio.to_thread.run_sync(request.state.session.rollback)
        try:
            answer = await command
        except (CommandUnavailableError, TimeoutError) as exc:
            _log.warning("console.command.unavailable", deed=deed.value, error=type(exc).__name__)
            raise ActionFailed(UNAVAILABLE_ZH) from exc
        _log.info("console.command.answered", deed=deed.value, ok=answer.ok, code=answer.code)
        if not answer.ok:
            raise ActionFailed(actions.answer_text(answer))
        flash(request, actions.answer_text(answer), "success")


class AllOrders(OrderRows):
    """Every order of the person's stations."""

    key = "order"
    menu_label = "订单"
    display_name = "订单"
    icon = "fa-solid fa-receipt"
    fields = (
        StringField("order_no", label="订单号", list_template="console/cell_mono.html"),
        LookupField("station_id", label="油站", table="station"),
        LookupField("nozzle_id", label="油枪", table="nozzle"),
        LookupField("product_id", label="油品", table="product"),
        WordField("mode", label="方式", labels=labels.MODE),
        WordField("status", label="状态", labels=labels.ORDER_STATUS, colours=labels.ORDER_STATUS_COLOURS),
        QuantityField("quantity_milli", label="加注量"),
        YuanField("charge_fen", label="应收"),
        YuanField("paid_fen", label="已付"),
        YuanField("refunded_fen", label="已退"),
        MomentField("created_at", label="下单时间"),
    )

    def __init__(self, deps: ConsoleDeps) -> None:
        super().__init__(FuelOrder, deps)


class UnpaidOrders(OrderRows):
    """Fuel delivered and not paid: the cashier's work list, oldest first, renewed by itself."""

    key = "unpaid"
    menu_label = "待付款"
    display_name = "待付款"
    icon = "fa-solid fa-hand-holding-dollar"
    list_template = "console/live_list.html"
    row_actions = ("take_cash", "cancel")
    row_actions_display_type = cast(Any, "BUTTONS")
    fields_default_sort = (("created_at", False),)
    fields = (
        LookupField("nozzle_id", label="油枪", table="nozzle"),
        YuanField("charge_fen", label="应收金额", list_template="console/cell_due.html"),
        LookupField("product_id", label="油品", table="product"),
        QuantityField("quantity_milli", label="加注量"),
        PriceField("price_fen_per_unit", label="单价"),
        TextCell("waiting", label="已等待"),
        MomentField("created_at", label="加注时间"),
        LookupField("station_id", label="油站", table="station"),
        StringField("order_no", label="订单号", list_template="console/cell_mono.html"),
    )

    def __init__(self, deps: ConsoleDeps) -> None:
        super().__init__(FuelOrder, deps)
        waiting = next(f for f in self.fields if f.name == "waiting")
        waiting.getter = lambda _request, order: waiting_text(order.created_at, deps.clock())

    def listed(self) -> ColumnElement[bool]:
        """Unpaid orders."""
        return col(FuelOrder.status) == OrderStatus.UNPAID.value


class OrdersForPeople(OrderRows):
    """Orders that cannot go on without a person's decision."""

    key = "attention"
    menu_label = "待处理"
    display_name = "待处理"
    icon = "fa-solid fa-triangle-exclamation"
    list_template = "console/live_list.html"
    row_actions = ("resolve",)
    row_actions_display_type = cast(Any, "BUTTONS")
    fields_default_sort = (("updated_at", False),)
    fields = (
        WordField("needs_person", label="原因", labels=labels.ATTENTION),
        LookupField("nozzle_id", label="油枪", table="nozzle"),
        WordField("status", label="状态", labels=labels.ORDER_STATUS, colours=labels.ORDER_STATUS_COLOURS),
        YuanField("charge_fen", label="应收"),
        YuanField("paid_fen", label="已付"),
        TextCell("amount", label="待处理金额", list_template="console/cell_number.html"),
        MomentField("updated_at", label="最近变动"),
        LookupField("station_id", label="油站", table="station"),
        StringField("order_no", label="订单号", list_template="console/cell_mono.html"),
    )

    def __init__(self, deps: ConsoleDeps) -> None:
        super().__init__(FuelOrder, deps)
        amount = next(f for f in self.fields if f.name == "amount")
        amount.getter = lambda request, order: actions.amount_text(request, order) or "—"

    def listed(self) -> ColumnElement[bool]:
        """Orders that need somebody."""
        return col(FuelOrder.needs_person) != ""
