"""Which role may pay by which method: at the start of a prepaid fill, and for an order that is there.

A pay code is charged for an order that exists; cash for one has its own command (`take_cash`).
"""

from api.auth.roles import Role
from domain.payment import PayMethod

_COUNTER_STARTS = frozenset({PayMethod.CASH, PayMethod.WECHAT_NATIVE})
_SCREEN_PAYS = frozenset({PayMethod.WECHAT_NATIVE, PayMethod.WECHAT_CODE})
_NOTHING: frozenset[PayMethod] = frozenset()

_TO_START: dict[Role, frozenset[PayMethod]] = {
    Role.DRIVER: frozenset({PayMethod.WECHAT_JSAPI}),
    Role.TERMINAL: frozenset({PayMethod.WECHAT_NATIVE}),
    Role.CASHIER: _COUNTER_STARTS,
    Role.MANAGER: _COUNTER_STARTS,
}
_TO_PAY: dict[Role, frozenset[PayMethod]] = {
    Role.DRIVER: frozenset({PayMethod.WECHAT_JSAPI}),
    Role.TERMINAL: _SCREEN_PAYS,
    Role.CASHIER: _SCREEN_PAYS,
    Role.MANAGER: _SCREEN_PAYS,
}


def may_start_by(role: Role, method: PayMethod) -> bool:
    """Return whether a role may start a prepaid fill by this method."""
    return method in _TO_START.get(role, _NOTHING)


def may_pay_by(role: Role, method: PayMethod) -> bool:
    """Return whether a role may ask an order for a payment by this method."""
    return method in _TO_PAY.get(role, _NOTHING)
