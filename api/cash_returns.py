"""What a person is told who handed cash back and whose command did not settle all of it.

Money of an ended order is in several runs, and each answers for its own: what an earlier command settled, what the
channel paid meanwhile and what is still owed stands in the rows. Only a run knows what it has taken a person's word for
and the rows do not have yet. Cash is told to be taken back only where neither has it.
"""

from collections.abc import Iterable
from dataclasses import replace

from api.database import Database
from contracts.fill import CommandAnswer, ResolveCommand
from db.repositories.asked import RefundStanding, standing_of
from domain.money import yuan
from domain.payment import cash_returned_zh

PARTLY_DONE = "PARTLY_DONE"
_MOOT = frozenset({"order_ended", "CHANGED", "NOT_WAITING", PARTLY_DONE})
"""Refusals that do not say what became of the refunds."""


async def told(db: Database, order_no: str, command: ResolveCommand, answer: CommandAnswer) -> CommandAnswer:
    """Return the answer to a CASH_RETURNED: done when the books have all of it from this person, else what they have."""
    if answer.ok:
        return answer
    missing = set(command.refund_nos) - {*answer.returned, *answer.by_others}
    rows = await db.read(lambda conn: standing_of(conn, order_no, missing))
    mine = _sum(one for one in rows if one.cash_by == command.actor)
    others = answer.by_others_fen + _sum(one for one in rows if one.cash_by not in ("", command.actor))
    channel = _sum(one for one in rows if one.is_paid and not one.cash_by)
    owed = _sum(one for one in rows if not one.is_paid)
    booked = answer.returned_fen + mine
    if len(rows) < len(missing) or (answer.code not in _MOOT and not (booked or others or channel)):
        return answer
    if booked and not (others or channel or owed):
        earlier = answer.earlier_fen + mine
        words = cash_returned_zh(booked, earlier_fen=earlier)
        return replace(answer, ok=True, code="", message=words, returned_fen=booked, earlier_fen=earlier)
    sums = (
        (booked, "已登记为现金退还"),
        (others, "此前已由他人登记为现金退还"),
        (channel, "已由渠道退回"),
        (owed, "未登记"),
    )
    facts = "，".join(f"{yuan(fen)} 元{words}" for fen, words in sums if fen)
    then = "已登记以外的现金请收回" if booked else "请收回点出的现金"
    why = "" if answer.code in _MOOT else f"{answer.message}。"
    code = PARTLY_DONE if booked else "CHANGED" if answer.code in _MOOT else answer.code
    return replace(answer, code=code, message=f"{why}{facts}；{then}，刷新后核对")


def _sum(rows: Iterable[RefundStanding]) -> int:
    return sum(one.amount_fen for one in rows)
