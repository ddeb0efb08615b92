"""What ops staff read in the Temporal UI: where an order is, what it waits for, who can move it (Markdown, Chinese)."""

from datetime import timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from contracts.orders import OrderView
    from contracts.station import SaleRecord
    from domain import policy
    from domain.money import yuan
    from domain.order import FillMode, OrderStatus
    from domain.quantity import quantity_text

WAITS_FOR: dict[OrderStatus, tuple[str, str]] = {
    OrderStatus.AWAITING_PAYMENT: ("顾客付款", "顾客；收银员可取消或收现金"),
    OrderStatus.PAID: ("油机应答授权", "站端网关；收银员可取消"),
    OrderStatus.AUTHORISED: ("提枪加注并挂枪", "顾客；加注前收银员可取消"),
    OrderStatus.DISPENSED: ("余款退回，或加超差额的处理", "支付渠道；现金余款和加超差额由收银员处理"),
    OrderStatus.UNPAID: (
        "任一屏幕付款（手机、立柱、自助机、POS、柜台）",
        "顾客；收银员可收现金，取消须站长批准",
    ),
    OrderStatus.REFUNDING: ("全额退款到账", "支付渠道；现金由收银员退还"),
}
PERSON_ZH: dict[str, str] = {
    "amount_mismatch": "油机金额与单价×数量不符：站长核定金额",
    "price_mismatch": "油机单价与订单或平台单价不同：站长核定金额",
    "synthesised": "油机丢失交易、按泵码推算：站长核定金额",
    "unexpected": "订单结束后又出油：站长核定金额",
    "unit_mismatch": "油机计量单位与油枪不符：站长核定金额",
    "zero_amount": "油机金额为零：站长核定金额",
    "out_of_range": "油机数据超出合理范围：站长核定金额",
    "sale_key_taken": "同一加注记录已记在另一订单：站长核对后核定金额",
    "shortfall": "加超金额：收银员补收现金，或站长核销",
    "return_cash": "现金余款待退：收银员退给顾客后确认",
    "refund_abnormal": "退款异常（银行卡失效等）：财务处理后重试",
    "refund_closed": "退款被渠道关闭：财务处理后重试，或由站长退现金",
    "refund_rejected": "退款被拒：财务处理后重试，或由站长退现金",
    "refund_balance_short": "商户余额不足：充值后重试（系统每 30 分钟自动重试）",
    "refund_slow": "退款迟迟未到账：财务关注",
    "dispenser_unanswered": "油机未应答授权：现场核实油机与网络",
    "fill_not_reported": "授权后久未收到加注记录：现场核实油机",
    "unpaid_too_long": "久未付款（可能驶离）：收银员处理",
    "close_unconfirmed": "渠道未确认关单：系统继续查询，财务关注",
    "code_reverse_unconfirmed": "付款码撤销未确认：系统继续重试，财务关注",
    "payment_unconfirmed": "一笔付款查询或关单一直无明确结果：系统继续查询，财务到商户平台核对",
    "payment_amount_mismatch": "渠道到账金额与应付不符：站长或财务核实后退回（收银员不能放行）",
}
REFUSED_ZH: dict[str, str] = {
    "PRICE_MISMATCH": "油机单价与订单不一致",
    "FP_BUSY": "油机正在使用",
    "FP_CLOSED": "油机已关闭",
    "FP_OFFLINE": "油机离线",
    "NOZZLE_UNKNOWN": "油机没有这支枪",
    "DEVICE_REFUSED": "油机拒绝授权",
    "EXPIRED": "授权指令到站时已过期",
}


CANCEL_IGNORED_ZH = (
    "- **有人在此请求取消，未执行**：请在控制台或收银台取消订单（cancel 命令），"
    "油机授权和款项随之处理；仅在核实款项和油机后才可终止（terminate）"
)
UNPLACED_CANCEL_IGNORED_ZH = "- **有人在此请求取消，未执行**：油已加出，加注记录须保留到开单"


def details(about: OrderView | SaleRecord, *, cancel_asked: bool = False) -> str:
    """Return current details as Markdown: first what a person has to do, then what happens by itself.

    About an order, or about a sale of a nozzle that nobody has set up.
    """
    if isinstance(about, SaleRecord):
        return _details_of_unplaced(about, cancel_asked=cancel_asked)
    return _details_of_order(about, cancel_asked=cancel_asked)


def _details_of_unplaced(sale: SaleRecord, *, cancel_asked: bool) -> str:
    """Return what to set up, by the dispenser's own numbers, and the fuel that waits for it."""
    return "\n".join(
        [
            "**加注记录已到，尚未开单**",
            "",
            *([UNPLACED_CANCEL_IGNORED_ZH] if cancel_asked else []),
            "- **需要人工**：平台没有这支枪，或其油品在本站没有价格：请在平台设置下列油枪",
            f"- 等待：油枪设置完成；系统到点再查（间隔渐长，最长 {policy.PLACE_ASK_LADDER[-1] // timedelta(hours=1)} 小时），随后自动开单",
            "- 谁能推动：运营管理员；开单之前，控制台和收银台看不到本笔加注",
            f"- 油站 {sale.station_code}，节点 {sale.node}，加注点 {sale.fp - 0x20}（设备地址 {sale.fp:#04x}），"
            f"设备枪号 {sale.nozzle}",
            f"- 加注 {quantity_text(sale.quantity_milli)} {sale.unit.label_zh}，油机金额 {yuan(sale.amount_fen)} 元，"
            f"单价 {yuan(sale.price_fen_per_unit)} 元，记录号 {sale.natural_key}",
        ]
    )


def _details_of_order(view: OrderView, *, cancel_asked: bool) -> str:
    lines = [f"**{view.status.label_zh}**（{view.status}）", ""]
    if cancel_asked:
        lines.append(CANCEL_IGNORED_ZH)
    if view.needs_person:
        lines.append(f"- **需要人工**：{PERSON_ZH.get(view.needs_person, view.needs_person)}")
    if view.status in WAITS_FOR:
        waits, who = WAITS_FOR[view.status]
        lines += [f"- 等待：{waits}", f"- 谁能推动：{who}"]
    else:
        lines.append("- 订单已结束，无需处理")
    asked = "预付" if view.mode is FillMode.PREPAID else "应付"
    return "\n".join(
        [
            *lines,
            f"- 油站 {view.station_code}，{view.nozzle_no} 号枪，{view.product_name}，"
            f"单价 {yuan(view.price_fen_per_unit)} 元",
            f"- {asked} {yuan(view.due_fen)} 元，已付 {yuan(view.paid_fen)} 元，"
            f"加注 {yuan(view.charge_fen)} 元，已退 {yuan(view.refunded_fen)} 元",
        ]
    )
