"""Chinese words for stored codes. An unknown code is shown as it is: better an English word than an empty cell."""

from datetime import datetime
from zoneinfo import ZoneInfo

from api.approval import people_of
from contracts.fill import ResolveAction
from contracts.station import EndReason, PointState
from domain.money import yuan
from domain.order import FillMode, OrderStatus
from domain.payment import PayMethod
from domain.quantity import Unit, quantity_text

CHINA = ZoneInfo("Asia/Shanghai")

ORDER_STATUS = {s.value: s.label_zh for s in OrderStatus}
ORDER_STATUS_COLOURS = {
    OrderStatus.AWAITING_PAYMENT.label_zh: "yellow",
    OrderStatus.PAID.label_zh: "azure",
    OrderStatus.AUTHORISED.label_zh: "blue",
    OrderStatus.DISPENSED.label_zh: "cyan",
    OrderStatus.UNPAID.label_zh: "orange",
    OrderStatus.REFUNDING.label_zh: "purple",
    OrderStatus.COMPLETED.label_zh: "green",
    OrderStatus.REFUNDED.label_zh: "secondary",
    OrderStatus.EXPIRED.label_zh: "secondary",
    OrderStatus.CANCELLED.label_zh: "secondary",
}
MODE = {FillMode.PREPAID.value: "先付后加", FillMode.POSTPAID.value: "先加后付"}
METHOD = {m.value: m.label_zh for m in PayMethod}
ATTEMPT_STATUS = {"open": "进行中", "succeeded": "成功", "failed": "失败", "closed": "已关闭"}
REFUND_STATUS = {
    "pending": "待提交",
    "processing": "处理中",
    "succeeded": "已退款",
    "abnormal": "异常，需人工",
    "closed": "已关闭，需人工",
    "rejected": "未退成，需人工",
    "insufficient": "商户余额不足，将重试",
    "not_found": "渠道查无此单",
    "unknown": "结果未知，查询中",
    "held": "待人工放行",
}
MONEY_COLOURS = {
    "进行中": "azure",
    "成功": "green",
    "已退款": "green",
    "失败": "red",
    "处理中": "azure",
    "待提交": "azure",
    "异常，需人工": "red",
    "已关闭，需人工": "red",
    "未退成，需人工": "red",
}
SCREEN = {
    "start": "下单时",
    "phone": "手机",
    "kiosk": "自助机",
    "pillar": "支付柱",
    "pos": "POS",
    "cashier": "收银台",
}
ACCOUNT = {
    "1010.wechat": "微信清算",
    "1010.cash": "现金",
    "1090": "挂账待查",
    "1100": "应收油款",
    "2040": "应退款",
    "2050": "销项税额",
    "2070": "预收加注款",
    "4010": "油品收入",
    "4020": "燃气收入",
    "5060": "坏账损失",
}
SIDE = {"D": "借", "C": "贷"}
MEMO = {
    "prepayment received": "收到预付款",
    "prepaid sale": "预付销售结算",
    "prepayment owed back": "预付款应退",
    "post-paid sale": "后付销售",
    "post-paid sale paid": "后付款收讫",
    "unpaid sale written off": "未付款核销",
    "shortfall collected": "差额已补收",
    "shortfall written off": "差额已核销",
    "surplus payment": "多收款项",
    "refund paid": "退款已付出",
}
END_REASON = {
    EndReason.NORMAL.value: "正常结束",
    EndReason.PRESET_REACHED.value: "达到预置金额",
    EndReason.CUSTOMER_STOP.value: "顾客提前停止",
    EndReason.ZERO.value: "未出油",
    EndReason.AUTHORISE_TIMEOUT.value: "超时未提枪",
    EndReason.STOPPED.value: "被停止",
    EndReason.RECOVERED.value: "断线后补传",
    EndReason.SYNTHESISED.value: "按累计数推算",
}
ATTENTION = {
    "amount_mismatch": "油机金额与单价×数量不符，请核定金额",
    "price_mismatch": "油机单价与下单单价不同，请核定金额",
    "amount_case": "油机金额与单价×数量相差超过 0.01 元，在允差内，按油机金额结算",
    "synthesised": "油机丢失交易，按累计数推算，请核定金额",
    "unexpected": "订单已结束后又出油，请核定金额",
    "unit_mismatch": "油机计量单位与油枪设置不同，请核定金额",
    "zero_amount": "油机金额为 0 但已出油，请核定金额",
    "out_of_range": "油机数据超出合理范围，请核定金额",
    "sale_key_taken": "油机交易号已记在另一订单，请核定金额",
    "shortfall": "加注金额超过已付金额，请补收或核销",
    "return_cash": "现金余款待退还顾客",
    "refund_abnormal": "退款异常（银行卡失效等），处理后重试",
    "refund_closed": "退款被渠道关闭，处理后重试，或退现金",
    "refund_rejected": "退款被拒，处理后重试，或退现金",
    "refund_balance_short": "商户余额不足，充值后重试",
    "refund_slow": "退款迟迟未到账",
    "dispenser_unanswered": "油机未应答授权，请现场核实",
    "fill_not_reported": "授权后久未收到加注记录，请现场核实",
    "unpaid_too_long": "长时间未付款（可能驶离）",
    "close_unconfirmed": "渠道未确认关单，系统继续查询",
    "code_reverse_unconfirmed": "付款码撤销未确认，系统继续重试",
    "payment_unconfirmed": "一笔付款查询无明确结果，系统继续查询",
    "payment_amount_mismatch": "渠道到账金额与应付不符，核实后退回",
}
EVENT = {
    "opened": "下单",
    "paid": "收到付款",
    "surplus": "收到多余款项，将退回",
    "quarantined": "到账金额不符，已隔离",
    "authorised": "油机已授权",
    "dispensed": "油机加注结束",
    "settled": "结算",
    "decided": "人工核定金额",
    "refunding": "全额退款",
    "refunded": "退款完成",
    "flagged": "需人工核实",
    "case": "金额差异留案",
    "attention": "转人工处理",
    "resolved": "人工处理",
    "cancelled": "订单取消",
    "expired": "超时未付",
    "receipt": "开具电子小票",
}
RESOLVE = {
    ResolveAction.CHARGE_DEVICE_AMOUNT: "按油机金额收款",
    ResolveAction.CHARGE_AMOUNT: "按指定金额收款",
    ResolveAction.COLLECT_CASH: "差额已收现金",
    ResolveAction.WRITE_OFF: "差额核销（油站承担）",
    ResolveAction.CASH_RETURNED: "已用现金退还顾客",
    ResolveAction.RETRY_REFUND: "重新发起退款",
    ResolveAction.RELEASE_HELD: "核实后退回异常到账",
    ResolveAction.NOTHING_DISPENSED: "确认未出油，全额退款",
}
POINT_STATE = {
    PointState.OFFLINE.value: "离线",
    PointState.INOPERATIVE.value: "故障",
    PointState.CLOSED.value: "停用",
    PointState.IDLE.value: "空闲",
    PointState.CALLING.value: "已提枪",
    PointState.AUTHORISED.value: "已授权",
    PointState.STARTED.value: "已启动",
    PointState.SUSPENDED_STARTED.value: "启动暂停",
    PointState.FUELLING.value: "加注中",
    PointState.SUSPENDED_FUELLING.value: "加注暂停",
}
UNIT = {u.value: u.label_zh for u in Unit}


def money_text(fen: int) -> str:
    """Return an amount in fen as yuan with the sign of the currency: 20025 -> '¥200.25'."""
    return f"¥{yuan(fen)}"


def amount_with_unit(milli: int, unit: str) -> str:
    """Return a quantity in thousandths with its Chinese unit: '27.03 升'."""
    return f"{quantity_text(milli)} {UNIT.get(unit, unit)}"


def price_text(fen_per_unit: int, unit: str) -> str:
    """Return a price in fen with its unit: '¥7.58/升'."""
    return f"{money_text(fen_per_unit)}/{UNIT.get(unit, unit)}"


def time_text(at: datetime) -> str:
    """Return a moment as people in China read it."""
    return at.astimezone(CHINA).strftime("%Y-%m-%d %H:%M:%S")


def actor_text(actor: str, staff_names: dict[int, str]) -> str:
    """Return who did something, and who approved it: a staff member by name, a driver by number only."""
    who, *approved = (_one_actor(one, staff_names) for one in people_of(actor))
    return who + "".join(f"（{one} 批准）" for one in approved)


def _one_actor(actor: str, staff_names: dict[int, str]) -> str:
    kind, _, number = actor.partition(":")
    if kind == "staff" and number.isdigit():
        return f"员工 {staff_names.get(int(number), '#' + number)}"
    if kind == "driver":
        return f"司机 #{number}"
    known = {
        "system": "系统",
        "wechat": "微信支付",
        "station": "油站",
        "dispenser": "油机",
        "terminal": "终端",
    }
    return known.get(kind, kind) + (f" #{number}" if number and kind != "system" else "")
