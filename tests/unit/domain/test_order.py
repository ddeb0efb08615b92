"""The order's table: every pair of states is either in it or refused, and every order can end."""

import itertools

import pytest

from domain.order import ALLOWED, INITIAL, FillMode, IllegalMoveError, OrderStatus, move
from domain.payment import ATTEMPT_ALLOWED, AttemptStatus

_MOVES = {
    "awaiting_payment": {"paid", "expired", "cancelled", "refunding"},
    "paid": {"authorised", "dispensed", "completed", "refunding"},
    "authorised": {"dispensed", "completed", "refunding"},
    "dispensed": {"completed"},
    "unpaid": {"completed", "cancelled"},
    "refunding": {"refunded"},
}
"""Written out a second time on purpose: a state that money depends on is never allowed by a slip."""


@pytest.mark.parametrize(("old", "new"), list(itertools.product(OrderStatus, OrderStatus)))
def test_every_pair(old: OrderStatus, new: OrderStatus) -> None:
    if new.value in _MOVES.get(old.value, set()):
        assert move(old, new) is new
        return
    with pytest.raises(IllegalMoveError) as refused:
        move(old, new)
    assert (refused.value.old, refused.value.new) == (old, new)


def test_final_states_and_labels() -> None:
    final = {status for status in OrderStatus if status.is_final}
    assert final == {
        OrderStatus.COMPLETED,
        OrderStatus.REFUNDED,
        OrderStatus.EXPIRED,
        OrderStatus.CANCELLED,
    }
    assert len({status.label_zh for status in OrderStatus}) == len(OrderStatus)


@pytest.mark.parametrize("mode", FillMode)
def test_every_reachable_state_can_end(mode: FillMode) -> None:
    seen, todo = set[OrderStatus](), [INITIAL[mode]]
    while todo:
        status = todo.pop()
        if status not in seen:
            seen.add(status)
            todo.extend(ALLOWED[status])
    assert any(status.is_final for status in seen)
    for status in seen:
        assert status.is_final or ALLOWED[status]


def test_money_that_arrives_late_is_always_recorded() -> None:
    for status in AttemptStatus:
        if status is not AttemptStatus.SUCCEEDED:
            assert AttemptStatus.SUCCEEDED in ATTEMPT_ALLOWED[status]
    assert ATTEMPT_ALLOWED[AttemptStatus.SUCCEEDED] == frozenset()
