"""The gateway's tables in PostgreSQL, and what Temporal is told."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from sqlalchemy import text
from temporalio import workflow
from temporalio.client import Client
from temporalio.worker import Worker

from contracts import names
from contracts.fill import FillInput
from contracts.station import CommandResult, CommandState, EndReason, PointReport, PointState, SaleRecord
from db.repositories.gateway import GatewayRepository, LinkState, StoredCommand, StoredMessage
from db.session import make_engine
from domain.ids import fill_workflow_id, order_no_of_sale
from domain.quantity import Unit
from station_gateway.protocols.uplink.bodies import result_body
from station_gateway.server import inbox as inbox_module
from station_gateway.server.workflows import ENDED, SIGNALLED, STARTED, ZERO, TemporalDesk

NOW = datetime(2026, 8, 1, 12, tzinfo=UTC)
UNKNOWN = '"s":"unknown"'


@pytest.fixture
def repository(fresh_database_url: str) -> Iterator[GatewayRepository]:
    engine = make_engine(fresh_database_url, pool_size=2)
    yield GatewayRepository(engine)
    engine.dispose()


def message(key: str, source: str = "station:ST01") -> StoredMessage:
    return StoredMessage(source=source, external_id=key, kind="sale", business_no="", body="{}")


@pytest.mark.feature("003-D2")
def test_a_sale_is_stored_once(repository: GatewayRepository) -> None:
    assert repository.store_messages([message("a"), message("b")], NOW) == {"a", "b"}
    assert repository.store_messages([message("b"), message("c")], NOW) == {"c"}
    assert repository.store_messages([message("a", "station:ST02")], NOW) == {"a"}
    repository.mark_handled([("station:ST01", "a", "signalled")], NOW)
    later = NOW + timedelta(seconds=1)
    waiting = repository.unhandled(["station:ST01"], before=later, limit=10)
    assert [one.external_id for one in waiting] == ["b", "c"]
    repository.count_attempt("station:ST01", "b")
    waiting = repository.unhandled(["station:ST01"], before=later, limit=10)
    assert [one.external_id for one in waiting] == ["c", "b"]
    assert repository.unhandled(["station:ST01"], before=NOW, limit=10) == []


def command(command_id: str) -> StoredCommand:
    return StoredCommand(
        command_id=command_id, station_code="ST01", order_no="P", kind="authorise", body="{}", expires_at=NOW
    )


def result(command_id: str, state: CommandState) -> str:
    return result_body(CommandResult(command_id=command_id, order_no="P", state=state))


@pytest.mark.feature("003-D4")
def test_first_verdict_stays_and_unknown_is_none(repository: GatewayRepository) -> None:
    assert repository.store_command(command("c1"), NOW) is None
    assert repository.store_command(command("c1"), NOW) is None
    assert [one.command_id for one in repository.open_commands("ST01")] == ["c1"]
    unknown, accepted = result("c1", CommandState.UNKNOWN), result("c1", CommandState.ACCEPTED)
    refused = result("c1", CommandState.REFUSED)
    repository.store_results("ST02", [("c1", refused, True)], UNKNOWN, NOW)
    assert repository.store_command(command("c1"), NOW) is None
    repository.store_results("ST01", [("c1", unknown, True)], UNKNOWN, NOW)
    assert repository.store_command(command("c1"), NOW) == unknown
    repository.store_results("ST01", [("c1", accepted, False)], UNKNOWN, NOW)
    repository.store_results("ST01", [("c1", refused, False)], UNKNOWN, NOW)
    assert repository.store_command(command("c1"), NOW) == accepted
    later = NOW + timedelta(seconds=1)
    assert repository.untold(["ST01"], before=later, limit=10) == [("c1", accepted)]
    repository.mark_told("c1", accepted, NOW)
    assert repository.untold(["ST01"], before=later, limit=10) == []
    assert repository.open_commands("ST01") == []


def test_links_and_states_are_replaced(repository: GatewayRepository) -> None:
    for second in (0, 5):
        seen = NOW + timedelta(seconds=second)
        repository.put_links(
            [LinkState(station_code="ST01", last_seen_at=seen, boot_epoch=1, outbox_depth=second)]
        )
        state = PointReport(
            station_code="ST01", node=1, fp=33, state=PointState.FUELLING, running_amount_fen=second
        )
        repository.put_states([inbox_module._state_row(state, seen)])
    with repository._engine.connect() as conn:
        assert conn.execute(text("SELECT outbox_depth FROM station_link")).scalars().all() == [5]
        assert conn.execute(text("SELECT running_amount_fen FROM point_state")).scalars().all() == [5]
    assert repository.operator_of("ST99") is None
    repository.ping()


def sale(key: str, **fields: object) -> SaleRecord:
    values: dict[str, object] = {
        "natural_key": key,
        "station_code": "ST01",
        "node": 1,
        "fp": 33,
        "nozzle": 1,
        "sequence": 1,
        "unit": Unit.LITRE,
        "quantity_milli": 6_800,
        "amount_fen": 5_000,
        "price_fen_per_unit": 735,
        "end_reason": EndReason.NORMAL,
        "recorded_at": NOW,
    }
    return SaleRecord(**(values | fields))  # type: ignore[arg-type]


@workflow.defn(name=names.FILL_AND_PAY, sandboxed=False)
class Listener:
    """Keeps what it is told until it was told of both a sale and a result."""

    def __init__(self) -> None:
        self.sales: list[str] = []
        self.results: list[str] = []

    @workflow.run
    async def run(self, request: FillInput) -> tuple[list[str], list[str]]:
        if request.sale is not None:
            return [request.sale.natural_key], []
        await workflow.wait_condition(lambda: bool(self.sales and self.results))
        return self.sales, self.results

    @workflow.signal(name=names.SIGNAL_FILL_COMPLETED)
    def told_sale(self, record: SaleRecord) -> None:
        self.sales.append(record.natural_key)

    @workflow.signal(name=names.SIGNAL_COMMAND_REPORTED)
    def told_result(self, report: CommandResult) -> None:
        self.results.append(report.state.value)


@pytest.mark.feature("003-D5")
async def test_what_workflows_are_told(temporal_client: Client) -> None:
    desk = TemporalDesk(temporal_client, lambda code: "OP1")
    order, key = f"P{uuid4().hex[:21]}", uuid4().hex
    async with Worker(temporal_client, task_queue=names.FILL_TASK_QUEUE, workflows=[Listener]):
        handle = await temporal_client.start_workflow(
            names.FILL_AND_PAY,
            FillInput(order_no=order),
            id=fill_workflow_id(order),
            task_queue=names.FILL_TASK_QUEUE,
            result_type=tuple[list[str], list[str]],
        )
        assert await desk.tell_sale(sale(key, order_no=order)) == SIGNALLED
        report = CommandResult(command_id="c", order_no=order, state=CommandState.EXPIRED)
        await desk.tell_result(report)
        async with asyncio.timeout(20):
            assert list(await handle.result()) == [[key], ["expired"]]
        await desk.tell_result(report)

        nothing = {"quantity_milli": 0, "amount_fen": 0}
        assert await desk.tell_sale(sale(key + "z", order_no=order, **nothing)) == ENDED
        assert await desk.tell_sale(sale(key + "z", **nothing)) == ZERO
        unknown = sale(key + "u", order_no=order, end_reason=EndReason.SYNTHESISED, **nothing)
        assert await desk.tell_sale(unknown) == STARTED
        assert await desk.tell_sale(sale(key + "m", quantity_milli=0)) == STARTED

        late = sale(key + "late", order_no=order)
        assert await desk.tell_sale(late) == STARTED
        assert await desk.tell_sale(late) == STARTED
        own = temporal_client.get_workflow_handle(fill_workflow_id(order_no_of_sale(late.natural_key)))
        async with asyncio.timeout(20):
            assert list(await own.result()) == [[late.natural_key], []]
        assert await desk.tell_sale(late) == STARTED
        described = await own.describe()
        found = {pair.key.name: pair.value for pair in described.typed_search_attributes}
        assert (found["Operator"], found["Station"]) == ("OP1", "ST01")
        assert found["BusinessNo"] == order_no_of_sale(late.natural_key)
