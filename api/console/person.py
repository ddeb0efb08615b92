"""Who is at the console and what they may do. The rows they may see are in `scope.py`."""

from dataclasses import dataclass
from enum import StrEnum

from starlette.requests import Request
from starlette_admin.auth import AdminUser

from api.auth.roles import Principal
from api.auth.roles import Role as ApiRole
from api.commands import may_resolve
from contracts.fill import ResolveAction


class Role(StrEnum):
    """Staff roles as stored in the staff table."""

    CASHIER = "cashier"
    MANAGER = "manager"
    OPERATOR = "operator"
    AUDITOR = "auditor"
    ADMIN = "admin"

    @property
    def label_zh(self) -> str:
        """Return the word shown beside the name."""
        return {
            "cashier": "收银员",
            "manager": "站长",
            "operator": "运营",
            "auditor": "审计",
            "admin": "管理员",
        }[self.value]


class Deed(StrEnum):
    """What a person can do to an order; the value is the name of the row action."""

    TAKE_CASH = "take_cash"
    CANCEL = "cancel"
    RESOLVE = "resolve"


_MAY: dict[Deed, frozenset[Role]] = {
    Deed.TAKE_CASH: frozenset({Role.CASHIER, Role.MANAGER}),
    Deed.CANCEL: frozenset({Role.CASHIER, Role.MANAGER, Role.OPERATOR, Role.ADMIN}),
    Deed.RESOLVE: frozenset({Role.CASHIER, Role.MANAGER, Role.OPERATOR, Role.ADMIN}),
}
"""Cash is taken by people with a till; an auditor may look and nothing else."""


@dataclass
class Person(AdminUser):
    """The signed-in member of staff. `station_id` None means no single station."""

    staff_id: int = 0
    login: str = ""
    role: Role = Role.AUDITOR
    operator_id: int = 0
    station_id: int | None = None
    place: str = ""
    """The name of the station, or of the company."""

    @property
    def actor(self) -> str:
        """Return the name under which commands are recorded."""
        return f"staff:{self.staff_id}"

    @property
    def principal(self) -> Principal:
        """Return the person as the API's rules know callers."""
        return Principal(
            role=ApiRole(self.role.value),
            id=self.staff_id,
            operator_id=self.operator_id,
            station_id=self.station_id,
        )

    def may(self, deed: Deed) -> bool:
        """Return whether the role allows the deed at all."""
        return self.role in _MAY[deed]

    def may_resolve_by(self, action: ResolveAction, need: str = "") -> bool:
        """Return whether the role may decide in this way (for this need): the API's own rule."""
        return self.may(Deed.RESOLVE) and may_resolve(ApiRole(self.role.value), action, need)


def person_of(request: Request) -> Person:
    """Return who sent the request.

    Raises PermissionError when nobody is signed in: a page asked before the login check is a bug.
    """
    person = getattr(request.state, "admin_user", None)
    if not isinstance(person, Person):
        raise PermissionError("no member of staff is signed in")
    return person
