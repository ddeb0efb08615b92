"""Business waits and limits, all in one place; technical timeouts are in `activities/options.py`."""

from datetime import timedelta

PAYMENT_WINDOW = timedelta(minutes=5)
"""How long a prepaid order waits for its money before the channel is asked to close."""
NOZZLE_HOLD = timedelta(minutes=3)
"""How long an unpaid order keeps its fuelling point to itself; later money must find it free or goes back (N17)."""
AUTHORISE_EXPIRY = timedelta(seconds=60)
"""How old an authorise command may be at the edge; older is refused there, or a pump opens minutes later."""
AUTHORISE_ASK_LADDER = tuple(timedelta(seconds=s) for s in (10, 30, 60, 300, 1800))
"""When a silent station is asked again what became of the authorise command; the last step repeats."""
STOP_EXPIRY = timedelta(seconds=20)
"""How long a cancel waits for the dispenser; then the person is told to try again."""
STOP_PATIENCE = timedelta(seconds=8)
"""How long a manager who says that no fuel went out waits for the dispenser's word; silence leaves it to the manager."""
ANSWER_PATIENCE = timedelta(seconds=5)
"""How long that manager waits for an authorise command that is still on its way; with the stop within the API's limit."""
WITHDRAW_LADDER = tuple(timedelta(seconds=s) for s in (20, 60, 300, 900, 1800))
"""When a silent station is told again to withdraw a release whose money has gone back; the last step repeats."""
FILL_ATTENTION_AFTER = timedelta(minutes=30)
"""An authorised order without a completion for so long is shown to a person; the hold stays."""
UNPAID_ATTENTION_AFTER = timedelta(minutes=15)
"""A post-paid sale that nobody pays for so long is shown to a person (drive-off)."""
PLACE_ASK_LADDER = tuple(timedelta(minutes=m) for m in (1, 10, 60, 360))
"""When a sale of a nozzle that nobody has set up looks for it again; the last step repeats. Setting one up takes days."""
STATION_STALE_AFTER = timedelta(seconds=30)
"""A station silent for so long takes no prepaid order: its data are old."""

CODE_QUERY_INTERVAL = timedelta(seconds=5)
CODE_QUERY_LIMIT = timedelta(seconds=45)
"""WeChat revokes an unconfirmed pay-code trade by itself after about 45 s; then we reverse."""
CODE_REVERSE_NOT_BEFORE = timedelta(seconds=15)
CODE_REVERSE_LIMIT = timedelta(hours=24)
"""How long an unconfirmed reversal is repeated; then the query alone says whether the money came (R21)."""
NOT_FOUND_GRACE = timedelta(seconds=30)
"""A freshly created trade may be unknown to the query for so long (replication)."""
PAYMENT_QUERY_LADDER = tuple(timedelta(seconds=s) for s in (5, 15, 30, 60, 180, 300, 600, 1800))
"""When an unreported or unknown payment is asked for; the last step repeats."""
EXPIRED_GRACE = timedelta(minutes=1)
"""How long after a code's expiry its attempt is closed at the channel instead of asked about: clocks differ."""
REFUND_QUERY_LADDER = tuple(timedelta(seconds=s) for s in (10, 60, 300, 1800, 3600, 21600))
SHORT_BALANCE_LADDER = tuple(timedelta(minutes=m) for m in (30, 60, 180, 360))
"""When a refund that the merchant's balance does not cover is tried again, unless a person says so earlier."""
NEED_LOOK_LADDER = tuple(timedelta(hours=h) for h in (1, 3, 6))
"""When a refund that waits for a person looks whether its order still asks for one; the last step repeats."""
MOST_ATTEMPTS = 100
"""Payments that screens may ask for on one order; numbers end at 999 and each is watched. Cash is always taken."""
MOST_COMMANDS_OF_A_PERSON = 100
"""Commands that one person may give one order; a run takes 2,000 updates in all, and the next person must be heard."""
MOST_UNPAID_OF_A_DRIVER = 2
"""Prepaid orders of one driver that may wait for money at once: each holds a pump, and holding costs nothing."""
PRICE_STILL_SHOWN = timedelta(hours=1)
"""How long after a price change a post-paid sale may still carry the old price: the fill had begun, or the edge was late."""
SALE_PRICE_LOOKBACK = timedelta(days=31)
"""How old a sale may say it is when its price is looked up: a station's clock opens no older price."""
MIN_PREPAID_FEN = 100
MAX_PREPAID_FEN = 500_000
"""A prepaid fill is between 1 and 5,000 yuan (a truck's tank), so a slip of the finger is refused."""


def step(ladder: tuple[timedelta, ...], tries: int) -> timedelta:
    """Return how long a ladder waits after so many tries (from 0); the last step repeats."""
    return ladder[min(tries, len(ladder) - 1)]
