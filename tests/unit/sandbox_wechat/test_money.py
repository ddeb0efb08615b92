"""The sandbox's own book: whatever merchants, payers and faults do, no fen appears or vanishes."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandbox.wechat.clock import SandboxClock
from sandbox.wechat.keys import KeyMaterial
from sandbox.wechat.ledger import Ledger
from sandbox.wechat.phone import PhoneRefused
from sandbox.wechat.world import World
from tests.unit.sandbox_wechat.conftest import START_MS
from tests.unit.sandbox_wechat.merchant import Keys, Merchant

NUMBERS = [f"MONEY0000{n}" for n in range(4)]
ACTS = st.one_of(
    st.tuples(
        st.just("jsapi"), st.sampled_from(["oD", "oD_ok", "oD_coupon", "oD_race", "oD_late30", "oD_dup"])
    ),
    st.tuples(st.just("native"), st.just("")),
    st.tuples(
        st.just("codepay"),
        st.sampled_from(["0000", "0001", "0010", "0011", "0012", "0013", "0020", "0021", "0023", "0050"]),
    ),
    st.tuples(st.just("phone"), st.sampled_from(["oD", "oX_coupon"])),
    st.tuples(st.just("close"), st.just("")),
    st.tuples(st.just("reverse"), st.just("")),
    st.tuples(st.just("refund"), st.sampled_from(["", "[SIM:abnormal]", "[SIM:closed]", "[SIM:slow=30]"])),
    st.tuples(st.just("wait"), st.sampled_from(["1", "20", "60"])),
)


def _do(world: World, merchant: Merchant, act: str, value: str, otn: str, fen: int, step: int) -> None:
    if act == "jsapi":
        merchant.jsapi(otn, value, 777)
    elif act == "native":
        merchant.native(otn, 777)
    elif act == "codepay":
        merchant.codepay(otn, value, 777)
    elif act == "phone":
        with suppress(PhoneRefused):
            world.phone.pay(out_trade_no=otn, openid=value)
    elif act == "close":
        merchant.close(otn)
    elif act == "reverse":
        merchant.reverse(otn)
    elif act == "refund":
        merchant.refund(otn, f"R{step}", fen, total=777, reason=value)
    else:
        world.advance(int(value))


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(st.tuples(ACTS, st.sampled_from(NUMBERS), st.integers(1, 800)), max_size=20),
    seed=st.integers(0, 1000),
)
def test_books_are_sound_after_anything(
    material: KeyMaterial, keys: Keys, steps: list[tuple[tuple[str, str], str, int]], seed: int
) -> None:
    world = World(material, clock=SandboxClock(lambda: START_MS), seed=seed)
    world.state.limits.refund_min_gap_s = 0
    world.chaos.lost_response = world.chaos.sys_error_done = world.chaos.sys_error = 0.05
    merchant = Merchant(keys=keys, send=world.handle, now_s=world.signature_s)
    for step, ((act, value), otn, fen) in enumerate(steps):
        _do(world, merchant, act, value, otn, fen, step)
        assert world.invariants() == []
    world.advance(3_600)
    assert world.invariants() == []
    for otn in NUMBERS:
        money = world.money(otn)
        assert 0 <= money.refunded_fen + money.in_transit_fen <= money.paid_fen <= 777
    world.stop()


def test_unbalanced_posting_is_refused() -> None:
    with pytest.raises(ValueError, match="unbalanced"):
        Ledger().post("pay", "p1", 0, "m", "o", {"payer:a": -1, "merchant:m": 2})


def test_invariants_notice_money_that_was_not_booked(material: KeyMaterial, keys: Keys) -> None:
    world = World(material, clock=SandboxClock(lambda: START_MS))
    merchant = Merchant(keys=keys, send=world.handle, now_s=world.signature_s)
    merchant.jsapi("MONEYBAD01", "oD_ok")
    world.state.ledger.movements[0].fen += 1
    assert any("sums to 1 fen" in line for line in world.invariants())
    world.state.ledger.movements[0].fen -= 1
    order = world.order("MONEYBAD01")
    assert order is not None
    order.state = "NOTPAY"
    assert any("state" in line for line in world.invariants())
    world.stop()
