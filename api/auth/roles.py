"""Who may call what: roles, the caller as a value, and the declaration that every route carries.

`Depends(allow(Role.DRIVER))` both checks and declares; `api/access.py` reads the declarations back and refuses to
start an app with a route that has none, so that forgetting it means closed, not open.
"""

from dataclasses import dataclass
from enum import StrEnum

from fastapi import Request

from api.errors import ProblemError, unauthenticated


class Role(StrEnum):
    """Kinds of callers."""

    ANYONE = "anyone"
    """No credential: logins, and messages that carry their own proof."""
    DRIVER = "driver"
    TERMINAL = "terminal"
    CASHIER = "cashier"
    MANAGER = "manager"
    """Runs one station."""
    OPERATOR = "operator"
    """Runs all stations of one company."""
    AUDITOR = "auditor"
    """Reads what an operator may see, changes nothing."""
    ADMIN = "admin"


STAFF = (Role.CASHIER, Role.MANAGER, Role.OPERATOR, Role.AUDITOR, Role.ADMIN)
COUNTER = (Role.CASHIER, Role.MANAGER)
"""Who stands at a station's counter and may move its orders."""
DESK = (Role.CASHIER, Role.MANAGER, Role.OPERATOR, Role.ADMIN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """The caller. `nozzle_numbers` limits a terminal (empty: all of its station), `kind` is its kind."""

    role: Role
    id: int
    station_id: int | None = None
    station_code: str | None = None
    operator_id: int | None = None
    nozzle_numbers: frozenset[int] = frozenset()
    kind: str = ""

    @property
    def subject(self) -> str:
        """Return the caller's name in keys and audit lines: `driver:1`, `staff:2`, `terminal:3`."""
        return f"{'staff' if self.role in STAFF else self.role}:{self.id}"


class Allow:
    """A dependency that lets some roles in and declares them."""

    def __init__(self, *roles: Role) -> None:
        self.roles = frozenset(roles)

    async def __call__(self, request: Request) -> Principal:
        """Return the caller.

        Raises ProblemError 401 without a valid credential and 403 for a role that is not let in.
        """
        if Role.ANYONE in self.roles:
            return Principal(role=Role.ANYONE, id=0)
        principal: Principal | None = await request.app.state.services.credentials.principal(request)
        if principal is None:
            raise unauthenticated()
        if principal.role not in self.roles:
            raise ProblemError(403, "forbidden", "没有权限")
        return principal


def allow(*roles: Role) -> Allow:
    """Return the dependency that lets these roles in."""
    if not roles:
        raise ValueError("a route must name at least one role")
    return Allow(*roles)
