"""Ids are derived, inverse functions find back, and every number fits the limits of WeChat Pay."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain import ids

WORDS = st.text(min_size=0, max_size=80)
ORDERS = st.builds(ids.order_no_of_start, WORDS, WORDS) | st.builds(ids.order_no_of_sale, WORDS)
ATTEMPTS = st.integers(min_value=1, max_value=999)


@given(ORDERS, ATTEMPTS)
def test_trade_number_round_trip_and_limits(order_no: str, attempt: int) -> None:
    number = ids.out_trade_no(order_no, attempt)
    assert ids.order_no_of_trade(number) == order_no
    assert re.fullmatch(r"[0-9A-Za-z_\-|*]{6,32}", number)


@given(ORDERS, ATTEMPTS, st.sampled_from(["rest", "all", "surplus", "mismatch"]))
def test_refund_number_names_its_payment_and_fits_the_limits(
    order_no: str, attempt: int, purpose: str
) -> None:
    trade_no = ids.out_trade_no(order_no, attempt)
    number = ids.out_refund_no(trade_no, purpose)
    assert number.startswith(f"{trade_no}R")
    later = [number]
    for _ in range(12):
        later.append(ids.next_refund_no(later[-1]))
    assert later[1:3] == [f"{number}-2", f"{number}-3"]
    assert later[-1] == f"{number}-13"
    for one in later:
        assert re.fullmatch(r"[0-9A-Za-z_\-|*@]{1,64}", one)
        assert ids.first_refund_no(one) == number


@given(ORDERS)
def test_ids_of_an_order_differ(order_no: str) -> None:
    found = [
        order_no,
        ids.fill_workflow_id(order_no),
        ids.authorise_command_id(order_no),
        ids.stop_command_id(order_no),
        ids.receipt_no(order_no),
        ids.surplus_workflow_id(ids.out_trade_no(order_no, 1)),
    ]
    assert len(set(found)) == len(found)
    assert len(order_no) == ids.ORDER_NO_LENGTH


@given(WORDS, WORDS, WORDS, WORDS)
def test_same_key_same_order_other_key_other_order(a: str, b: str, c: str, d: str) -> None:
    same = ids.order_no_of_start(a, b) == ids.order_no_of_start(c, d)
    if "\x1f" not in a + b + c + d:
        assert same is ((a, b) == (c, d))
    assert ids.order_no_of_start(a, b) != ids.order_no_of_sale(a)


@pytest.mark.parametrize("attempt", [0, -1, 1000])
def test_attempt_out_of_range(attempt: int) -> None:
    with pytest.raises(ValueError, match="attempt"):
        ids.out_trade_no("P" + "A" * 21, attempt)


@given(st.text(max_size=40))
def test_foreign_trade_number_is_refused_or_has_our_form(text: str) -> None:
    try:
        order_no = ids.order_no_of_trade(text)
    except ValueError:
        return
    assert len(order_no) == ids.ORDER_NO_LENGTH
    assert text.startswith(f"{order_no}A")


@given(st.binary(), st.binary())
def test_body_hash_binds_the_body(a: bytes, b: bytes) -> None:
    assert (ids.body_hash(a) == ids.body_hash(b)) is (a == b)
    assert len(ids.body_hash(a)) == 64
