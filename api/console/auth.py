"""Ties the door to the admin's login page, keeps the session cookie, and answers calls after a session's end."""

import anyio.to_thread
from sqlalchemy.exc import OperationalError
from starlette.middleware import Middleware
from starlette.middleware.base import RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.status import HTTP_303_SEE_OTHER, HTTP_400_BAD_REQUEST
from starlette_admin.auth import AuthMiddleware, AuthProvider
from starlette_admin.exceptions import LoginFailed
from starlette_admin.helpers import index_url, safe_redirect_url

from api.console.door import SESSION_FOR, Door
from api.console.person import Person
from api.console.ports import ConsoleDeps

COOKIE = "jiazhu_console"
REFUSED_ZH = "登录名或密码不正确，或账号已被锁定。连续输错 5 次将锁定 15 分钟。"
TOO_FAST_ZH = "尝试次数过多，请稍后再试。"
BUSY_ZH = "系统繁忙，请稍后再试。"
ENDED_ZH = "登录已失效，操作没有执行，请重新登录。"
_FROM_SCRIPT = "X-CSRFToken"
"""The framework's scripts send the token in this header, its forms in a field."""


class ConsoleAuth(AuthProvider):
    """Login by staff name and password; the cookie is opaque, HttpOnly and SameSite=Strict."""

    def __init__(self, deps: ConsoleDeps, base_url: str) -> None:
        super().__init__()
        self._deps, self._base_url = deps, base_url
        self._door = Door(deps.engine)

    async def login(
        self, username: str, password: str, remember_me: bool, request: Request
    ) -> Response | None:
        """Open a session.

        Raises LoginFailed with the same words for every reason but the rate limit.
        """
        address = request.client.host if request.client else ""
        if self._deps.client_allowed is not None and not self._deps.client_allowed(address):
            raise LoginFailed(TOO_FAST_ZH)
        if "\x00" in username + password:
            raise LoginFailed(REFUSED_ZH)
        try:
            token = await anyio.to_thread.run_sync(
                self._door.enter, username.strip(), password, self._deps.clock()
            )
        except OperationalError as exc:
            raise LoginFailed(BUSY_ZH) from exc
        if token is None:
            raise LoginFailed(REFUSED_ZH)
        home = index_url(request)
        target = safe_redirect_url(request.query_params.get("next") or home, request, home)
        answer = RedirectResponse(target, status_code=HTTP_303_SEE_OTHER)
        answer.set_cookie(
            COOKIE,
            token,
            max_age=int(SESSION_FOR.total_seconds()),
            path=self._base_url,
            httponly=True,
            samesite="strict",
            secure=self._deps.secure_cookies,
        )
        return answer

    async def authenticate(self, request: Request) -> Person | None:
        """Return who is behind the cookie; asked again on every request, so a dismissal works at once."""
        token = request.cookies.get(COOKIE)
        if not token:
            return None
        return await anyio.to_thread.run_sync(self._door.who, token, self._deps.clock())

    async def logout(self, request: Request) -> Response | None:
        """End the session at the server, not only in the browser."""
        token = request.cookies.get(COOKIE)
        if token:
            await anyio.to_thread.run_sync(self._door.leave, token, self._deps.clock())
        answer = RedirectResponse(index_url(request), status_code=HTTP_303_SEE_OTHER)
        answer.delete_cookie(COOKIE, path=self._base_url)
        return answer

    def get_middleware(self) -> Middleware:
        """Return the login check of every request."""
        return Middleware(LoginCheck, provider=self)


class LoginCheck(AuthMiddleware):
    """Sends pages to the login, and tells scripts that nothing was done.

    A script follows the redirect of an action, finds a page where it expects words, and shows nothing: a cashier
    could believe that the cash was recorded. The words of a 400 are shown.
    """

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        """Return the framework's answer, but to a script of a page whose session has ended."""
        answer: Response = await super().dispatch(request, call_next)
        turned_away = request.state.is_anonymous and answer.status_code == HTTP_303_SEE_OTHER
        if turned_away and _FROM_SCRIPT in request.headers:
            return JSONResponse({"msg": ENDED_ZH}, HTTP_400_BAD_REQUEST)
        return answer
