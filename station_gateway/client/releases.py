"""A point's release: asked for, withdrawn, and what has been seen of it since."""

import math
import time

import structlog

from contracts.station import PointState
from station_gateway.client.link import DispenserLink
from station_gateway.client.states import FLOWING, RELEASED
from station_gateway.protocols.ifsf.ids import FpId
from station_gateway.protocols.ifsf.messages import ACK_OK, ACK_PARTLY_REFUSED, Message

log = structlog.get_logger(__name__)

RELEASE_GRACE_S = 3.0
"""A board may acknowledge a release and report the old state for up to 2 s: until then that is no end of a fill."""


PARTLY_TAKEN = "PARTLY_TAKEN"
"""Result code of an authorise whose release was taken without its limit: it is withdrawn, never confirmed."""


def may_have_begun(ack: Message) -> bool:
    """Return whether a refused write may have released the nozzle all the same: only other items were refused."""
    return ack.ack == ACK_PARTLY_REFUSED and FpId.RELEASE not in ack.refusals()


class Release:
    """The last release of a point, for an order or for a post-paid customer."""

    def __init__(self, link: DispenserLink, database: bytes, controller: bytes) -> None:
        self._link, self._db, self._controller = link, database, controller
        self._asked_at = -math.inf
        self.was_at_work = False
        """Seen released or fuelling since; before that, a point at rest has not ended anything."""
        self.has_flowed = True
        """Fuel flowed since that no sale has told of, as far as states tell; true also when nobody looked."""
        self.has_run = False
        """A running amount or quantity above zero was reported since: fuel did flow."""

    async def ask(self, nozzle: int, *limit: tuple[int, bytes]) -> Message:
        """Ask the device to release a nozzle, with a limit if there is one; return what it acknowledges.

        Its lag counts from the answer, or from the moment when none came. Raises LinkError.
        """
        self.was_at_work = self.has_flowed = self.has_run = False
        mask = (FpId.NOZZLE_MASK, bytes((1 << nozzle - 1,)))
        release = (FpId.RELEASE_CONTROLLER, self._controller), (FpId.RELEASE, b"")
        try:
            ack = await self._link.write(self._db, *limit, mask, *release)
        finally:
            self._asked_at = time.monotonic()
        if ack.ack != ACK_OK and not may_have_begun(ack):
            self._asked_at = -math.inf
        return ack

    async def ask_without_limit(self, nozzle: int) -> bool:
        """Ask for a post-paid customer; return whether a sale may come of it. Raises LinkError.

        A release of which only a part was taken is withdrawn.
        """
        ack = await self.ask(nozzle)
        if ack.ack == ACK_OK:
            return True
        log.info("point.postpaid.refused", nozzle=nozzle, database=self._db.hex(), codes=ack.refusals())
        if may_have_begun(ack):
            await self.terminate()
            return True
        return False

    async def terminate(self) -> Message:
        """Tell the device to withdraw the release; return what it acknowledges. Raises LinkError."""
        return await self._link.write(self._db, (FpId.TERMINATE, b""))

    def lost_sight(self) -> None:
        """The wire is gone: from here on, fuel may flow unseen."""
        self.has_flowed = True

    def saw(self, state: PointState) -> None:
        """Take a state."""
        self.has_flowed |= state in FLOWING
        self.was_at_work |= state in FLOWING or state in RELEASED

    @property
    def may_still_begin(self) -> bool:
        """Return whether a release has not been seen at work and is too young to be over."""
        return not self.was_at_work and time.monotonic() - self._asked_at < RELEASE_GRACE_S
