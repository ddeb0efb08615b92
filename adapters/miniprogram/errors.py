"""The mini-program host's `errcode` as typed errors. It answers HTTP 200 always, so only `errcode` counts."""

from collections.abc import Mapping


class MiniProgramError(Exception):
    """An answer with an `errcode` that has no better type. Texts carry no secret and no personal data."""

    def __init__(self, errcode: int, errmsg: str = "") -> None:
        super().__init__(f"errcode {errcode}: {errmsg}")
        self.errcode = errcode
        self.errmsg = errmsg


class MiniProgramBusyError(MiniProgramError):
    """Busy, unreachable or no readable answer: try later."""


class MiniProgramRateLimitError(MiniProgramBusyError):
    """Too many calls (of this user, or today): try later, and less."""


class MiniProgramConfigError(MiniProgramError):
    """Appid, secret or IP list is wrong: an operator has to act."""


class LoginCodeInvalidError(MiniProgramError):
    """The code of `wx.login` is wrong, used or older than 5 minutes: the mini-program logs in again."""


class PhoneCodeInvalidError(MiniProgramError):
    """The phone number's code is wrong, used, older than 5 minutes, or a login code."""


class RiskUserError(MiniProgramError):
    """WeChat blocks the login of a risky user."""


class SubscribeRefusedError(MiniProgramError):
    """The user refused, or the one-time subscription is used up. Final: repeating never helps."""


class MessageInvalidError(MiniProgramError):
    """Template, page, receiver or a field's content is wrong. Final: the same message never passes."""


class AccessTokenError(MiniProgramError):
    """The access token is refused even after a refresh."""


_COMMON: Mapping[int, type[MiniProgramError]] = {
    -1: MiniProgramBusyError,
    45009: MiniProgramRateLimitError,
    45011: MiniProgramRateLimitError,
    40013: MiniProgramConfigError,
    40125: MiniProgramConfigError,
    40164: MiniProgramConfigError,
    41002: MiniProgramConfigError,
    40226: RiskUserError,
    40001: AccessTokenError,
    42001: AccessTokenError,
}
LOGIN_ERRORS: Mapping[int, type[MiniProgramError]] = {
    **_COMMON,
    40029: LoginCodeInvalidError,
    40163: LoginCodeInvalidError,
}
TOKEN_ERRORS = _COMMON
PHONE_ERRORS: Mapping[int, type[MiniProgramError]] = {
    **_COMMON,
    40029: PhoneCodeInvalidError,
    40163: PhoneCodeInvalidError,
}
MESSAGE_ERRORS: Mapping[int, type[MiniProgramError]] = {
    **_COMMON,
    43101: SubscribeRefusedError,
    47003: MessageInvalidError,
    40037: MessageInvalidError,
    40003: MessageInvalidError,
    41030: MessageInvalidError,
}
