"""Magic values and fault rules: the trigger travels in data that the product sends anyway.

Order of precedence: admin fault rule, header `Wechatpay-Negative-Test`, auth code / openid / refund
reason, default.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from sandbox.wechat.states import TradeState


class Mangle(StrEnum):
    """What happens to an answer after the call was executed."""

    NONE = "none"
    LOST = "lost"
    BAD_SIGNATURE = "badsig"
    UNSIGNED = "unsigned"
    TRUNCATED = "truncate"
    HTML_502 = "html502"


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeScenario:
    """Behaviour of one auth code.

    `error` "" answers with the transaction; `state` None creates no order. `ends`/`after_s` change a
    USERPAYING order
    later. `reverse_failures` -1 never lets a reverse through. `times` > 0: the error shows that often,
    then success.
    """

    error: str = ""
    state: TradeState | None = TradeState.SUCCESS
    ends: TradeState | None = None
    after_s: int = 0
    mangle: Mangle = Mangle.NONE
    hidden_s: int = 0
    reverse_failures: int = 0
    pays_on_reverse: bool = False
    coupon: bool = False
    times: int = 0
    lost_queries: int = 0


CODE_SCENARIOS: dict[str, CodeScenario] = {
    "0000": CodeScenario(),
    "0001": CodeScenario(error="NOT_ENOUGH", state=TradeState.PAYERROR),
    "0002": CodeScenario(error="AUTH_CODE_EXPIRE", state=None),
    "0003": CodeScenario(error="AUTH_CODE_INVALID", state=None),
    "0010": CodeScenario(
        error="USERPAYING", state=TradeState.USERPAYING, ends=TradeState.SUCCESS, after_s=10
    ),
    "0011": CodeScenario(
        error="USERPAYING", state=TradeState.USERPAYING, ends=TradeState.PAYERROR, after_s=10
    ),
    "0012": CodeScenario(
        error="USERPAYING", state=TradeState.USERPAYING, ends=TradeState.REVOKED, after_s=45
    ),
    "0013": CodeScenario(error="USERPAYING", state=TradeState.USERPAYING, pays_on_reverse=True),
    "0020": CodeScenario(error="SYSTEM_ERROR"),
    "0021": CodeScenario(error="SYSTEM_ERROR", state=None),
    "0022": CodeScenario(mangle=Mangle.LOST),
    "0023": CodeScenario(mangle=Mangle.LOST, hidden_s=8),
    "0024": CodeScenario(
        error="BANK_ERROR", state=TradeState.USERPAYING, ends=TradeState.SUCCESS, after_s=20
    ),
    "0030": CodeScenario(reverse_failures=2),
    "0031": CodeScenario(reverse_failures=-1),
    "0040": CodeScenario(error="RULE_LIMIT", state=TradeState.PAYERROR),
    "0041": CodeScenario(error="FREQUENCY_LIMITED", times=2),
    "0050": CodeScenario(coupon=True),
    "0060": CodeScenario(mangle=Mangle.BAD_SIGNATURE),
    "0061": CodeScenario(mangle=Mangle.UNSIGNED),
    "0062": CodeScenario(mangle=Mangle.TRUNCATED),
    "0063": CodeScenario(mangle=Mangle.HTML_502),
}

# WeChat's own header of its v2 simulation system, kept as a trigger for pay-by-code.
NEGATIVE_TESTS: dict[str, CodeScenario] = {
    "MICROPAY_USERPAYING": CODE_SCENARIOS["0010"],
    "MICROPAY_TIMEOUT": CODE_SCENARIOS["0022"],
    "MICROPAY_PAYERROR": CODE_SCENARIOS["0011"],
    "MICROPAY_PAY_QUERY_TIMEOUT": CodeScenario(mangle=Mangle.LOST, lost_queries=1),
}
_CODE_PREFIXES = ("10", "11", "12", "13", "14", "15")


def code_scenario(auth_code: str, negative_test: str = "") -> CodeScenario:
    """The scenario of an 18-digit code by its last four digits; an ordinary code pays."""
    if negative_test in NEGATIVE_TESTS:
        return NEGATIVE_TESTS[negative_test]
    if len(auth_code) != 18 or not auth_code.isdigit() or not auth_code.startswith(_CODE_PREFIXES):
        return CODE_SCENARIOS["0003"]
    return CODE_SCENARIOS.get(auth_code[-4:], CODE_SCENARIOS["0000"])


class Paying(StrEnum):
    """When the payer of a prepaid order pays without anybody touching a telephone."""

    PHONE = "phone"
    AT_ONCE = "at_once"
    NEVER = "never"
    FAILS = "fails"
    LATER = "later"
    BEFORE_EXPIRY = "before_expiry"
    AT_CLOSE = "at_close"


class Telling(StrEnum):
    """How the payment is notified."""

    NORMAL = "normal"
    TWICE_MORE = "duplicate"
    NEVER = "lost"
    LATE = "late"
    BEFORE_ANSWER = "before"
    TAMPERED_FIRST = "tamper"
    PLATFORM_KEY = "platform"


@dataclass(frozen=True, slots=True, kw_only=True)
class PayerRule:
    """Behaviour of one openid suffix. Times in seconds of the sandbox clock."""

    paying: Paying = Paying.AT_ONCE
    after_s: int = 0
    telling: Telling = Telling.NORMAL
    coupon: bool = False
    rejected: bool = False


PAYER_RULES: dict[str, PayerRule] = {
    "_ok": PayerRule(),
    "_nopay": PayerRule(paying=Paying.NEVER),
    "_fail": PayerRule(paying=Paying.FAILS),
    "_late30": PayerRule(paying=Paying.LATER, after_s=30),
    "_expire": PayerRule(paying=Paying.BEFORE_EXPIRY),
    "_race": PayerRule(paying=Paying.AT_CLOSE),
    "_dup": PayerRule(telling=Telling.TWICE_MORE),
    "_lost": PayerRule(telling=Telling.NEVER),
    "_slow": PayerRule(telling=Telling.LATE),
    "_before": PayerRule(telling=Telling.BEFORE_ANSWER),
    "_badopenid": PayerRule(paying=Paying.PHONE, rejected=True),
    "_tamper": PayerRule(telling=Telling.TAMPERED_FIRST),
    "_plat": PayerRule(telling=Telling.PLATFORM_KEY),
    "_coupon": PayerRule(coupon=True),
}
LATE_NOTICE_S = 600
COUPON_FEN = 500
_BY_PHONE = PayerRule(paying=Paying.PHONE)


def payer_rule(openid: str) -> PayerRule:
    """The rule of an openid; without a known suffix the order waits for the telephone."""
    head, mark, suffix = openid.rpartition("_")
    return PAYER_RULES.get(mark + suffix, _BY_PHONE) if mark and head else _BY_PHONE


_SIM = re.compile(r"\[SIM:(\w+)(?:=(\d+))?\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class RefundRule:
    """What a refund reason asks for: `[SIM:name]` or `[SIM:name=n]`."""

    name: str = ""
    number: int = 1


REFUND_RULES = ("abnormal", "closed", "slow", "not_enough", "syserr_done", "syserr_not", "lost", "dupnotify")


def refund_rule(reason: str) -> RefundRule:
    """Parse the prefix of a refund reason; an unknown name is an ordinary reason."""
    found = _SIM.match(reason)
    if found is None or found[1] not in REFUND_RULES:
        return RefundRule()
    return RefundRule(name=found[1], number=int(found[2] or 1))


class Phase(StrEnum):
    """When a fault rule strikes:

    Before the call is executed, after it, or at the delivery of a notification.
    """

    BEFORE = "before"
    AFTER = "after"
    NOTIFY = "notify"


ACTIONS = {
    Phase.BEFORE: ("code", "reset_conn", "delay_ms", "html502"),
    Phase.AFTER: ("code", "lost", "truncate", "badsig", "unsigned", "html502", "delay_ms"),
    Phase.NOTIFY: ("lost", "delay_ms", "duplicate", "tamper"),
}


@dataclass(slots=True, kw_only=True)
class FaultRule:
    """An admin fault. Empty match fields match everything; `times` 0 means for ever; `p` is a probability."""

    id: str
    phase: Phase
    action: str
    value: str = ""
    path: str = ""
    method: str = ""
    otn: str = ""
    mchid: str = ""
    p: float = 1.0
    times: int = 1
    used: int = 0

    def matches(self, method: str, path: str, otn: str, mchid: str) -> bool:
        """Whether the rule applies to a call; `path` is a regular expression searched in the path."""
        if self.times and self.used >= self.times:
            return False
        pairs = ((self.method, method), (self.otn, otn), (self.mchid, mchid))
        if any(wanted and wanted != seen for wanted, seen in pairs):
            return False
        return not self.path or re.search(self.path, path) is not None

    def as_dict(self) -> dict[str, Any]:
        """For the admin API and the store."""
        return {name: getattr(self, name) for name in FaultRule.__dataclass_fields__}


def parse_fault(raw: dict[str, Any], fault_id: str) -> FaultRule:
    """Read an admin fault `{match: {...}, phase, action: {name: value}, times}`; raises ValueError."""
    match = dict(raw.get("match", {}))
    action = raw.get("action", {})
    name, value = (
        next(iter(action.items())) if isinstance(action, dict) and action else (str(action or ""), "")
    )
    phase = Phase(raw.get("phase", "before"))
    if name not in ACTIONS[phase]:
        raise ValueError(f"phase {phase} knows the actions {', '.join(ACTIONS[phase])}")
    unknown = set(match) - {"host", "path", "method", "otn", "mchid", "p"}
    if unknown:
        raise ValueError(f"unknown match fields {sorted(unknown)}")
    return FaultRule(
        id=fault_id,
        phase=phase,
        action=name,
        value=str(value),
        path=str(match.get("path", "")),
        method=str(match.get("method", "")).upper(),
        otn=str(match.get("otn", "")),
        mchid=str(match.get("mchid", "")),
        p=float(match.get("p", 1.0)),
        times=int(raw.get("times", 1)),
    )


@dataclass(slots=True, kw_only=True)
class Chaos:
    """Probabilities of faults on every v3 call and notification; `slow_ms` is a range, [0, 0] for none."""

    lost_response: float = 0.0
    sys_error: float = 0.0
    sys_error_done: float = 0.0
    reset_conn: float = 0.0
    dup_notify: float = 0.0
    lost_notify: float = 0.0
    late_notify: float = 0.0
    slow_ms: list[int] = field(default_factory=lambda: [0, 0])

    def strikes(self, name: str, rng: random.Random) -> bool:
        """Draw once for the named fault."""
        chance = float(getattr(self, name))
        return chance > 0 and rng.random() < chance

    def as_dict(self) -> dict[str, Any]:
        """For the admin API."""
        return {name: getattr(self, name) for name in Chaos.__dataclass_fields__}
