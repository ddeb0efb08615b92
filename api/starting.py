"""Checks of a quote and a start, before any workflow exists: an update's validator would come too late."""

from datetime import datetime

from api.auth.roles import Principal, Role
from api.errors import ProblemError, not_found
from api.idempotency import key_reused
from api.methods import may_start_by
from api.presenting import is_online
from api.schemas.orders import QuoteBody, QuoteOut, StartBody
from contracts.fill import StartAnswer, StartFill, StartOutcome
from db.repositories.views_stations import StartFacts
from domain.money import round_half_up, yuan
from domain.policy import MAX_PREPAID_FEN, MIN_PREPAID_FEN

_STALE = ProblemError(
    503,
    "station_stale",
    "油站暂时离线",
    "油站网络中断，请稍后再试或到柜台付款",
    headers={"Retry-After": "30"},
)


def check_place(principal: Principal, body: QuoteBody, facts: StartFacts | None) -> StartFacts:
    """Return the facts of a nozzle that the caller may sell on.

    Raises ProblemError 404 for an unknown nozzle and for one of somebody else's station or screen.
    """
    foreign = (
        facts is None
        or (principal.role is not Role.DRIVER and principal.station_id != facts.station_id)
        or (bool(principal.nozzle_numbers) and body.nozzle_no not in principal.nozzle_numbers)
    )
    if facts is None or foreign:
        raise not_found("没有这个油站或这把油枪")
    return facts


def check_quote(body: QuoteBody, facts: StartFacts, *, now: datetime) -> None:
    """Raise ProblemError when nothing can be sold now: 422 for amount or closed nozzle, 503 for a silent station."""
    if not MIN_PREPAID_FEN <= body.amount_fen <= MAX_PREPAID_FEN:
        limits = f"金额应在 {yuan(MIN_PREPAID_FEN)} 元到 {yuan(MAX_PREPAID_FEN)} 元之间"
        raise ProblemError(422, "amount_invalid", "金额不正确", limits)
    if not (facts.station_open and facts.nozzle_open and facts.prepaid_allowed and facts.price_fen_per_unit):
        raise ProblemError(422, "nozzle_closed", "油枪暂停服务", "请选择其他油枪")
    if not is_online(facts.last_seen_at, now):
        raise _STALE


def check_start(
    principal: Principal, body: StartBody, facts: StartFacts, *, order_no: str, now: datetime
) -> None:
    """Raise ProblemError when a start is refused: 422, 503, or 409 with the price in force."""
    if not may_start_by(principal.role, body.method):
        raise ProblemError(422, "method_not_allowed_here", "不支持的支付方式", "请选择其他支付方式")
    check_quote(body, facts, now=now)
    if (body.price_fen_per_unit, body.price_version) != (facts.price_fen_per_unit, facts.price_version):
        raise price_changed(facts.price_fen_per_unit, facts.price_version)
    held = facts.held_until is None or facts.held_until > now
    if facts.holder_order_no not in (None, order_no) and held:
        raise _taken()


def price_changed(price_fen_per_unit: int, price_version: int) -> ProblemError:
    """Return the refusal of a start at an old price, with the price in force to confirm."""
    return ProblemError(
        409,
        "price_changed",
        "价格已变动",
        f"现价 {yuan(price_fen_per_unit)} 元，请重新确认",
        extra={"price_fen_per_unit": price_fen_per_unit, "price_version": price_version},
    )


def _taken() -> ProblemError:
    return ProblemError(409, "nozzle_taken", "油枪正在使用", "请等待前一位顾客完成，或选择其他油枪")


def quote_out(body: QuoteBody, facts: StartFacts) -> QuoteOut:
    """Return a quote; the quantity is an estimate, the meter decides."""
    return QuoteOut(
        station_code=facts.station_code,
        nozzle_no=body.nozzle_no,
        product_name=facts.product_name,
        unit=facts.unit,
        amount_fen=body.amount_fen,
        price_fen_per_unit=facts.price_fen_per_unit,
        price_version=facts.price_version,
        estimated_quantity_milli=round_half_up(body.amount_fen * 1000, facts.price_fen_per_unit),
    )


def start_fill(principal: Principal, body: StartBody, *, order_no: str, body_hash: str) -> StartFill:
    """Return the workflow's start message for a caller."""
    is_desk = principal.role in (Role.CASHIER, Role.MANAGER)
    return StartFill(
        order_no=order_no,
        station_code=body.station_code,
        nozzle_no=body.nozzle_no,
        amount_fen=body.amount_fen,
        price_fen_per_unit=body.price_fen_per_unit,
        price_version=body.price_version,
        method=body.method,
        body_hash=body_hash,
        driver_id=principal.id if principal.role is Role.DRIVER else None,
        cashier_id=principal.id if is_desk else None,
        terminal_id=principal.id if principal.role is Role.TERMINAL else None,
    )


def check_answer(answer: StartAnswer) -> None:
    """Raise the ProblemError of a start that the order itself refused; nothing has changed then."""
    outcome, message = answer.outcome, answer.message
    match outcome:
        case StartOutcome.ACCEPTED:
            return
        case StartOutcome.PRICE_CHANGED:
            raise price_changed(answer.price_fen_per_unit, answer.price_version)
        case StartOutcome.NOZZLE_TAKEN:
            raise _taken()
        case StartOutcome.STATION_STALE:
            raise _STALE
        case StartOutcome.KEY_REUSED:
            raise key_reused()
        case StartOutcome.TOO_MANY_UNPAID:
            raise ProblemError(409, outcome.value, "待付款订单过多", message or "请先付款或取消已下的订单")
        case StartOutcome.PAYMENT_UNAVAILABLE:
            headers = {"Retry-After": "5"}
            detail = message or "支付渠道繁忙，请重新下单"
            raise ProblemError(503, "payment_unavailable", "暂时无法支付", detail, headers=headers)
        case _:
            raise ProblemError(422, outcome.value, "无法下单", message)
