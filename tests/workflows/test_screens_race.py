"""N18: phone, pillar, kiosk, POS and cashier race for one unpaid sale; one payment stays, every other goes back."""

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.service import RPCError, RPCStatusCode

from contracts.fill import PayState, ResolveAction
from contracts.payment import PaymentReported
from domain import ids, policy
from domain.payment import PayMethod
from tests.workflows.harness import Handle, Harness
from workflows.return_surplus import ReturnSurplus

_SEED = 20_251
_IN_FLIGHT = 10
_AMOUNT_FEN = 14_700
_CODES = ("0000", "0001", "0010", "0022")
"""Pay codes of the fake channel: pays at once, no money, asks the user, pays and loses the answer."""


@pytest.fixture(autouse=True)
def quick_ladders(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask after a second instead of minutes (domain passes through the sandbox, so the workflow sees it too)."""
    monkeypatch.setattr(policy, "CODE_QUERY_INTERVAL", timedelta(seconds=1))
    monkeypatch.setattr(policy, "CODE_REVERSE_NOT_BEFORE", timedelta(seconds=1))
    monkeypatch.setattr(policy, "PAYMENT_QUERY_LADDER", tuple(timedelta(seconds=s) for s in (3, 1, 1, 2, 2)))


@dataclass
class Round:
    """One sale and everything that its five screens were told."""

    harness: Harness
    rng: random.Random
    order_no: str
    handle: Handle
    told: dict[str, str] = field(default_factory=dict)

    async def run(self) -> None:
        """Let the five screens race, then let a cashier finish what nobody paid."""
        confirms = self.rng.sample(("phone", "pillar", "kiosk"), self.rng.randint(1, 3))
        code = self.rng.choice(_CODES)
        await asyncio.gather(
            self._qr("phone", PayMethod.WECHAT_JSAPI, "phone" in confirms),
            self._qr("pillar", PayMethod.WECHAT_NATIVE, "pillar" in confirms),
            self._qr("kiosk", PayMethod.WECHAT_NATIVE, "kiosk" in confirms),
            self._pos(code),
            self._cashier(),
        )
        result = asyncio.ensure_future(self.handle.result())
        while not result.done():
            await asyncio.wait({result}, timeout=0.5)
            if not result.done():
                await self._finish_by_hand()
        assert (await result).status == "completed"

    async def _tell(self, screen: str, ask: Callable[[], Awaitable[str]]) -> None:
        """Keep what a screen was told; an order that has ended says so itself."""
        await asyncio.sleep(self.rng.random() * (0.6 if screen == "cashier" else 0.3))
        try:
            self.told[screen] = await ask()
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise
            self.told[screen] = "ended"

    async def _qr(self, screen: str, method: PayMethod, confirms: bool) -> None:
        async def ask() -> str:
            answer = await self.harness.pay(self.handle, method, screen=screen)
            if answer.state is PayState.WAITING and confirms:
                await asyncio.sleep(self.rng.random() * 0.4)
                self.harness.channel.customer_pays(answer.out_trade_no)
                await self._notify(answer.out_trade_no)
            return str(answer.state)

        await self._tell(screen, ask)

    async def _pos(self, code: str) -> None:
        async def ask() -> str:
            auth = f"13000000000000{code}"
            answer = await self.harness.pay(self.handle, PayMethod.WECHAT_CODE, screen="pos", auth_code=auth)
            if answer.state is PayState.WAITING:
                await asyncio.sleep(self.rng.random() * 1.5)
                self.harness.channel.customer_pays(answer.out_trade_no)
            return str(answer.state)

        await self._tell("pos", ask)

    async def _cashier(self) -> None:
        async def ask() -> str:
            answer = await self.harness.cash(self.handle, _AMOUNT_FEN)
            return "paid" if answer.ok else answer.code

        await self._tell("cashier", ask)

    async def _notify(self, number: str) -> None:
        """The channel notifies up to three times, later and in any order; nobody home means the surplus flow."""
        for _ in range(self.rng.randint(0, 3)):
            await asyncio.sleep(self.rng.random() * 0.2)
            try:
                await self.harness.report(self.handle, number)
            except RPCError as error:
                if error.status is not RPCStatusCode.NOT_FOUND:
                    raise
                await self.harness.client.execute_workflow(
                    ReturnSurplus.run,
                    PaymentReported(out_trade_no=number),
                    id=ids.surplus_workflow_id(number),
                    task_queue=self.harness.queue,
                    id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                )

    async def _finish_by_hand(self) -> None:
        """The cashier: take cash for an order that is still unpaid, hand back cash that came second."""
        row = self.harness.order(self.order_no)
        try:
            if row["status"] == "unpaid":
                await self.harness.cash(self.handle, _AMOUNT_FEN)
            elif row["needs_person"] == "return_cash":
                await self.harness.resolve(self.handle, ResolveAction.CASH_RETURNED)
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise

    def verify(self) -> str:
        """Hold channel, rows and ledger against each other; return the method that paid."""
        row, no = self.harness.order(self.order_no), self.order_no
        attempts = self.harness.rows("SELECT * FROM payment_attempt WHERE order_no = :no", no=no)
        refunds = self.harness.rows("SELECT * FROM refund WHERE order_no = :no", no=no)
        took = {a["out_trade_no"]: a for a in attempts if a["status"] == "succeeded"}
        assert row["paid_fen"] == _AMOUNT_FEN
        assert row["surplus_fen"] == row["refunded_fen"] == (len(took) - 1) * _AMOUNT_FEN
        assert {r["out_trade_no"] for r in refunds} == set(took) - {row["paid_by"]}
        assert all(r["status"] == "succeeded" for r in refunds)
        for attempt in attempts:
            number, trade = attempt["out_trade_no"], self.harness.channel.trades.get(attempt["out_trade_no"])
            assert attempt["status"] != "open", number
            assert (trade is not None and trade.state == "SUCCESS") is (number in took), number
            if number in took and attempt["method"] != PayMethod.CASH:
                assert trade is not None
                kept = trade.amount_fen - sum(trade.refunds.values())
                assert kept == (_AMOUNT_FEN if number == row["paid_by"] else 0)
        for account in ("2040", "1100", "1090", "2070"):
            assert self.harness.balance(account, no) == 0, account
        assert self.harness.balance("1010%", no) == _AMOUNT_FEN
        paid = self.harness.rows("SELECT 1 FROM order_event WHERE order_no = :no AND kind = 'paid'", no=no)
        receipts = self.harness.rows("SELECT 1 FROM receipt WHERE order_no = :no", no=no)
        assert (len(paid), len(receipts)) == (1, 1)
        assert set(self.told) == {"phone", "pillar", "kiosk", "pos", "cashier"}
        at_once = [screen for screen, answer in self.told.items() if answer == "paid"]
        assert len(at_once) <= 1, self.told
        return f"{took[row['paid_by']]['method']} of {len(took)}"


async def race(harness: Harness, rounds: int) -> Counter[str]:
    """Run many rounds, a few dozen at a time; return who paid, of how many payments."""
    found: Counter[str] = Counter()
    numbers = iter(range(rounds))

    async def lane() -> None:
        for number in numbers:
            rng = random.Random(_SEED + number)
            sale = harness.sale()
            handle = await harness.start_sale(sale)
            one = Round(harness, rng, ids.order_no_of_sale(sale.natural_key), handle)
            try:
                await asyncio.wait_for(one.run(), 25)
                found[one.verify()] += 1
            except (AssertionError, TimeoutError) as error:
                row = harness.order(one.order_no)
                told = f"{row['status']} {row['needs_person']!r} {one.told}"
                raise AssertionError(f"round {number} of seed {_SEED}: {told} {error!r}") from error

    await asyncio.gather(*itertools.starmap(lane, [()] * _IN_FLIGHT))
    return found


@pytest.mark.feature("N18")
@pytest.mark.parametrize(
    "rounds",
    [
        pytest.param(50, marks=pytest.mark.timeout(90)),
        pytest.param(1000, marks=[pytest.mark.slow, pytest.mark.timeout(600)]),
    ],
)
async def test_five_screens_race_for_one_sale(harness: Harness, rounds: int) -> None:
    found = await race(harness, rounds)
    print(f"{rounds} rounds, 0 violations: {dict(sorted(found.items()))}")
    assert sum(found.values()) == rounds
    payers = {key.split(" ")[0] for key in found}
    assert payers == {method.value for method in PayMethod}
    assert any(key.endswith(("of 2", "of 3")) for key in found)
