"""A point's release: asked for, withdrawn, and what has been seen of it since."""

import asyncio
import math
import time

import structlog

from contracts.station import PointState
from station_gateway.client.link import DispenserLink
from station_gateway.client.states import AT_WORK, FLOWING
from station_gateway.protocols.ifsf.errors import IfsfError
from station_gateway.protocols.ifsf.ids import FpId
from station_gateway.protocols.ifsf.messages import ACK_OK, ACK_PARTLY_REFUSED, Message, MessageType
from station_gateway.protocols.ifsf.numbers import decode_scaled

log = structlog.get_logger(__name__)

RELEASE_GRACE_S = 3.0
"""A board may acknowledge a release and report the old state for up to 2 s: until then that is no end of a fill."""
PARTLY_TAKEN = "PARTLY_TAKEN"
"""Result code of an authorise whose release was taken without its limit: it is withdrawn, never confirmed."""


def may_have_begun(ack: Message) -> bool:
    """Return whether a refused write may have released the nozzle all the same: only other items were refused."""
    return ack.ack == ACK_PARTLY_REFUSED and FpId.RELEASE not in ack.refusals()


class Release:
    """The last release of a point, for an order or for a post-paid customer, and the fuel that flowed by it."""

    def __init__(self, link: DispenserLink, database: bytes, controller: bytes) -> None:
        self._link, self._db, self._controller = link, database, controller
        self._asked_at = self._at_rest_since = self._told_at = -math.inf
        self._state = PointState.OFFLINE
        self._is_told = False
        """The order's sale came before the point was at rest again: what still flows is told."""
        self.was_at_work = False
        """Seen released or fuelling since; before that, a point at rest has not ended anything."""
        self.was_seen_flowing = False
        """Seen fuelling since: then it is no more open for the customer who comes next."""
        self._untold_fills = math.inf
        """Fills that no sale has told of, as far as states tell; without end when nobody looked."""
        self.has_run = False
        """A running amount or quantity above zero was reported since: fuel did flow."""

    async def ask(self, nozzle: int, *limit: tuple[int, bytes]) -> Message:
        """Ask the device to release a nozzle, with a limit if it is for an order; return what it acknowledges.

        Its lag counts from the answer, or from the moment when none came. Before an order's release all fuel is told;
        before another's nobody asked, and what was not told stays so. Raises LinkError.
        """
        was_seen_flowing, untold = self.was_seen_flowing, self._untold_fills
        self.was_at_work = self.was_seen_flowing = self.has_run = False
        if limit:
            self._untold_fills = 0
        mask = (FpId.NOZZLE_MASK, bytes((1 << nozzle - 1,)))
        release = (FpId.RELEASE_CONTROLLER, self._controller), (FpId.RELEASE, b"")
        try:
            ack = await self._link.write(self._db, *limit, mask, *release)
        finally:
            self._asked_at = time.monotonic()
        if ack.ack != ACK_OK and not may_have_begun(ack):
            self._asked_at = -math.inf
            self.was_seen_flowing |= was_seen_flowing
            self._untold_fills += untold if limit else 0
        return ack

    async def ask_without_limit(self, nozzle: int) -> bool:
        """Ask for a post-paid customer; return whether a sale may come of it. Raises LinkError.

        There is no limit to lose, so a release of which only other parts were refused is one.
        """
        ack = await self.ask(nozzle)
        if ack.ack != ACK_OK:
            log.info("point.postpaid.refused", nozzle=nozzle, database=self._db.hex(), codes=ack.refusals())
        return ack.ack == ACK_OK or may_have_begun(ack)

    async def has_limit(self) -> bool:
        """Return whether the device knows a limit in money for the release; true when it does not tell readably.

        Raises LinkError.
        """
        answer = await self._link.read(self._db, bytes((FpId.AMOUNT_PRESET,)))
        raw = answer.values().get(FpId.AMOUNT_PRESET) if answer.type is MessageType.ANSWER else None
        try:
            return not raw or decode_scaled(raw, 2) > 0
        except IfsfError as error:
            log.warning("point.limit.unreadable", database=self._db.hex(), error=str(error))
            return True

    async def terminate(self) -> Message:
        """Tell the device to withdraw the release; return what it acknowledges. Raises LinkError."""
        return await self._link.write(self._db, (FpId.TERMINATE, b""))

    def lost_sight(self) -> None:
        """The wire is gone, or the board's own to its dispenser: from here on, fuel may flow unseen."""
        self._untold_fills, self._state, self._is_told = math.inf, PointState.OFFLINE, False

    def saw(self, state: PointState) -> None:
        """Take a state. A board that lost its dispenser (INOPERATIVE) knows none: neither rest nor the end of a fill."""
        if state is PointState.INOPERATIVE:
            self.lost_sight()
            return
        was_working, was_flowing = self._is_working, self._state in FLOWING
        is_new = self._state is PointState.OFFLINE
        self._state = state
        if not was_flowing:
            self._is_told = False
        self.was_seen_flowing |= state in FLOWING
        if state in FLOWING and not self._is_told:
            self._untold_fills = max(1, self._untold_fills + (not was_flowing))
        self.was_at_work |= self._is_working
        if not self._is_working and (was_working or is_new):
            self._at_rest_since = time.monotonic()

    def ran(self, amount_fen: int, quantity_milli: int) -> None:
        """Take the running figures of a fill."""
        if self._is_working and not self._is_told and (amount_fen or quantity_milli):
            self._untold_fills = max(1, self._untold_fills)
            self.has_run |= self._state in FLOWING

    def told(self, *, is_orders: bool) -> None:
        """A sale was told, and no order waits for another; it was an order's, which is over with it, or nobody's.

        It tells of one fill, and so of what flows now when that is the order's; nobody's may be an older one then.
        """
        is_flowing = self._state in FLOWING
        if is_orders:
            self._asked_at = -math.inf
        if is_orders or not is_flowing:
            self._untold_fills = max(0, self._untold_fills - 1)
        self._is_told = is_flowing and not self._untold_fills
        self._told_at = time.monotonic()

    @property
    def has_flowed(self) -> bool:
        """Return whether fuel flowed that no sale has told of, as far as states tell; true also when nobody looked."""
        return self._untold_fills > 0

    @property
    def _is_working(self) -> bool:
        return self._state in AT_WORK

    def rests_since_less_than(self, within_s: float) -> bool:
        """Return whether the point came to rest so lately that its board may lag."""
        return time.monotonic() - self._at_rest_since < within_s

    def is_quiet_since(self, within_s: float) -> bool:
        """Return whether the point has been at rest, and no sale was told, for so long: then nothing lags."""
        return time.monotonic() - max(self._at_rest_since, self._told_at) >= within_s

    @property
    def may_still_begin(self) -> bool:
        """Return whether a release has not been seen at work and is too young to be over."""
        return not self.was_at_work and time.monotonic() - self._asked_at < RELEASE_GRACE_S

    async def until_over_or_at_work(self, look_s: float) -> None:
        """Wait until the last release was seen at work, or is too old to begin any more."""
        while self.may_still_begin:
            await asyncio.sleep(look_s)
