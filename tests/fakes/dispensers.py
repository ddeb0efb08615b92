"""A stateful fake of the gateway: remembers commands by id and answers as the test arranged."""

import asyncio

from contracts.station import AuthoriseCommand, CommandResult, CommandState, StopCommand


class FakeStationCommands:
    """Accepts every command unless told otherwise; `authorised` counts real releases per order."""

    def __init__(self) -> None:
        self.authorise_answer = (CommandState.ACCEPTED, "")
        self.stop_answer = (CommandState.ACCEPTED, "")
        self.silent = False
        self.results: dict[str, CommandResult] = {}
        self.authorised: dict[str, AuthoriseCommand] = {}
        self.sends = 0

    async def send(self, command: AuthoriseCommand | StopCommand) -> CommandResult:
        """Answer a command; the same id gets the same answer."""
        self.sends += 1
        known = self.results.get(command.command_id)
        if known is not None:
            return known
        if self.silent:
            await asyncio.sleep(0.05)
            return _result(command, (CommandState.UNKNOWN, "NO_ANSWER"))
        answer = self.authorise_answer if isinstance(command, AuthoriseCommand) else self.stop_answer
        if isinstance(command, AuthoriseCommand) and answer[0] is CommandState.ACCEPTED:
            assert command.order_no not in self.authorised, "authorised twice"
            self.authorised[command.order_no] = command
        self.results[command.command_id] = _result(command, answer)
        return self.results[command.command_id]


def _result(command: AuthoriseCommand | StopCommand, answer: tuple[CommandState, str]) -> CommandResult:
    return CommandResult(
        command_id=command.command_id, order_no=command.order_no, state=answer[0], code=answer[1]
    )
