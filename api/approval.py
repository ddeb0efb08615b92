"""A second person's word for what a cashier may not do alone: letting delivered fuel go unpaid.

Who takes a driver's cash could otherwise cancel the sale and keep it. The approver types login and password at the
counter; they are checked as a login is (rate limit, lock), and whoever may cancel the order alone may approve.
"""

import re
from dataclasses import dataclass, field

import structlog

from api.auth.logins import Logins
from api.auth.roles import Principal, Role
from api.commands import scope_of
from api.database import Database
from api.errors import ProblemError, not_found
from db.repositories import views
from domain.order import OrderStatus

_APPROVERS = frozenset({Role.MANAGER, Role.OPERATOR, Role.ADMIN})
_TWO_PEOPLE = re.compile(r"(staff:\d+) \(approved (staff:\d+)\)", re.ASCII)
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Approver:
    """What the second person typed."""

    login: str
    password: str = field(repr=False)


def needs_approval(role: str, status: str) -> bool:
    """Return whether cancelling needs a second person: a cashier, and fuel that is in the tank and not paid."""
    return role == Role.CASHIER and status == OrderStatus.UNPAID


def people_of(actor: str) -> tuple[str, ...]:
    """Return who is behind an actor of an order's story: the one who acted, then the one who approved."""
    found = _TWO_PEOPLE.fullmatch(actor)
    return found.groups() if found else (actor,)


class Approvals:
    """Decides under whose name an order is cancelled."""

    def __init__(self, db: Database, logins: Logins) -> None:
        self._db, self._logins = db, logins

    async def actor_of_cancel(
        self, principal: Principal, order_no: str, approver: Approver | None, address: str
    ) -> str:
        """Return the name for the story: `staff:3`, or `staff:3 (approved staff:4)` where approval is needed.

        Raises ProblemError 404 for an order out of sight, 403 `approval_needed` or `approval_refused` (the same
        words for every reason), 429 for too many tries. Except for the count of wrong passwords nothing changes.
        """
        if principal.role is not Role.CASHIER:
            return principal.subject
        scope = scope_of(principal)
        order = await self._db.read(lambda conn: views.order_by_no(conn, order_no, scope))
        if order is None:
            raise not_found("没有这个订单")
        if not needs_approval(principal.role, order.status):
            return principal.subject
        if approver is None:
            raise ProblemError(
                403,
                "approval_needed",
                "需要站长批准",
                "已加注未付款的订单，须由本站站长输入账号和密码批准后取消",
            )
        second = await self._approve(order_no, approver, address)
        if second is None or second.id == principal.id:
            log.warning("api.approval.refused", order_no=order_no, asked_by=principal.subject)
            raise ProblemError(
                403,
                "approval_refused",
                "批准未通过",
                "站长账号或密码不正确、账号已暂时锁定，或无权批准本站订单",
            )
        return f"{principal.subject} (approved {second.subject})"

    async def _approve(self, order_no: str, approver: Approver, address: str) -> Principal | None:
        """Return the second person, None when the password is wrong or the person may not cancel this order alone."""
        try:
            second = await self._logins.person(approver.login, approver.password, address)
            if second.role not in _APPROVERS:
                return None
            scope = scope_of(second)
        except ProblemError as error:
            if error.status in (401, 403):
                return None
            raise
        seen = await self._db.read(lambda conn: views.order_by_no(conn, order_no, scope))
        return second if seen is not None else None
