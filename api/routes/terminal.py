"""Kiosks, pay pillars and POS: the unpaid sales of their nozzles, the QR code, and news from other screens."""

import io
import json
from typing import Annotated

import segno
from fastapi import APIRouter, Depends, Path, Response

from api.auth.roles import COUNTER, Principal, Role, allow
from api.commands import scope_of
from api.deps import ServicesDep
from api.errors import ProblemError, not_found
from api.presenting import order_out
from api.routes.orders import Since, TradeNo, Wait, wait_for_order
from api.schemas.common import OrderNo
from api.schemas.orders import OrderOut, OrdersOut
from db.repositories import views
from domain.order import OrderStatus
from domain.payment import AttemptStatus

router = APIRouter(prefix="/v1/terminal", tags=["自助终端"])
Terminal = Annotated[Principal, Depends(allow(Role.TERMINAL))]
Screen = Annotated[Principal, Depends(allow(Role.TERMINAL, *COUNTER))]
PathTradeNo = Annotated[str, Path(pattern=r"^[0-9A-Za-z]{6,32}$")]
_QR_SCALE, _QR_BORDER = 8, 4


@router.get("/unpaid", summary="本机油枪的待付款")
async def unpaid(services: ServicesDep, principal: Terminal) -> OrdersOut:
    """Return the unpaid sales of this terminal's nozzles, newest first."""
    scope = scope_of(principal)
    rows = await services.db.read(
        lambda conn: views.orders(conn, scope, status=OrderStatus.UNPAID.value, limit=50)
    )
    return OrdersOut(orders=[order_out(r, principal) for r in rows])


@router.get("/orders/{order_no}", summary="终端订单（可等待变化）")
async def one_order(
    order_no: OrderNo,
    services: ServicesDep,
    principal: Terminal,
    wait: Wait = 0,
    since: Since = 0,
    mine: TradeNo = "",
) -> OrderOut:
    """Return an order; `notice` says 已由其他终端支付 when another screen's payment came first."""
    return await wait_for_order(services, principal, order_no, wait=wait, since=since, mine=mine)


@router.get("/qr/{out_trade_no}.svg", summary="付款二维码（SVG）", response_class=Response)
async def qr_svg(out_trade_no: PathTradeNo, services: ServicesDep, principal: Screen) -> Response:
    """Return the QR code of an open Native payment as SVG."""
    return await _qr(services, principal, out_trade_no, "svg", "image/svg+xml")


@router.get("/qr/{out_trade_no}.png", summary="付款二维码（PNG）", response_class=Response)
async def qr_png(out_trade_no: PathTradeNo, services: ServicesDep, principal: Screen) -> Response:
    """Return the QR code of an open Native payment as PNG."""
    return await _qr(services, principal, out_trade_no, "png", "image/png")


async def _qr(
    services: ServicesDep, principal: Principal, out_trade_no: str, kind: str, media_type: str
) -> Response:
    scope = scope_of(principal)
    attempt = await services.db.read(lambda conn: views.attempt(conn, out_trade_no, scope))
    code_url = json.loads(attempt.client_params).get("code_url") if attempt else None
    if attempt is None or not code_url:
        raise not_found("没有这个二维码")
    if attempt.status != AttemptStatus.OPEN:
        raise ProblemError(409, "payment_closed", "二维码已失效", "请重新选择支付方式")
    image = await services.db.call(lambda: _draw(str(code_url), kind))
    return Response(image, media_type=media_type)


def _draw(text: str, kind: str) -> bytes:
    """Return a QR code at error correction M, as payment codes use, with the quiet zone of ISO/IEC 18004."""
    out = io.BytesIO()
    segno.make(text, error="m", micro=False).save(out, kind=kind, scale=_QR_SCALE, border=_QR_BORDER)
    return out.getvalue()
