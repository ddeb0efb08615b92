"""Logins of drivers and staff, and the sessions behind them."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from api.auth.roles import Principal, Role, allow
from api.deps import ServicesDep
from api.schemas.identity import DriverLogin, PhoneCode, PhoneOut, RefreshBody, StaffLogin, TokensOut

router = APIRouter(prefix="/v1", tags=["登录"])
_anyone = Depends(allow(Role.ANYONE))


def _address(request: Request) -> str:
    return request.client.host if request.client else "unknown"


@router.post("/driver/login", summary="小程序登录", dependencies=[_anyone])
async def driver_login(body: DriverLogin, request: Request, services: ServicesDep) -> TokensOut:
    """Exchange the code of `wx.login`; the first login makes the driver."""
    return TokensOut.model_validate(await services.logins.driver(body.code, _address(request)))


@router.post("/driver/phone", summary="绑定手机号")
async def driver_phone(
    body: PhoneCode, services: ServicesDep, principal: Annotated[Principal, Depends(allow(Role.DRIVER))]
) -> PhoneOut:
    """Store the phone number behind the phone button's code (encrypted)."""
    return PhoneOut(phone_masked=await services.logins.phone(principal.id, body.code))


@router.post("/staff/login", summary="员工登录", dependencies=[_anyone])
async def staff_login(body: StaffLogin, request: Request, services: ServicesDep) -> TokensOut:
    """Log in with a password; five wrong ones lock the account for 15 minutes."""
    found = await services.logins.staff(body.login, body.password, _address(request))
    return TokensOut.model_validate(found)


@router.post("/session/refresh", summary="续期", dependencies=[_anyone])
async def refresh(body: RefreshBody, services: ServicesDep) -> TokensOut:
    """Exchange a refresh token for new tokens; using one twice ends the login everywhere."""
    return TokensOut.model_validate(await services.logins.refresh(body.refresh_token))


@router.post("/session/logout", summary="退出登录", status_code=204, dependencies=[_anyone])
async def logout(body: RefreshBody, services: ServicesDep) -> Response:
    """End the login that this refresh token belongs to."""
    await services.logins.logout(body.refresh_token)
    return Response(status_code=204)
