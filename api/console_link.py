"""Joins the staff console to this process: the same engine, the same commands."""

from fastapi import Depends, FastAPI
from fastapi.responses import RedirectResponse

from api.approval import Approvals, Approver
from api.auth.roles import Principal, Role, allow
from api.commands import Commands
from api.console import mount_console
from api.console.ports import CommandUnavailableError, ConsoleDeps
from api.deps import Services
from api.errors import ProblemError
from api.ports import CommandRejectedError, TemporalAwayError
from contracts.fill import CommandAnswer, ResolveCommand
from db.crypto import CipherError, ColumnCipher


class ConsoleCommandsAdapter:
    """`ConsoleCommands` over the API's commands: a rejection is an answer there, silence a typed error."""

    def __init__(self, commands: Commands, approvals: Approvals) -> None:
        self._commands, self._approvals = commands, approvals

    async def take_cash(self, order_no: str, cashier_id: int, received_fen: int) -> CommandAnswer:
        """Take cash; raises CommandUnavailableError when nobody answered in time."""
        try:
            return await self._commands.take_cash(order_no, cashier_id, received_fen)
        except CommandRejectedError as error:
            return _refused(error)
        except TemporalAwayError as error:
            raise CommandUnavailableError from error

    async def cancel(
        self, order_no: str, person: Principal, reason: str, approver: Approver | None, address: str
    ) -> CommandAnswer:
        """Cancel with a reason; raises CommandUnavailableError when nobody answered in time."""
        try:
            actor = await self._approvals.actor_of_cancel(person, order_no, approver, address)
            return await self._commands.cancel(order_no, actor, reason)
        except ProblemError as error:
            return CommandAnswer(ok=False, status=None, code=error.code, message=error.detail)
        except CommandRejectedError as error:
            return _refused(error)
        except TemporalAwayError as error:
            raise CommandUnavailableError from error

    async def resolve(self, order_no: str, command: ResolveCommand) -> CommandAnswer:
        """Carry out a decision; raises CommandUnavailableError when nobody answered in time."""
        try:
            return await self._commands.resolve(order_no, command)
        except CommandRejectedError as error:
            return _refused(error)
        except TemporalAwayError as error:
            raise CommandUnavailableError from error


def _refused(error: CommandRejectedError) -> CommandAnswer:
    return CommandAnswer(ok=False, status=None, code=error.code, message=error.message)


async def _to_console() -> RedirectResponse:
    """A person types the address without the slash."""
    return RedirectResponse("/console/")


class ConsoleLink:
    """Mounts the console; the values come from the settings."""

    def __init__(
        self,
        *,
        secret_key: str,
        cipher: ColumnCipher,
        temporal_ui_url: str,
        temporal_namespace: str,
        sandbox: bool,
        secure_cookies: bool,
    ) -> None:
        self._secret_key, self._cipher = secret_key, cipher
        self._ui_url, self._namespace = temporal_ui_url, temporal_namespace
        self._sandbox, self._secure = sandbox, secure_cookies

    def __call__(self, app: FastAPI, parts: Services) -> None:
        """Mount the console on the app."""
        deps = ConsoleDeps(
            engine=parts.deps.engine,
            commands=ConsoleCommandsAdapter(parts.commands, parts.approvals),
            secret_key=self._secret_key,
            clock=parts.clock,
            temporal_ui_url=self._ui_url,
            temporal_namespace=self._namespace,
            sandbox=self._sandbox,
            secure_cookies=self._secure,
            phone_mask=self._mask,
            client_allowed=parts.logins.is_allowed,
        )
        app.add_api_route(
            "/console",
            _to_console,
            include_in_schema=False,
            dependencies=[Depends(allow(Role.ANYONE))],
            response_class=RedirectResponse,
        )
        mount_console(app, deps)

    def _mask(self, envelope: str) -> str:
        """Return an encrypted phone number as 138****1234, nothing when it does not open."""
        try:
            phone = self._cipher.decrypt("driver", "phone", envelope)
        except CipherError:
            return ""
        return f"{phone[:3]}****{phone[-4:]}"
