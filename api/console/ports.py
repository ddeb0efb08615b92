"""What the console needs from the API process: the engine, the commands, and a few values."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from sqlalchemy import Engine

from api.approval import Approver
from api.auth.roles import Principal
from contracts.fill import CommandAnswer, ResolveCommand


class CommandUnavailableError(Exception):
    """The command could not be handed over (no workflow engine, no worker in time); nothing is known to have changed."""


class ConsoleCommands(Protocol):
    """The commands that the API's cashier routes use too; each may be repeated.

    Every method raises CommandUnavailableError when nobody answered in time; a refusal is an answer, not an error.
    """

    async def take_cash(self, order_no: str, cashier_id: int, received_fen: int) -> CommandAnswer:
        """Record that the whole amount due, `received_fen`, was taken in cash."""
        ...

    async def cancel(
        self, order_no: str, person: Principal, reason: str, approver: Approver | None, address: str
    ) -> CommandAnswer:
        """End an order with a reason; a cashier needs an approver for delivered fuel that nobody paid.

        `address` is where the request comes from: the approver's password is limited as a login is.
        """
        ...

    async def resolve(self, order_no: str, command: ResolveCommand) -> CommandAnswer:
        """Carry out a person's decision about an order that needs one."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsoleDeps:
    """Everything the console is given; it reads no environment.

    `phone_mask` turns a driver's encrypted phone into a masked one (`138****1234`); without it the console shows
    no phone. `client_allowed` answers whether one more login try from an address is in its rate limit.
    """

    engine: Engine
    commands: ConsoleCommands
    secret_key: str
    clock: Callable[[], datetime]
    temporal_ui_url: str = ""
    temporal_namespace: str = "default"
    sandbox: bool = False
    secure_cookies: bool = False
    phone_mask: Callable[[str], str] | None = None
    client_allowed: Callable[[str], bool] | None = None
