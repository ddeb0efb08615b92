"""The mini-program host api.weixin.qq.com: always HTTP 200 with `errcode`, no signatures.

Magic values: js_code `ok:<openid>` (repeatable), `once:<openid>:<nonce>` (single use), `used`, `bad`,
`busy`, `freq`,
`risk`; phone code `phone:<number>` or `phone:<number>:<nonce>` (single use); touser suffix `_refuse`,
`_baddata`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

from sandbox.wechat.engine import Engine
from sandbox.wechat.keys import KeyMaterial

Json = dict[str, Any]
TOKEN_LIFE_S = 7200
OVERLAP_S = 300
FORCED_A_DAY = 20
FORCED_GAP_S = 30
_THING_LONGEST = 20
_TEXTS = {
    -1: "system error",
    40001: "invalid credential, access_token is invalid or not latest",
    40002: "invalid grant_type",
    40003: "invalid openid",
    40013: "invalid appid",
    40029: "invalid code",
    40037: "invalid template_id",
    40125: "invalid appsecret",
    40163: "code been used",
    40226: "code blocked",
    41001: "access_token missing",
    41002: "appid missing",
    42001: "access_token expired",
    43101: "user refuse to accept the msg",
    45009: "reach max api daily quota limit",
    45011: "api minute-quota reach limit",
    47001: "data format error",
    47003: "argument invalid!",
}
_LOGIN_ERRORS = {"used": 40163, "bad": 40029, "busy": -1, "freq": 45011, "risk": 40226}


def _error(code: int) -> Json:
    return {"errcode": code, "errmsg": f"{_TEXTS[code]} rid: 6{abs(code):08d}"}


class MiniProgramHost:
    """Sessions, access tokens, telephone numbers and subscription messages of one mini program."""

    def __init__(self, engine: Engine, material: KeyMaterial) -> None:
        self._engine = engine
        self._material = material
        self._routes: dict[tuple[str, str], Callable[[dict[str, str], Json], Json]] = {
            ("GET", "/sns/jscode2session"): self._session,
            ("POST", "/cgi-bin/stable_token"): self._token,
            ("POST", "/wxa/business/getuserphonenumber"): self._phone,
            ("POST", "/cgi-bin/message/subscribe/send"): self._send,
        }

    def knows(self, method: str, path: str) -> bool:
        """Whether this host serves the path."""
        return (method, path) in self._routes

    def handle(self, method: str, path: str, query: dict[str, str], raw: bytes) -> Json:
        """Answer one call; the world's lock is held."""
        body: object = {}
        if method == "POST":
            try:
                body = json.loads(raw or b"{}")
            except ValueError:
                return _error(47001)
        if not isinstance(body, dict):
            return _error(47001)
        return self._routes[method, path](query, body)

    def _app_error(self, appid: str, secret: str) -> int:
        if not appid:
            return 41002
        if appid != self._material.appid:
            return 40013
        return 0 if secret == self._material.appsecret else 40125

    def _session(self, query: dict[str, str], _: Json) -> Json:
        wrong = self._app_error(query.get("appid", ""), query.get("secret", ""))
        if wrong:
            return _error(wrong)
        kind, _mark, rest = query.get("js_code", "").partition(":")
        if kind in _LOGIN_ERRORS and not rest:
            return _error(_LOGIN_ERRORS[kind])
        openid = rest.split(":")[0]
        if kind not in ("ok", "once") or not openid:
            return _error(40029)
        if kind == "once" and self._engine.state.count(f"code:{rest}") > 1:
            return _error(40163)
        digest = hashlib.sha256(f"{self._material.appsecret}{openid}".encode()).hexdigest()
        return {"openid": openid, "session_key": digest[:24], "unionid": f"u{digest[24:50]}"}

    # --- access token -----------------------------------------------------------------------------

    def _token(self, _: dict[str, str], body: Json) -> Json:
        wrong = self._app_error(str(body.get("appid", "")), str(body.get("secret", "")))
        if body.get("grant_type") != "client_credential":
            wrong = 40002
        if wrong:
            return _error(wrong)
        now_s = self._engine.now_ms() // 1000
        kept = self._engine.state.value("token")
        if body.get("force_refresh") and kept:
            refused = self._refuse_force(now_s, kept)
            if refused:
                return _error(refused)
            kept = self._renew(now_s, kept)
        elif not kept or now_s >= int(kept["until_s"]) - OVERLAP_S:
            kept = self._renew(now_s, kept)
        return {"access_token": kept["token"], "expires_in": int(kept["until_s"]) - now_s}

    def _refuse_force(self, now_s: int, kept: Json) -> int:
        if now_s - int(kept["since_s"]) < FORCED_GAP_S:
            return 45011
        day = now_s // 86_400
        return 45009 if self._engine.state.count(f"forced:{day}") > FORCED_A_DAY else 0

    def _renew(self, now_s: int, kept: Json) -> Json:
        token = hashlib.sha256(
            f"{self._engine.state.number()}{self._material.appsecret}".encode()
        ).hexdigest()
        fresh = {
            "token": f"{token}ABCDEFGH",
            "since_s": now_s,
            "until_s": now_s + TOKEN_LIFE_S,
            "old": kept.get("token", ""),
            "old_until_s": now_s + OVERLAP_S,
        }
        self._engine.state.set_value("token", fresh)
        return fresh

    def _token_error(self, query: dict[str, str]) -> int:
        token = query.get("access_token", "")
        if not token:
            return 41001
        kept = self._engine.state.value("token")
        now_s = self._engine.now_ms() // 1000
        if token == kept.get("token"):
            return 0 if now_s < int(kept["until_s"]) else 42001
        if token == kept.get("old"):
            return 0 if now_s < int(kept["old_until_s"]) else 42001
        return 40001

    # --- what needs a token -----------------------------------------------------------------------

    def _phone(self, query: dict[str, str], body: Json) -> Json:
        wrong = self._token_error(query)
        if wrong:
            return _error(wrong)
        code = str(body.get("code", ""))
        kind, _, rest = code.partition(":")
        number, _, nonce = rest.partition(":")
        if kind != "phone" or not number.isdigit():
            return _error(40029)
        if nonce and self._engine.state.count(f"code:{code}") > 1:
            return _error(40029)
        watermark = {"timestamp": self._engine.now_ms() // 1000, "appid": self._material.appid}
        info = {"phoneNumber": number, "purePhoneNumber": number, "countryCode": "86", "watermark": watermark}
        return {"errcode": 0, "errmsg": "ok", "phone_info": info}

    def _send(self, query: dict[str, str], body: Json) -> Json:
        wrong = self._token_error(query) or self._message_error(body)
        if wrong:
            return _error(wrong)
        number = self._engine.state.number()
        self._engine.state.event("message.sent", template_id=body["template_id"], id=number)
        self._engine.state.set_value(f"message:{number:010d}", body)
        return {"errcode": 0, "errmsg": "ok", "msgid": number}

    def _message_error(self, body: Json) -> int:
        touser = str(body.get("touser", ""))
        data = body.get("data")
        if not touser:
            return 40003
        if not body.get("template_id"):
            return 40037
        if touser.endswith("_refuse"):
            return 43101
        if touser.endswith("_baddata") or not isinstance(data, dict) or not data:
            return 47003
        for name, cell in data.items():
            value = cell.get("value") if isinstance(cell, dict) else None
            if not isinstance(value, str) or (
                name.startswith("thing") and not 0 < len(value) <= _THING_LONGEST
            ):
                return 47003
        return 0

    def messages(self) -> list[Json]:
        """Subscription messages that were accepted, oldest first."""
        values = self._engine.state.values
        return [values[name] for name in sorted(values) if name.startswith("message:")]
