"""Physics of the simulated meter."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.station.meter import (
    FREE,
    MAX_AMOUNT_FEN,
    FlowCurve,
    Meter,
    Preset,
    is_legal,
    shown_amount_fen,
)

PRICES = st.integers(min_value=1, max_value=99_999)
CENTIS = st.integers(min_value=0, max_value=200_000)
RATES = st.integers(min_value=100, max_value=20_000)


def finish(meter: Meter) -> int:
    meter.start(0)
    due = meter.due()
    assert due is not None
    meter.stop(due)
    return due


def test_fifty_yuan_at_seven_thirty_five_gives_the_captured_quantity() -> None:
    meter = Meter(price_fen=735, rate=4000, preset=Preset(amount_fen=5000))
    finish(meter)
    assert (meter.centi(10**9), meter.amount_fen(10**9)) == (680, 5000)


@given(price=PRICES, centi=CENTIS)
def test_a_free_fill_shows_a_legal_amount_never_above_the_product(price: int, centi: int) -> None:
    amount = shown_amount_fen(price_fen=price, centi=centi)
    assert is_legal(amount_fen=amount, price_fen=price, centi=centi)
    assert amount * 100 <= price * centi


@given(price=PRICES, preset=st.integers(min_value=1, max_value=1_000_000), rate=RATES)
def test_an_amount_preset_is_met_exactly_and_legally(price: int, preset: int, rate: int) -> None:
    meter = Meter(price_fen=price, rate=rate, preset=Preset(amount_fen=preset))
    end = finish(meter)
    assert meter.amount_fen(end) == preset
    assert is_legal(amount_fen=preset, price_fen=price, centi=meter.centi(end))


@given(price=PRICES, preset=st.integers(min_value=1, max_value=100_000), pulses=st.integers(0, 5), rate=RATES)
def test_overshoot_goes_past_the_preset_by_whole_pulses(
    price: int, preset: int, pulses: int, rate: int
) -> None:
    meter = Meter(price_fen=price, rate=rate, preset=Preset(centi=preset), overshoot=pulses)
    end = finish(meter)
    assert meter.centi(end) == min(preset + pulses, MAX_AMOUNT_FEN * 100 // price), "the display is full"
    assert meter.reached_preset
    assert is_legal(amount_fen=meter.amount_fen(end), price_fen=price, centi=meter.centi(end))


@given(rate=RATES, preset=st.one_of(st.none(), CENTIS), times=st.lists(st.integers(0, 600_000), min_size=2))
def test_quantity_never_decreases(rate: int, preset: int | None, times: list[int]) -> None:
    curve = FlowCurve(rate=rate, preset=preset)
    readings = [curve.centi_at(one) for one in sorted(times)]
    assert readings == sorted(readings)


@given(rate=RATES, preset=st.one_of(st.none(), CENTIS), centi=st.integers(1, 50_000))
def test_time_to_a_quantity_is_the_first_moment_at_which_it_has_passed(
    rate: int, preset: int | None, centi: int
) -> None:
    curve = FlowCurve(rate=rate, preset=preset)
    moment = curve.ms_to(centi)
    assert curve.centi_at(moment) >= centi
    assert curve.centi_at(moment - 1) < centi


@given(rate=RATES, preset=st.integers(200, 10_000), share=st.integers(1, 99))
def test_suspending_keeps_what_has_passed_and_ends_at_the_same_preset(
    rate: int, preset: int, share: int
) -> None:
    meter = Meter(price_fen=735, rate=rate, preset=Preset(centi=preset))
    meter.start(0)
    due = meter.due()
    assert due is not None
    pause = due * share // 100
    meter.stop(pause)
    held = meter.centi(pause + 10**6)
    assert held == meter.centi(pause) <= preset
    meter.start(pause + 10**6)
    end = meter.due()
    assert end is not None
    meter.stop(end)
    assert meter.centi(end) == preset


def test_the_flow_trickles_near_the_preset() -> None:
    curve = FlowCurve(rate=4000, preset=1000)
    before = curve.centi_at(curve.ms_to(949)) - curve.centi_at(curve.ms_to(949) - 500)
    end = curve.ms_to(1000)
    assert curve.centi_at(end) - curve.centi_at(end - 500) < before


def test_the_customer_may_stop_before_the_preset() -> None:
    meter = Meter(price_fen=735, rate=4000, preset=Preset(amount_fen=5000), limit_centi=300)
    end = finish(meter)
    assert (meter.centi(end), meter.amount_fen(end), meter.reached_preset) == (300, 2205, False)


def test_instant_fills_take_no_time_but_an_unbounded_flow_still_does() -> None:
    bounded = Meter(price_fen=735, rate=4000, limit_centi=2700, instant=True)
    bounded.start(5)
    assert (bounded.due(), bounded.centi(5)) == (5, 2700)
    open_ended = Meter(price_fen=735, rate=4000, instant=True)
    open_ended.start(5)
    assert open_ended.centi(5) == 0


@pytest.mark.parametrize("preset", [FREE, Preset(centi=10**9)])
def test_a_display_never_overflows(preset: Preset) -> None:
    meter = Meter(price_fen=999_999, rate=4000, preset=preset)
    assert meter.end_centi * 999_999 // 100 <= 99_999_999
