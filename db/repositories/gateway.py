"""What the gateway server keeps: sales in the inbox, commands, links and the live view.

No call needs two statements to stand or fall together: rows are independent, and a station sends again what was not
acknowledged. So each statement is its own transaction, which spares the round trips of BEGIN and COMMIT.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Boolean, Engine, bindparam, case, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert

from db.repositories.columns import table_of
from db.tables.gateway import GatewayCommand, PointStateRow, StationLink
from db.tables.inbox import InboxMessage
from db.tables.station import Operator, Station

_inbox = table_of(InboxMessage)
_command = table_of(GatewayCommand)
_link = table_of(StationLink)
_state = table_of(PointStateRow)
_station = table_of(Station)
_operator = table_of(Operator)

_INSERT_MESSAGE = insert(_inbox).on_conflict_do_nothing().returning(_inbox.c.external_id)
_INSERT_COMMAND = insert(_command).on_conflict_do_nothing()
_MARK_HANDLED = (
    update(_inbox)
    .where(_inbox.c.source == bindparam("s"), _inbox.c.external_id == bindparam("e"))
    .values(handled_at=bindparam("n"), outcome=bindparam("o"))
)
_STORE_RESULT = (
    update(_command)
    .where(
        _command.c.command_id == bindparam("i"),
        _command.c.station_code == bindparam("s"),
        or_(_command.c.result.is_(None), func.strpos(_command.c.result, bindparam("u")) > 0),
    )
    .values(
        result=bindparam("r"),
        answered_at=bindparam("n"),
        told_at=case(
            (bindparam("t", type_=Boolean), bindparam("n", type_=_command.c.told_at.type)),
            (_command.c.result == bindparam("r"), _command.c.told_at),
            else_=None,
        ),
    )
)
_UPSERT_STATE = insert(_state)
_UPSERT_STATE = _UPSERT_STATE.on_conflict_do_update(
    index_elements=[_state.c.station_code, _state.c.node, _state.c.fp],
    set_={
        name: _UPSERT_STATE.excluded[name]
        for name in ("state", "nozzle", "running_amount_fen", "running_quantity_milli", "updated_at")
    },
)
_UPSERT_LINK = insert(_link)
_UPSERT_LINK = _UPSERT_LINK.on_conflict_do_update(
    index_elements=[_link.c.station_code],
    set_={name: _UPSERT_LINK.excluded[name] for name in ("last_seen_at", "boot_epoch", "outbox_depth")},
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredMessage:
    """A message of a station as the inbox keeps it."""

    source: str
    external_id: str
    kind: str
    business_no: str
    body: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredCommand:
    """A command as it is stored; `result` is the edge's answer as JSON, once known."""

    command_id: str
    station_code: str
    order_no: str
    kind: str
    body: str
    expires_at: datetime
    result: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkState:
    """When a station was last heard of, since when it runs, how much it still has to send."""

    station_code: str
    last_seen_at: datetime
    boot_epoch: int
    outbox_depth: int


class GatewayRepository:
    """All SQL of the gateway server; synchronous, to be called on a thread."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")

    # -- inbox -----------------------------------------------------------------------------------

    def store_messages(self, messages: Sequence[StoredMessage], now: datetime) -> set[str]:
        """Insert messages that are not there yet and return the external ids of the new ones; commits."""
        rows = [
            {
                "source": one.source,
                "external_id": one.external_id,
                "kind": one.kind,
                "business_no": one.business_no,
                "body": one.body,
                "received_at": now,
                "outcome": "",
                "attempts": 0,
            }
            for one in messages
        ]
        with self._engine.connect() as conn:
            return set(conn.execute(_INSERT_MESSAGE, rows).scalars())

    def unhandled(self, sources: Iterable[str], *, before: datetime, limit: int) -> list[StoredMessage]:
        """Return sales that are stored and not handed to a workflow yet; the often failed ones come last."""
        statement = (
            select(_inbox.c.source, _inbox.c.external_id, _inbox.c.kind, _inbox.c.business_no, _inbox.c.body)
            .where(
                _inbox.c.source.in_(list(sources)),
                _inbox.c.handled_at.is_(None),
                _inbox.c.received_at < before,
            )
            .order_by(_inbox.c.attempts, _inbox.c.received_at)
            .limit(limit)
        )
        with self._engine.connect() as conn:
            return [StoredMessage(**row) for row in conn.execute(statement).mappings()]

    def mark_handled(self, handled: Sequence[tuple[str, str, str]], now: datetime) -> None:
        """Mark (source, external_id, outcome) as handed to a workflow."""
        rows = [{"s": source, "e": key, "o": outcome, "n": now} for source, key, outcome in handled]
        with self._engine.connect() as conn:
            conn.execute(_MARK_HANDLED, rows)

    def count_attempt(self, source: str, external_id: str) -> None:
        """Count a failed try."""
        statement = (
            update(_inbox)
            .where(_inbox.c.source == source, _inbox.c.external_id == external_id)
            .values(attempts=_inbox.c.attempts + 1)
        )
        with self._engine.connect() as conn:
            conn.execute(statement)

    # -- commands --------------------------------------------------------------------------------

    def store_command(self, command: StoredCommand, now: datetime) -> str | None:
        """Store a command before it is sent; return the result when the same command has one already."""
        row = {
            "command_id": command.command_id,
            "station_code": command.station_code,
            "order_no": command.order_no,
            "kind": command.kind,
            "body": command.body,
            "created_at": now,
            "expires_at": command.expires_at,
        }
        with self._engine.connect() as conn:
            if conn.execute(_INSERT_COMMAND, row).rowcount == 1:
                return None
            known = select(_command.c.result).where(_command.c.command_id == command.command_id)
            result: str | None = conn.execute(known).scalar_one()
            return result

    def open_commands(self, station_code: str) -> list[StoredCommand]:
        """Return a station's commands without a result, oldest first."""
        statement = (
            select(
                _command.c.command_id,
                _command.c.station_code,
                _command.c.order_no,
                _command.c.kind,
                _command.c.body,
                _command.c.expires_at,
            )
            .where(_command.c.station_code == station_code, _command.c.result.is_(None))
            .order_by(_command.c.created_at)
        )
        with self._engine.connect() as conn:
            return [StoredCommand(**row) for row in conn.execute(statement).mappings()]

    def store_results(
        self, station_code: str, results: Sequence[tuple[str, str, bool]], unknown: str, now: datetime
    ) -> None:
        """Store (command_id, result, told) of a station's own commands.

        The first verdict stays; a result whose JSON contains `unknown` is none and is replaced by a later one.
        """
        common = {"s": station_code, "u": unknown, "n": now}
        rows = [common | {"i": one[0], "r": one[1], "t": one[2]} for one in results]
        with self._engine.connect() as conn:
            conn.execute(_STORE_RESULT, rows)

    def untold(self, stations: Iterable[str], *, before: datetime, limit: int) -> list[tuple[str, str]]:
        """Return (command_id, result) of answers that came when nobody waited for them any more."""
        statement = (
            select(_command.c.command_id, _command.c.result)
            .where(
                _command.c.station_code.in_(list(stations)),
                _command.c.result.is_not(None),
                _command.c.told_at.is_(None),
                _command.c.answered_at < before,
            )
            .order_by(_command.c.answered_at)
            .limit(limit)
        )
        with self._engine.connect() as conn:
            return [(row[0], row[1]) for row in conn.execute(statement)]

    def mark_told(self, command_id: str, result: str, now: datetime) -> None:
        """The order's workflow knows this result."""
        statement = (
            update(_command)
            .where(_command.c.command_id == command_id, _command.c.result == result)
            .values(told_at=now)
        )
        with self._engine.connect() as conn:
            conn.execute(statement)

    # -- links and states --------------------------------------------------------------------------

    def put_links(self, links: Sequence[LinkState]) -> None:
        """Record when stations were last heard of."""
        rows = [
            {
                "station_code": one.station_code,
                "last_seen_at": one.last_seen_at,
                "boot_epoch": one.boot_epoch,
                "outbox_depth": one.outbox_depth,
            }
            for one in links
        ]
        with self._engine.connect() as conn:
            conn.execute(_UPSERT_LINK, rows)

    def put_states(self, rows: Sequence[dict[str, Any]]) -> None:
        """Replace the live view of fuelling points."""
        with self._engine.connect() as conn:
            conn.execute(_UPSERT_STATE, list(rows))

    def operator_of(self, station_code: str) -> str | None:
        """Return the code of the operator that runs a station, None for an unknown station."""
        statement = (
            select(_operator.c.code)
            .join(_station, _station.c.operator_id == _operator.c.id)
            .where(_station.c.code == station_code)
        )
        with self._engine.connect() as conn:
            return conn.execute(statement).scalar()

    def ping(self) -> None:
        """Raise what SQLAlchemy raises when the database does not answer."""
        with self._engine.connect() as conn:
            conn.execute(select(1))
