"""Client of WeChat's mini-program host: code2Session, phone number, subscribe messages.

Access tokens come from `stable_token` only (the old token call would invalidate everybody else's token),
fetched by one thread while the others wait. Secrets are in URLs here, so transport errors are never chained
or logged.
"""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import requests
import structlog
from requests.adapters import HTTPAdapter

from adapters.miniprogram.errors import (
    LOGIN_ERRORS,
    MESSAGE_ERRORS,
    PHONE_ERRORS,
    TOKEN_ERRORS,
    AccessTokenError,
    MiniProgramBusyError,
    MiniProgramError,
)

BASE_URL = "https://api.weixin.qq.com"
TIMEOUT_S = (3.05, 5)
TOKEN_MARGIN_S = 300
"""WeChat gives a new token in the last five minutes of the old one, which lives on for five more."""

_log = structlog.get_logger(__name__)


def epoch_seconds() -> int:
    """Return the wall clock in whole seconds."""
    return int(time.time())


@dataclass(frozen=True, slots=True, kw_only=True)
class MiniProgramSession:
    """Who logged in. WeChat's session_key stays out of it: nothing here needs it and it must not travel."""

    openid: str
    unionid: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Token:
    value: str
    refresh_at: int


class MiniProgramClient:
    """Speaks for one mini-program; thread-safe, repeats nothing but one call after a refused token."""

    def __init__(
        self,
        base_url: str,
        appid: str,
        secret: str,
        *,
        timeout_s: tuple[float, float] = TIMEOUT_S,
        clock: Callable[[], int] = epoch_seconds,
    ) -> None:
        self._base = base_url.rstrip("/")
        self._appid = appid
        self._secret = secret
        self._timeout_s = timeout_s
        self._clock = clock
        self._token: _Token | None = None
        self._token_lock = threading.Lock()
        self._local = threading.local()

    def code_to_session(self, code: str) -> MiniProgramSession:
        """Exchange the code of `wx.login`.

        Raises LoginCodeInvalidError, RiskUserError, MiniProgramBusyError, MiniProgramConfigError.
        """
        params = {
            "appid": self._appid,
            "secret": self._secret,
            "js_code": code,
            "grant_type": "authorization_code",
        }
        body = self._call("GET", "/sns/jscode2session", LOGIN_ERRORS, params=params)
        return MiniProgramSession(openid=_text(body, "openid"), unionid=str(body.get("unionid") or ""))

    def phone_number(self, code: str) -> str:
        """Return the phone number (without country code) behind the code of the phone button.

        Raises PhoneCodeInvalidError, MiniProgramBusyError, AccessTokenError.
        """
        body = self._with_token("/wxa/business/getuserphonenumber", PHONE_ERRORS, {"code": code})
        info = body.get("phone_info")
        return _text(info if isinstance(info, dict) else {}, "purePhoneNumber")

    def send_subscribe_message(
        self,
        *,
        openid: str,
        template_id: str,
        data: Mapping[str, str],
        page: str = "",
        state: str = "formal",
    ) -> None:
        """Send one message of a one-time subscription; `data` maps template keys to texts.

        Raises SubscribeRefusedError and MessageInvalidError (final), MiniProgramBusyError, AccessTokenError.
        """
        message: dict[str, Any] = {
            "touser": openid,
            "template_id": template_id,
            "data": {key: {"value": value} for key, value in data.items()},
            "miniprogram_state": state,
            "lang": "zh_CN",
        }
        if page:
            message["page"] = page
        self._with_token("/cgi-bin/message/subscribe/send", MESSAGE_ERRORS, message)

    def _with_token(
        self, path: str, errors: Mapping[int, type[MiniProgramError]], body: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Call with the access token; a refused token is replaced once."""
        token = self._access_token()
        try:
            return self._call("POST", path, errors, params={"access_token": token}, json=body)
        except AccessTokenError:
            _log.warning("miniprogram.token.refused")
        fresh = self._access_token(refused=token)
        return self._call("POST", path, errors, params={"access_token": fresh}, json=body)

    def _access_token(self, refused: str = "") -> str:
        """Return a token that was not refused; whoever comes while one is fetched waits for that one."""
        with self._token_lock:
            held = self._token
            if held is not None and held.value != refused and self._clock() < held.refresh_at:
                return held.value
            self._token = self._fetch_token(force=False)
            if self._token.value == refused:
                # Forcing is limited to 20 a day, so only when WeChat insists on the token that it refuses.
                self._token = self._fetch_token(force=True)
            return self._token.value

    def _fetch_token(self, *, force: bool) -> _Token:
        body = self._call(
            "POST",
            "/cgi-bin/stable_token",
            TOKEN_ERRORS,
            json={
                "grant_type": "client_credential",
                "appid": self._appid,
                "secret": self._secret,
                "force_refresh": force,
            },
        )
        lifetime = body.get("expires_in")
        if not isinstance(lifetime, int):
            raise MiniProgramBusyError(-1, "token without lifetime")
        return _Token(
            value=_text(body, "access_token"), refresh_at=self._clock() + max(lifetime - TOKEN_MARGIN_S, 1)
        )

    def _call(
        self, method: str, path: str, errors: Mapping[int, type[MiniProgramError]], **kwargs: Any
    ) -> dict[str, Any]:
        """Make one call; raises the error of `errcode`, MiniProgramBusyError without a readable answer."""
        try:
            response = self._session().request(
                method, self._base + path, timeout=self._timeout_s, allow_redirects=False, **kwargs
            )
            body = response.json()
        except (requests.RequestException, ValueError) as error:
            # `from None`: the original names the URL, and the URL holds the secret or the token.
            raise MiniProgramBusyError(-1, type(error).__name__) from None
        if not isinstance(body, dict):
            raise MiniProgramBusyError(-1, "no object")
        errcode = body.get("errcode", 0)
        if not isinstance(errcode, int) or (errcode == 0 and response.status_code != 200):
            raise MiniProgramBusyError(-1, f"HTTP {response.status_code}")
        if errcode != 0:
            raise errors.get(errcode, MiniProgramError)(errcode, str(body.get("errmsg", "")))
        return body

    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = requests.Session()
            session.trust_env = False
            for scheme in ("https://", "http://"):
                session.mount(scheme, HTTPAdapter(pool_connections=2, pool_maxsize=2, max_retries=0))
            self._local.session = session
        return session


def _text(body: Mapping[str, Any], name: str) -> str:
    """Return a text field; an answer without it is as good as none."""
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise MiniProgramBusyError(-1, f"answer without {name}")
    return value
