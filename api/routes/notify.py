"""Where payment channels report. The channel signs the raw bytes; nothing else here authenticates."""

from typing import Literal

import structlog
from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from api.auth.roles import Role, allow
from api.deps import Services, ServicesDep
from api.ports import NotificationRefusedError

log = structlog.get_logger(__name__)


class ChannelRefusal(BaseModel):
    """The refusal of a notification in the form that WeChat Pay asks for; it sends the notification again."""

    code: Literal["FAIL"] = "FAIL"
    message: Literal["失败"] = "失败"


router = APIRouter(
    prefix="/v1/notify/wechat",
    tags=["渠道通知"],
    dependencies=[Depends(allow(Role.ANYONE))],
    responses={
        401: {"model": ChannelRefusal, "description": "Not signed by WeChat Pay; told in its own form"}
    },
)


@router.post("/pay", summary="微信支付通知", status_code=204, response_class=Response)
async def payment(request: Request, services: ServicesDep) -> Response:
    """Store a payment notification and tell the order; 204 as soon as it is stored."""
    return await _receive(request, services)


@router.post("/refund", summary="微信退款通知", status_code=204, response_class=Response)
async def refund(request: Request, services: ServicesDep) -> Response:
    """Store a refund notification and tell the order; 204 as soon as it is stored."""
    return await _receive(request, services)


async def _receive(request: Request, services: Services) -> Response:
    try:
        await services.receiver.receive(request.headers, await request.body())
    except NotificationRefusedError as error:
        log.warning("api.notification.refused", reason=error.reason)
        return JSONResponse(ChannelRefusal().model_dump(), status_code=401)
    return Response(status_code=204)
