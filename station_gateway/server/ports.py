"""What the gateway server needs from the outside: a store and a way to tell workflows."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Protocol

from contracts.station import CommandResult, SaleRecord
from db.repositories.gateway import LinkState, StoredCommand, StoredMessage


class Store(Protocol):
    """The gateway's tables; see `db.repositories.gateway.GatewayRepository`. Called on threads."""

    def store_messages(self, messages: Sequence[StoredMessage], now: datetime) -> set[str]:
        """Insert once; return the external ids of the new ones."""
        ...

    def unhandled(self, sources: Iterable[str], *, before: datetime, limit: int) -> list[StoredMessage]:
        """Return stored sales that no workflow knows of."""
        ...

    def mark_handled(self, handled: Sequence[tuple[str, str, str]], now: datetime) -> None:
        """Mark (source, external_id, outcome)."""
        ...

    def count_attempt(self, source: str, external_id: str) -> None:
        """Count a failed try."""
        ...

    def store_command(self, command: StoredCommand, now: datetime) -> str | None:
        """Store a command; return the result of the same command when there is one."""
        ...

    def open_commands(self, station_code: str) -> list[StoredCommand]:
        """Return commands without result."""
        ...

    def store_results(
        self, station_code: str, results: Sequence[tuple[str, str, bool]], unknown: str, now: datetime
    ) -> None:
        """Store (command_id, result, told)."""
        ...

    def untold(self, stations: Iterable[str], *, before: datetime, limit: int) -> list[tuple[str, str]]:
        """Return results that nobody was told."""
        ...

    def mark_told(self, command_id: str, result: str, now: datetime) -> None:
        """Mark a result as told."""
        ...

    def put_links(self, links: Sequence[LinkState]) -> None:
        """Record when stations were heard of."""
        ...

    def put_states(self, rows: Sequence[dict[str, Any]]) -> None:
        """Replace the live view."""
        ...

    def operator_of(self, station_code: str) -> str | None:
        """Return the operator's code."""
        ...


class Desk(Protocol):
    """The workflows, as the gateway sees them."""

    async def tell_sale(self, sale: SaleRecord) -> str:
        """Hand a sale to its workflow and return what became of it. Raises DeskError: try again later."""
        ...

    async def tell_result(self, result: CommandResult) -> None:
        """Hand a late result to its order's workflow. Raises DeskError: try again later."""
        ...


class DeskError(Exception):
    """The workflow service did not take it; the row stays unhandled and is sent again."""
