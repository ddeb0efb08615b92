"""Channel notifications: verified, stored once, signalled; nothing is lost while Temporal is away."""

import asyncio
import json
from concurrent.futures import CancelledError
from datetime import timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import Connection

from api.notifications.relay import GRACE, Relay
from contracts.payment import PaymentReported
from db.repositories import inbox
from domain.order import OrderStatus
from tests.unit.api.world import World

SIGNED = {"Wechatpay-Signature": "good"}
_count = iter(range(1, 100_000))


def _note(trade_no: str, **changes: Any) -> dict[str, Any]:
    return {
        "id": f"EV-{next(_count)}",
        "event_type": "TRANSACTION.SUCCESS",
        "out_trade_no": trade_no,
        "state": "SUCCESS",
        "transaction_id": "4200",
        "amount_fen": 100,
        **changes,
    }


def _inbox_id(note: dict[str, Any]) -> str:
    number = note.get("out_refund_no") or note["out_trade_no"]
    return f"{number}:{note['event_type']}:{note['state']}"


async def _send(api: httpx.AsyncClient, note: dict[str, Any], path: str = "pay") -> int:
    answer = await api.post(f"/v1/notify/wechat/{path}", content=json.dumps(note), headers=SIGNED)
    return answer.status_code


@pytest.fixture
def relay(world: World) -> Relay:
    """The relay of the app; it runs only when a test says so."""
    found: Relay = world.app.state.services.relay
    return found


async def test_a_payment_is_stored_then_signalled(world: World, api: httpx.AsyncClient) -> None:
    note = _note(world.add_attempt(world.add_order()))
    assert await _send(api, note) == 204
    stored = world.inbox(_inbox_id(note))
    assert stored is not None
    assert stored.outcome == "signalled"
    assert world.temporal.signals[-1] == PaymentReported(
        out_trade_no=note["out_trade_no"], notification_id=note["id"]
    )


async def test_repeats_under_other_ids_are_one_notification(world: World, api: httpx.AsyncClient) -> None:
    trade_no = world.add_attempt(world.add_order())
    before = len(world.temporal.signals)
    codes = await asyncio.gather(*(_send(api, _note(trade_no)) for _ in range(5)))
    assert codes == [204] * 5
    assert await _send(api, _note(trade_no)) == 204
    again = len(world.temporal.signals)
    assert await _send(api, _note(trade_no)) == 204
    assert len(world.temporal.signals) == again, "a handled one is not signalled again"
    assert again - before <= 5


@pytest.mark.parametrize("signature", ["", "bad", "WECHATPAY/SIGNTEST/x"])
async def test_what_the_channel_did_not_sign_is_not_stored(
    world: World, api: httpx.AsyncClient, signature: str
) -> None:
    note = _note(world.add_attempt(world.add_order()))
    answer = await api.post(
        "/v1/notify/wechat/pay", content=json.dumps(note), headers={"Wechatpay-Signature": signature}
    )
    assert answer.status_code == 401
    assert answer.json() == {"code": "FAIL", "message": "失败"}
    assert answer.headers["content-type"] == "application/json"
    assert world.inbox(_inbox_id(note)) is None


async def test_an_unknown_order_is_kept_and_answered(world: World, api: httpx.AsyncClient) -> None:
    note = _note("P" + "Q" * 21 + "A001")
    assert await _send(api, note) == 204
    stored = world.inbox(_inbox_id(note))
    assert stored is not None
    assert stored.outcome == "unknown_order"


async def test_another_amount_is_passed_on_for_the_order_to_ask_the_channel(
    world: World, api: httpx.AsyncClient
) -> None:
    note = _note(world.add_attempt(world.add_order()), amount_fen=99)
    before = len(world.temporal.signals)
    assert await _send(api, note) == 204
    stored = world.inbox(_inbox_id(note))
    assert stored is not None
    assert stored.outcome == "signalled"
    assert len(world.temporal.signals) == before + 1


async def test_a_wrong_amount_for_an_ended_order_reaches_somebody(
    world: World, api: httpx.AsyncClient
) -> None:
    trade_no = world.add_attempt(world.add_order(status=OrderStatus.EXPIRED, running=False))
    assert await _send(api, _note(trade_no, amount_fen=99)) == 204
    assert world.temporal.surplus[trade_no].out_trade_no == trade_no


@pytest.mark.feature("N17")
async def test_money_for_an_order_that_ended_starts_its_return(world: World, api: httpx.AsyncClient) -> None:
    trade_no = world.add_attempt(world.add_order(status=OrderStatus.EXPIRED, running=False))
    assert await _send(api, _note(trade_no)) == 204
    assert world.temporal.surplus[trade_no].out_trade_no == trade_no


async def test_the_money_that_paid_an_ended_order_is_no_surplus(world: World, api: httpx.AsyncClient) -> None:
    order_no = world.add_order(status=OrderStatus.COMPLETED, running=False)
    trade_no = world.add_attempt(order_no)
    world.change_order(order_no, paid_by=trade_no, paid_fen=100)
    assert await _send(api, _note(trade_no)) == 204
    assert trade_no not in world.temporal.surplus


async def test_refunds_are_told_to_the_order_or_to_the_return(world: World, api: httpx.AsyncClient) -> None:
    trade_no = world.add_attempt(world.add_order())
    refund = {"event_type": "REFUND.SUCCESS", "out_refund_no": f"{trade_no}Rrest", "amount_fen": 50}
    assert await _send(api, _note(trade_no, **refund), "refund") == 204
    assert world.temporal.signals[-1].out_refund_no == f"{trade_no}Rrest"
    ended = world.add_attempt(world.add_order(running=False))
    refund["out_refund_no"] = f"{ended}Rsurplus"
    assert await _send(api, _note(ended, **refund), "refund") == 204
    world.temporal.surplus[ended] = PaymentReported(out_trade_no=ended)
    refund["event_type"] = "REFUND.ABNORMAL"
    assert await _send(api, _note(ended, **refund), "pay") == 204, "told by its type, not by the address"
    assert world.temporal.signals[-1].out_trade_no == ended


async def test_temporal_away_is_stored_and_relayed_later(
    world: World, api: httpx.AsyncClient, relay: Relay
) -> None:
    world.temporal.away = True
    note = _note(world.add_attempt(world.add_order()))
    assert await _send(api, note) == 204
    stored = world.inbox(_inbox_id(note))
    assert stored is not None
    assert stored.handled_at is None
    assert await relay.drain() == 0, "a young one is left to its own request"
    world.clock.now += GRACE + timedelta(seconds=1)
    assert await relay.drain() == 0, "Temporal is still away"
    world.temporal.away = False
    assert await relay.drain() == 1
    stored = world.inbox(_inbox_id(note))
    assert stored is not None
    assert (stored.outcome, stored.attempts) == ("signalled", 2)


async def test_two_relays_do_not_fight(world: World, api: httpx.AsyncClient) -> None:
    world.temporal.away = True
    notes = [_note(world.add_attempt(world.add_order())) for _ in range(30)]
    for note in notes:
        assert await _send(api, note) == 204
    world.temporal.away = False
    world.clock.now += GRACE + timedelta(seconds=1)
    before = len(world.temporal.signals)
    relays = [world.make_app().state.services.relay for _ in range(3)]
    handled = await asyncio.gather(*(r.drain() for r in relays))
    while sum(handled) < len(notes):
        more = await relays[0].drain()
        assert more > 0, handled
        handled.append(more)
    told = [s.out_trade_no for s in world.temporal.signals[before:]]
    assert sorted(told) == sorted(n["out_trade_no"] for n in notes), "each exactly once"


@pytest.mark.parametrize(
    "poison",
    [
        "no JSON",
        '"a text"',
        '{"id": "EV-0", "event_type": "TRANSACTION.SUCCESS"}',  # written by another version
        json.dumps({**_note("nul\x00byte"), "out_refund_no": ""}),
        json.dumps({**_note("P" + "Q" * 21 + "A001"), "out_refund_no": "", "event_type": 7}),
    ],
)
async def test_one_poisoned_row_stops_no_other(world: World, relay: Relay, poison: str) -> None:
    good = _note(world.add_attempt(world.add_order()))
    bodies = {"poison": poison, "good": json.dumps({**good, "out_refund_no": ""})}
    names = {kind: f"{kind}-{next(_count)}" for kind in bodies}

    def put(conn: Connection) -> None:
        for seconds, (kind, body) in enumerate(bodies.items()):
            at = world.clock.now + timedelta(seconds=seconds)
            key = {"source": "wechat", "external_id": names[kind], "business_no": "x"}
            inbox.store(conn, **key, kind="TRANSACTION.SUCCESS", body=body, now=at)

    db = world.app.state.services.db
    await db.run(put)
    world.clock.now += timedelta(minutes=1)
    assert [await relay.drain(), await relay.drain()] == [1, 0]
    row, bad = world.inbox(names["good"]), world.inbox(names["poison"])
    assert row is not None
    assert bad is not None
    assert (row.outcome, row.attempts) == ("signalled", 1)
    assert world.temporal.signals[-1].out_trade_no == good["out_trade_no"]
    assert (bad.handled_at, bad.attempts) == (None, 2), "kept, counted, and tried again"
    await db.run(
        lambda conn: inbox.mark_handled(conn, "wechat", names["poison"], outcome="test", now=world.clock.now)
    )


async def test_the_loop_outlives_whatever_a_round_raises(
    world: World, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds: list[int] = []

    async def broken() -> int:
        rounds.append(1)
        raise CancelledError if len(rounds) == 1 else LookupError("whatever")

    monkeypatch.setattr("api.notifications.relay.INTERVAL_S", 0)
    monkeypatch.setattr(relay, "drain", broken)
    task = asyncio.create_task(relay.run())
    await asyncio.sleep(1.3)
    assert not task.done()
    assert len(rounds) >= 2
    relay.stop()
    await asyncio.wait_for(task, 3)
    relay._stopped.clear()


async def test_the_loop_runs_beside_the_requests(world: World) -> None:
    app = world.make_app(relay=True)
    world.temporal.away = True
    note = _note(world.add_attempt(world.add_order()))
    async with world.client(app) as api:
        assert await _send(api, note) == 204
        world.temporal.away = False
        world.clock.now += GRACE + timedelta(seconds=1)
        async with app.router.lifespan_context(app):
            for _ in range(50):
                await asyncio.sleep(0.1)
                stored = world.inbox(_inbox_id(note))
                if stored is not None and stored.handled_at is not None:
                    break
    stored = world.inbox(_inbox_id(note))
    assert stored is not None
    assert stored.outcome == "signalled"
