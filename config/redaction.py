"""Keeps personal data and secrets out of the logs (PIPL arts. 6 and 51).

By field name, and by form inside text.
"""

import re
from collections.abc import Mapping, MutableMapping
from typing import Any, Final

MASK: Final = "***"
_DEPTH: Final = 4
_PERSONAL: Final = frozenset(
    {
        "phone",
        "mobile",
        "phone_number",
        "purephonenumber",
        "openid",
        "unionid",
        "plate",
        "plate_no",
        "licence_plate",
        "auth_code",
        "authcode",
        "id_card",
        "id_no",
        "id_number",
        "real_name",
        "session_key",
        "js_code",
        "login_code",
        "payer",
    }
)
_SECRET: Final = frozenset(
    {
        "password",
        "passwd",
        "secret",
        "appsecret",
        "token",
        "access_token",
        "authorization",
        "cookie",
        "set-cookie",
        "api_key",
        "apiv3_key",
        "private_key",
        "device_key",
        "jwt",
    }
)
_NAMES: Final = _PERSONAL | _SECRET
_SUFFIXES: Final = tuple(f"_{name}" for name in sorted(_NAMES))
# Mobile number, identity card or payment code (18 digits), openid (28 characters that start with o).
_FORMS: Final = re.compile(
    r"(?<![\w-])(?:1[3-9]\d{9}|\d{17}[\dXx]|o[A-Za-z0-9_-]{27})(?![\w-])"
    r"|[京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼][A-HJ-NP-Z][·-]?[A-HJ-NP-Z0-9]{5,6}(?!\w)"
)


def is_private(name: str) -> bool:
    """Whether a field of that name is masked."""
    lowered = name.lower()
    return lowered in _NAMES or lowered.endswith(_SUFFIXES)


def redact_text(text: str) -> str:
    """Mask what looks like personal data inside a text."""
    return _FORMS.sub(MASK, text)


def _redact(value: object, depth: int) -> object:
    if isinstance(value, str):
        return redact_text(value)
    if depth >= _DEPTH:
        return value if isinstance(value, int | bool | None) else MASK
    if isinstance(value, Mapping):
        return {
            str(key): MASK if is_private(str(key)) else _redact(one, depth + 1) for key, one in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [_redact(one, depth + 1) for one in value]
    return value


def redact(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """The structlog processor. Log event names and our own ids stay readable.

    They are never of those forms.
    """
    for name in list(event):
        if name.startswith("_"):
            continue
        event[name] = MASK if is_private(name) else _redact(event[name], 0)
    return event
