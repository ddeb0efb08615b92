"""Quote and start of a prepaid fill."""

from typing import Annotated

from fastapi import APIRouter, Depends

from api.auth.roles import COUNTER, Principal, Role, allow
from api.deps import ServicesDep
from api.errors import Problem, ProblemError
from api.idempotency import IdempotencyKey, key_reused
from api.ports import OrderEndedError, OrderLabels
from api.schemas.orders import PayOut, QuoteBody, QuoteOut, StartBody, StartOut
from api.starting import check_answer, check_place, check_quote, check_start, quote_out, start_fill
from db.repositories.views_stations import start_facts
from domain.ids import body_hash, order_no_of_start
from domain.money import yuan

router = APIRouter(prefix="/v1/fills", tags=["加注"])
Starter = Annotated[Principal, Depends(allow(Role.DRIVER, Role.TERMINAL, *COUNTER))]


@router.post("/quote", summary="报价", responses={404: {"model": Problem}, 422: {"model": Problem}})
async def quote(body: QuoteBody, services: ServicesDep, principal: Starter) -> QuoteOut:
    """Return the price in force for a nozzle and an amount; show it, then send it back with the start."""
    now = services.now()
    found = await services.db.read(
        lambda conn: start_facts(conn, body.station_code, body.nozzle_no, order_no="", now=now)
    )
    facts = check_place(principal, body, found)
    check_quote(body, facts, now=now)
    return quote_out(body, facts)


@router.post(
    "",
    summary="预付下单",
    status_code=201,
    responses={
        409: {
            "model": Problem,
            "description": "`price_changed` (with the new price), `nozzle_taken`, `too_many_unpaid`",
        },
        422: {"model": Problem},
        503: {"model": Problem, "description": "Send it again with the same key; nothing is lost"},
    },
)
async def start(body: StartBody, services: ServicesDep, principal: Starter, key: IdempotencyKey) -> StartOut:
    """Start a prepaid fill and return the payment's parameters.

    The order number follows from the caller and the key, so a repeated request meets its own order, also after
    it has ended.
    """
    now = services.now()
    order_no = order_no_of_start(principal.subject, key)
    content = body_hash(body.model_dump_json().encode())
    found = await services.db.read(
        lambda conn: start_facts(conn, body.station_code, body.nozzle_no, order_no=order_no, now=now)
    )
    facts = check_place(principal, body, found)
    if facts.known_order_no is None:
        check_start(principal, body, facts, order_no=order_no, now=now)
    elif facts.known_body_hash != content:
        raise key_reused()
    labels = OrderLabels(
        operator_code=facts.operator_code,
        station_code=facts.station_code,
        summary=f"预付 {facts.station_code} {body.nozzle_no}号枪 ¥{yuan(body.amount_fen)}",
    )
    fill = start_fill(principal, body, order_no=order_no, body_hash=content)
    try:
        answer = await services.temporal.start_fill(fill, labels)
    except OrderEndedError as error:
        raise ProblemError(409, "order_ended", "订单已结束", "请重新下单") from error
    check_answer(answer)
    return StartOut(
        order_no=order_no,
        amount_fen=answer.amount_fen,
        price_fen_per_unit=answer.price_fen_per_unit,
        price_version=answer.price_version,
        pay=PayOut.model_validate(answer.pay) if answer.pay else None,
    )
