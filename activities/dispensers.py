"""The dispenser boundary: one command to a station per activity. Runs inside the gateway server of the shard."""

import asyncio
from typing import Protocol

from temporalio import activity

from contracts import names
from contracts.station import AuthoriseCommand, CommandResult, StopCommand

_HEARTBEAT_S = 5


class StationCommands(Protocol):
    """Stores a command, pushes it to its station and waits for the edge's answer.

    UNKNOWN when none came in time; never raises for that. The same command id meets its stored command.
    """

    async def send(self, command: AuthoriseCommand | StopCommand) -> CommandResult:
        """Send a command down and return the answer."""
        ...


class DispenserActivities:
    """Commands to dispensers; a retry after a crash finds the stored command and its result."""

    def __init__(self, stations: StationCommands) -> None:
        self._stations = stations

    @activity.defn(name=names.ACT_AUTHORISE_DISPENSER)
    async def authorise(self, command: AuthoriseCommand) -> CommandResult:
        """Release one nozzle for one order."""
        return await self._send(command)

    @activity.defn(name=names.ACT_STOP_DISPENSER)
    async def stop(self, command: StopCommand) -> CommandResult:
        """Withdraw an order's release before fuel flows."""
        return await self._send(command)

    async def _send(self, command: AuthoriseCommand | StopCommand) -> CommandResult:
        """Heartbeat while waiting, so that a dead gateway server is noticed long before the command expires."""
        answer = asyncio.ensure_future(self._stations.send(command))
        try:
            while True:
                done, _ = await asyncio.wait({answer}, timeout=_HEARTBEAT_S)
                if done:
                    return answer.result()
                activity.heartbeat()
        finally:
            answer.cancel()
