"""The forms of the row actions, and reading them: amounts typed in yuan become fen here and nowhere else."""

import re
from dataclasses import dataclass
from decimal import Decimal

from markupsafe import Markup, escape
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette_admin.exceptions import ActionFailed

from api.approval import Approver, needs_approval
from api.commands import CHANNEL_NEEDS
from api.console.labels import ATTENTION, RESOLVE, amount_with_unit, money_text
from api.console.names import Names, name_in
from api.console.person import person_of
from api.schemas.common import MOST_REFUNDS, REFUND_NO_PATTERN
from contracts.fill import CommandAnswer, ResolveAction
from db.repositories.asked import Asked
from db.tables.order import FuelOrder
from domain.order import FillMode, OrderStatus

MAX_WORDS = 200
MAX_YUAN_DIGITS = 7
MAX_LOGIN, MAX_PASSWORD = 64, 128
_YUAN = re.compile(rf"\d{{1,{MAX_YUAN_DIGITS}}}(\.\d{{1,2}})?", re.ASCII)
_NEED = re.compile(r"[a-z_]{1,64}", re.ASCII)
_REFUND_NO = re.compile(REFUND_NO_PATTERN, re.ASCII)
CANCEL_REASONS = ("顾客放弃加注", "重复下单", "试机加注", "顾客驶离未付款", "设备故障")
_A = ResolveAction
_CHARGE = (_A.CHARGE_DEVICE_AMOUNT, _A.CHARGE_AMOUNT)
_SHORTFALL = (_A.COLLECT_CASH, _A.WRITE_OFF)
_DECISIONS: dict[str, tuple[ResolveAction, ...]] = {
    "amount_mismatch": _CHARGE,
    "price_mismatch": _CHARGE,
    "synthesised": _CHARGE,
    "unexpected": _CHARGE,
    "unit_mismatch": _CHARGE,
    "zero_amount": _CHARGE,
    "out_of_range": _CHARGE,
    "sale_key_taken": _CHARGE,
    "shortfall": _SHORTFALL,
    "return_cash": (_A.CASH_RETURNED,),
    "refund_abnormal": (_A.RETRY_REFUND,),
    "refund_closed": (_A.RETRY_REFUND, _A.CASH_RETURNED),
    "refund_rejected": (_A.RETRY_REFUND, _A.CASH_RETURNED),
    "refund_balance_short": (_A.RETRY_REFUND,),
    "payment_amount_mismatch": (_A.RELEASE_HELD,),
    "dispenser_unanswered": (_A.NOTHING_DISPENSED,),
    "fill_not_reported": (_A.NOTHING_DISPENSED,),
}
"""What a person can decide, by why the order needs one; for any other reason everything is offered."""
_AMOUNT_FIELD = Markup(
    """<label class="form-label mt-3">金额（元，仅“按指定金额收款”时填写）</label>
    <input class="form-control" name="amount" inputmode="decimal" autocomplete="off"
    pattern="[0-9]{1,7}([.][0-9]{1,2})?" placeholder="0.00">"""
)
_LOOK_FIRST = Markup(
    """<div class="alert alert-warning mt-3 mb-0">改退现金前，请先在微信支付商户平台确认：
    这笔付款没有用其他退款单号退过。系统只能查询自己的退款单。</div>"""
)
"""A refund that finance made at the channel's desk has a number that the order does not know."""
_APPROVER_FIELDS = Markup(
    """<div class="alert alert-warning mt-3 mb-0">已加注未付款：须由本站站长当面输入账号和密码批准。</div>
    <label class="form-label mt-3">站长账号（必填）</label>
    <input class="form-control" name="approver_login" required maxlength="64" autocomplete="off">
    <label class="form-label mt-3">站长密码（必填）</label>
    <input class="form-control" type="password" name="approver_password" required maxlength="128"
    autocomplete="new-password">"""
)
"""`new-password` keeps the browser from filling in the cashier's own."""
CODE_ZH = {
    "already_paid": "订单已由其他方式支付，请勿重复收款。",
    "not_payable": "订单当前状态不能收款。",
    "amount_mismatch": "应收金额已变化，请刷新页面后重试。",
    "not_cancellable": "订单当前状态不能取消。",
    "fuelling": "正在加注，不能取消。",
    "not_needed": "该订单已不需要人工处理。",
}


def due_fen(order: FuelOrder) -> int:
    """Return what a payment has to bring: the charge of a finished fill, else the preset."""
    return order.charge_fen if order.mode == FillMode.POSTPAID else order.preset_fen


def _which(request: Request, order: FuelOrder) -> Markup:
    """Return the top of a form: of two sales that wait side by side, which one it is about."""
    names: Names = request.state.names
    return Markup(
        """<div class="text-center mt-2" data-jz="which"><div class="fs-2 fw-bold">{nozzle}</div>
        <div class="font-monospace text-secondary small">{order_no}</div></div>"""
    ).format(nozzle=name_in(names, "nozzle", order.nozzle_id), order_no=order.order_no)


def cash_form(request: Request, order: FuelOrder) -> str:
    """Return the form that shows the amount to take; the shown amount is sent along and must still be due."""
    due = due_fen(order)
    filled = amount_with_unit(order.quantity_milli, order.unit) if order.quantity_milli else "预付订单"
    return Markup(
        """<form onsubmit="return false" class="text-center">{which}
        <div class="text-secondary mt-2">{filled}</div>
        <div class="jz-due" data-jz="due">{due}</div>
        <input type="hidden" name="received_fen" value="{fen}">
        <label class="form-label text-start mt-3">收到现金（元，可选，用于计算找零）</label>
        <input class="form-control" inputmode="decimal" autocomplete="off" data-jz-tendered="{fen}">
        <div class="mt-2 fs-3" data-jz="change"></div></form>"""
    ).format(which=_which(request, order), filled=filled, due=money_text(due), fen=due)


def cancel_form(request: Request, order: FuelOrder) -> str:
    """Return the form that asks for a reason, and for a second person where the cashier may not cancel alone."""
    alone = not needs_approval(person_of(request).role, order.status)
    options = Markup("").join(Markup('<option value="{0}">').format(reason) for reason in CANCEL_REASONS)
    return Markup(
        """<form onsubmit="return false">{which}<label class="form-label mt-3">取消原因（必填）</label>
        <input class="form-control" name="reason" list="jz-reasons" required minlength="2" maxlength="{max}"
        autocomplete="off" placeholder="选择或填写原因"><datalist id="jz-reasons">{options}</datalist>{approver}</form>"""
    ).format(
        which=_which(request, order),
        max=MAX_WORDS,
        options=options,
        approver=Markup("") if alone else _APPROVER_FIELDS,
    )


def resolve_form(request: Request, order: FuelOrder) -> str:
    """Return the form of a decision: only the actions that the person's role may choose."""
    person, asked = person_of(request), asked_about(request, order)
    need = order.needs_person
    fitting = [a for a in _DECISIONS.get(need, tuple(RESOLVE)) if person.may_resolve_by(a, need)]
    choices = Markup("").join(
        Markup('<option value="{0}">{1}</option>').format(action.value, RESOLVE[action]) for action in fitting
    )
    amount = _AMOUNT_FIELD if ResolveAction.CHARGE_AMOUNT in fitting else Markup("")
    return Markup(
        """<form onsubmit="return false">{which}<div class="mt-2 fs-3" data-jz="what">{what}</div>{first_look}
        <input type="hidden" name="need" value="{need}"><input type="hidden" name="refunds" value="{refunds}">
        <label class="form-label mt-3">处理方式</label>
        <select class="form-select" name="action" required>{first}{choices}</select>{amount}
        <label class="form-label mt-3">处理说明（必填）</label>
        <textarea class="form-control" name="note" rows="3" required minlength="2" maxlength="{max}"></textarea>
        </form>"""
    ).format(
        which=_which(request, order),
        what=what_to_decide(request, order),
        first_look=_LOOK_FIRST if need in CHANNEL_NEEDS and _A.CASH_RETURNED in fitting else "",
        need=need,
        refunds=",".join(one.out_refund_no for one in asked.refunds) if asked else "",
        first=_first_choice(len(fitting)),
        choices=choices,
        amount=amount,
        max=MAX_WORDS,
    )


def _first_choice(fitting: int) -> Markup:
    """Return the line that is no decision: a single one is chosen already, none is for somebody else."""
    if fitting == 1:
        return Markup("")
    words = "请选择" if fitting else "须由站长处理"
    return Markup('<option value="">{0}</option>').format(words)


def what_to_decide(request: Request, order: FuelOrder) -> str:
    """Return what waits for the person, with the amount that it is about."""
    reason, amount = ATTENTION.get(order.needs_person, order.needs_person), amount_text(request, order)
    return f"{reason}：{amount}" if amount else reason


def amount_text(request: Request, order: FuelOrder) -> str:
    """Return the amount that the person has to decide about, as the view looked it up; empty when there is none."""
    asked = asked_about(request, order)
    return money_text(asked.fen) if asked else ""


def asked_about(request: Request, order: FuelOrder) -> Asked | None:
    """Return what the person has to decide about, as the view looked it up; None when it is no amount."""
    found: dict[str, Asked] = request.state.asked
    return found.get(order.order_no)


def fen_of_yuan(text: str) -> int:
    """Return yuan as a person types them in fen: '200.5' -> 20050.

    Raises ActionFailed when it is no amount with at most two decimals.
    """
    if not _YUAN.fullmatch(text):
        raise ActionFailed("金额格式不正确，请填写元，最多两位小数。")
    return int(Decimal(text) * 100)


def read_words(form: FormData, name: str, what: str) -> str:
    """Return a required text.

    Raises ActionFailed when it is missing, too long, or has control characters.
    """
    words = str(form.get(name) or "").strip()
    if len(words) < 2:
        raise ActionFailed(f"请填写{what}。")
    if len(words) > MAX_WORDS or any(ord(c) < 32 and c not in "\r\n\t" for c in words):
        raise ActionFailed(f"{what}过长或含有无效字符（最多 {MAX_WORDS} 字）。")
    return words


def read_approver(form: FormData) -> Approver | None:
    """Return the second person, None when nobody was named.

    Raises ActionFailed when only half was typed, or what was typed can be no login or password.
    """
    login, password = str(form.get("approver_login") or "").strip(), str(form.get("approver_password") or "")
    if not login and not password:
        return None
    if not login or not password:
        raise ActionFailed("请填写站长账号和站长密码。")
    if len(login) > MAX_LOGIN or len(password) > MAX_PASSWORD or "\x00" in login + password:
        raise ActionFailed("站长账号或密码不正确。")
    return Approver(login=login, password=password)


def read_received(form: FormData) -> int:
    """Return the amount in fen that the form showed.

    Raises ActionFailed when it is no amount.
    """
    text = str(form.get("received_fen") or "")
    if not (text.isascii() and text.isdigit() and len(text) <= MAX_YUAN_DIGITS + 2):
        raise ActionFailed("金额无效，请刷新页面后重试。")
    return int(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What a person decided, about the need that their form showed.

    `amount_fen` is what they typed where one is needed; `refund_nos` are the refunds whose sum they handed back.
    """

    action: ResolveAction
    note: str
    need: str
    amount_fen: int | None = None
    refund_nos: tuple[str, ...] = ()


def read_decision(form: FormData) -> Decision:
    """Return the decision of a form.

    Raises ActionFailed when the action is unknown, when an amount is missing where one is needed, and when the form
    does not say what it was about.
    """
    need, chosen = str(form.get("need") or ""), str(form.get("action") or "")
    if not _NEED.fullmatch(need):
        raise ActionFailed("请刷新页面后重试。")
    if chosen not in set(ResolveAction):
        raise ActionFailed("请选择处理方式。")
    action, typed = ResolveAction(chosen), str(form.get("amount") or "").strip()
    return Decision(
        action=action,
        note=read_words(form, "note", "处理说明"),
        need=need,
        amount_fen=fen_of_yuan(typed) if action is ResolveAction.CHARGE_AMOUNT else None,
        refund_nos=_read_refunds(form) if action is ResolveAction.CASH_RETURNED else (),
    )


def _read_refunds(form: FormData) -> tuple[str, ...]:
    """Return the refunds that the form showed the sum of. Raises ActionFailed when there is none or it is no list."""
    numbers = str(form.get("refunds") or "").split(",")
    if len(numbers) > MOST_REFUNDS or not all(_REFUND_NO.fullmatch(one) for one in numbers):
        raise ActionFailed("请刷新页面后重试。")
    return tuple(dict.fromkeys(numbers))


def answer_text(answer: CommandAnswer) -> str:
    """Return a command's answer in Chinese."""
    if answer.ok:
        state = OrderStatus(answer.status).label_zh if answer.status else ""
        return answer.message or (f"操作成功，订单状态：{state}" if state else "操作成功")
    return answer.message or CODE_ZH.get(answer.code, f"操作被拒绝（{escape(answer.code)}）")
