"""One fuelling point as the controller sees it: its state, its open authorisation, its finished sales.

A finished transaction is read, written durably to the outbox, and only then cleared on the device, so a crash
at any instant leaves it at least in one of the two; the outbox knows it again when it is in both. While the
point is not `ready` (just connected) nothing is commanded: state, unpaid transactions and totalisers are read
first.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

import structlog

from contracts.station import CommandResult, PointState
from station_gateway.client.background import Background
from station_gateway.client.buffer import TransactionBuffer
from station_gateway.client.config import DispenserConfig
from station_gateway.client.endings import SETTLE_TRIES, all_is_told, record_of_end, settled_total
from station_gateway.client.link import DispenserLink
from station_gateway.client.looking import LaterLook
from station_gateway.client.outbox import OpenAuthorisation, Outbox
from station_gateway.client.reading import ReadSale, read_sale
from station_gateway.client.releases import PARTLY_TAKEN, Release
from station_gateway.client.sales import PointKey, content_of
from station_gateway.client.states import AT_WORK, FLOWING, RELEASED, told_state
from station_gateway.client.totalisers import check_totals
from station_gateway.protocols.ifsf.errors import IfsfError
from station_gateway.protocols.ifsf.ids import (
    ERROR_DB,
    UNPAID,
    ErrorCode,
    FpId,
    TransactionId,
    sequence_of,
)
from station_gateway.protocols.ifsf.messages import Message, MessageType
from station_gateway.protocols.ifsf.numbers import decode_scaled

log = structlog.get_logger(__name__)


class Point:
    """State and bookkeeping of one fuelling point. One command at a time (`lock`)."""

    def __init__(
        self,
        *,
        key: PointKey,
        link: DispenserLink,
        outbox: Outbox,
        controller: bytes,
        device: DispenserConfig,
        postpaid_release: bool,
        settle_retry_s: float,
        on_change: Callable[[], None],
        on_result: Callable[[], None],
        now: Callable[[], datetime],
    ) -> None:
        self.key = key
        self.db = bytes((key.fp,))
        self.link = link
        self.outbox = outbox
        self.state = PointState.OFFLINE
        self.nozzle_out: int | None = None
        self.opened: OpenAuthorisation | None = None
        self.ready = False
        self.lock = asyncio.Lock()
        self.now = now
        self._out_bit = device.nozzle_out_bit
        self._postpaid_release = postpaid_release
        self._settle_retry_s = settle_retry_s
        self._on_change = on_change
        self._on_result = on_result
        self._buffer = TransactionBuffer(
            key=key,
            link=link,
            outbox=outbox,
            store=self._store,
            empty_acks=device.empty_buffer_acks,
            retry_s=settle_retry_s,
        )
        self.running: tuple[int, int] | None = None
        """Fen and thousandths of a fill that runs."""
        self._collecting: set[int] = set()
        self._expects_sale = False
        self._timed_out = False
        self._are_totals_due = False
        """Nobody saw the dispenser for a while, and what its totalisers counted meanwhile is not compared yet."""
        self.release = Release(link, self.db, controller)
        self._is_settling = self._is_releasing = False
        self.background = Background(key=key, link=link, doubt=self.doubt)
        self._later = LaterLook(
            is_needed=lambda: self._is_unsettled,
            look=self._look,
            spawn=self.background.spawn,
            first_s=settle_retry_s,
        )

    def offline(self) -> None:
        """The wire is gone: nothing is known until it has been read again."""
        self.ready = False
        self.state = PointState.OFFLINE
        self.nozzle_out = self.running = None
        self.release.lost_sight()
        self._on_change()

    def heard(self, message: Message) -> None:
        """Take an unsolicited message. Raises IfsfError when its content is nonsense; then the device is asked."""
        try:
            self._heard(message)
        except IfsfError:
            self.doubt()
            raise

    def _heard(self, message: Message) -> None:
        sequence = sequence_of(message.database)
        values = message.values()
        if sequence is not None:
            state = values.get(TransactionId.STATE)
            if state is None:
                self.doubt()
            elif state[-1] in UNPAID:
                self._start_collecting(sequence)
        elif len(message.database) == 3 and message.database[1] == ERROR_DB:
            self._timed_out |= message.database[2] == ErrorCode.AUTHORISE_TIMEOUT
        elif FpId.STATE in dict(message.items):
            self._heard_state(values)
        elif FpId.CURRENT_AMOUNT in values and FpId.CURRENT_VOLUME in values:
            amount, volume = values[FpId.CURRENT_AMOUNT], values[FpId.CURRENT_VOLUME]
            self.running = decode_scaled(amount, 2), decode_scaled(volume, 3)
            self.release.ran(*self.running)
            self._on_change()

    def doubt(self) -> None:
        """The device said what cannot be read: it may keep a sale, or stand otherwise than we think. Look again."""
        self._buffer.is_empty = False
        self._later.ask()

    def _heard_state(self, values: dict[int, bytes]) -> None:
        self.set_state(values)
        if not self.ready:
            return
        if self.state in AT_WORK:
            self._expects_sale = True
        elif self._expects_sale and not self._collecting and not self._is_settling:
            self._is_settling = True
            self.background.spawn(self._settle())
        if self.state is PointState.CALLING:
            self.background.spawn(self._release_postpaid())

    def set_state(self, values: dict[int, bytes]) -> None:
        """Take FP_State and Log_Noz_State. Raises IfsfError."""
        numbers, before = (one.nozzle for one in self.key.config.nozzles), self.state
        self.state, self.nozzle_out = told_state(values, out_bit=self._out_bit, nozzles=numbers)
        self.release.saw(self.state)
        if self.state not in FLOWING:
            self.running = None
        was_unseen = self._are_totals_due or self.state is PointState.INOPERATIVE
        self._are_totals_due = was_unseen and self.state not in FLOWING  # a fill's transaction may lag behind
        if self._are_totals_due and self.state is not before:
            self._later.ask()
        self._on_change()

    async def start(self, *, open_point: bool) -> None:
        """Read state, unpaid transactions and totalisers, settle what was open.

        Raises LinkError, and IfsfError when not even the state can be read; a transaction that cannot be read is
        looked at again later and keeps this point's orders waiting.
        """
        async with self.lock:
            await self.refresh()
            if open_point and self.state is PointState.CLOSED:
                await self.link.write(self.db, (FpId.OPEN, b""))
                await self.refresh()
            self._are_totals_due = self.state not in FLOWING
            await self.background.tried(self.settle(recovered=True))
            await self._confirm_or_shut()
            self.ready = True
            self._expects_sale |= not self._is_at_rest
        for sequence in tuple(self._collecting):
            self.background.spawn(self._collect_one(sequence))
        self._later.ask()
        if self.state is PointState.CALLING:
            self.background.spawn(self._release_postpaid())

    async def _check_totals(self, *, is_new: bool) -> None:
        """Compare the totalisers once the dispenser is seen again and hides nothing; they may lag. Raises LinkError."""
        lags = not is_new and self.release.rests_since_less_than(SETTLE_TRIES * self._settle_retry_s)
        is_seen = self.state is not PointState.INOPERATIVE and not lags
        if self._are_totals_due and is_seen and self._buffer.is_empty:
            of_order = None if self.opened is None else self.opened.nozzle
            self._are_totals_due = False
            await check_totals(self.key, self.link, self.outbox, self.now(), but=of_order)

    async def refresh(self) -> None:
        """Read state and nozzle. Raises LinkError, IfsfError."""
        answer = await self.link.read(self.db, bytes((FpId.STATE, FpId.NOZZLE_STATE)))
        if answer.type is not MessageType.ANSWER:
            raise IfsfError("the dispenser refuses to tell its state")
        self.set_state(answer.values())

    def _start_collecting(self, sequence: int) -> None:
        if sequence in self._collecting:
            return
        self._collecting.add(sequence)
        if self.ready:
            self.background.spawn(self._collect_one(sequence))

    async def _collect_one(self, sequence: int) -> None:
        try:
            async with self.lock:
                await self._buffer.collect(sequence, recovered=False)
        finally:
            self._collecting.discard(sequence)
        await self._settle()
        self._later.ask()
        if self.state is PointState.CALLING and self.ready:
            await self._release_postpaid()

    async def collect_unpaid(self, nozzle: int) -> bool:
        """Take from the device what it has to tell before a release, so that no older sale becomes the order's.

        False: it keeps something, so nothing may be released. Raises LinkError, IfsfError.
        """
        try:
            return await all_is_told(
                self.key,
                self.link,
                self.outbox,
                self._buffer,
                nozzle,
                retry_s=self._settle_retry_s,
                release=self.release,
                now=self.now,
            )
        finally:
            self._later.ask()

    async def _look(self) -> None:
        """See how the point stands, unless that has been told meanwhile. Raises LinkError, IfsfError."""
        async with self.lock:
            if not self._is_unsettled:
                return
            await self.refresh()
            if self._is_at_rest:
                await self.settle()
                return
            await self._confirm_or_shut()
            if not self._buffer.is_empty:
                await self._buffer.empty(recovered=False)

    async def _confirm_or_shut(self) -> None:
        """A release that nobody confirmed has begun: note it, or withdraw it when its limit was refused."""
        if self.opened is None or self.opened.confirmed or self._is_at_rest:
            return
        known = self.outbox.result_of(self.opened.command_id)
        is_partly = known is not None and known.code == PARTLY_TAKEN
        if is_partly or (self.state in RELEASED and not await self.release.has_limit()):
            await self.release.terminate()
        else:
            self.confirm(self.opened.accepted)

    @property
    def _is_unsettled(self) -> bool:
        """Return whether the device may keep a sale, an open order is not known to be at work, or totals are due."""
        at_work = self.opened is None or (self.opened.confirmed and not self._is_at_rest)
        return self.ready and not (self._buffer.is_empty and at_work and not self._are_totals_due)

    async def _store(self, sequence: int, values: dict[int, bytes], *, recovered: bool) -> None:
        number = values.get(TransactionId.NOZZLE, b"\0")[-1]
        opened = self.opened if self.opened is not None and self.opened.nozzle == number else None
        found = await read_sale(
            self.key, self.link, self.outbox, sequence, values, self.now(), opened=opened, recovered=recovered
        )
        self._commit(found, None if found.is_rebuilt else opened, content_of(values))

    def _commit(self, found: ReadSale, opened: OpenAuthorisation | None, content: str | None = None) -> None:
        """Write a sale durably; only then is anything cleared or forgotten. A known sale ends no order."""
        sale = found.sale
        result = opened.accepted if opened is not None and not opened.confirmed else None
        now_ms = int(self.now().timestamp() * 1000)
        if not self.outbox.add_sale(
            sale,
            now_ms=now_ms,
            closes=opened,
            result=result,
            content=content,
            is_rebuilt=found.is_rebuilt,
            in_record=found.in_record,
        ):
            log.info("point.sale.again", key=sale.natural_key)
            return
        if opened is not None:
            self.opened = None
        if self.opened is None and not found.is_rebuilt:
            self.release.told(is_orders=opened is not None)
        self._expects_sale = self.opened is not None
        self._timed_out = False
        log.info(
            "point.sale",
            order=sale.order_no,
            key=sale.natural_key,
            quantity_milli=sale.quantity_milli,
            amount_fen=sale.amount_fen,
            reason=sale.end_reason.value,
        )
        self._on_change()
        if result is not None:
            self._on_result()

    @property
    def _is_at_rest(self) -> bool:
        return self.state not in AT_WORK

    async def _settle(self) -> None:
        async with self.lock:
            self._is_settling = False
            if self._expects_sale and self.ready:
                await self.refresh()
                if self._is_at_rest:
                    await self.settle()

    async def settle(self, *, recovered: bool = False) -> None:
        """The point came back to rest: find its transaction, or end the order without one. Raises LinkError.

        While the device keeps an older transaction, the order's own may lie behind it: then nothing ends, and fuel that
        only a totaliser knows of may be its.
        """
        emptied = await self._buffer.empty(recovered=recovered)
        if emptied:
            await self._settle_opened()
            await self._check_totals(is_new=recovered)
        self._expects_sale = not emptied or self.opened is not None
        self._later.ask()

    async def _settle_opened(self) -> None:
        """End the open authorisation of a point at rest that has no transaction for it.

        The point is still at rest when its totaliser has settled, and it was seen at work before, or long enough has
        passed: a release that has not begun has not ended, and is withdrawn before it counts as over. A board that
        lost its dispenser (INOPERATIVE) tells what it knew last, so nothing ends there.
        """
        opened = self.opened
        if opened is None or not self._may_have_ended:
            return
        if not self.release.was_seen_flowing:
            await self.release.terminate()
        total = await settled_total(
            self.key,
            self.link,
            self._buffer,
            opened,
            retry_s=self._settle_retry_s,
            has_flowed=self.release.has_flowed,
            is_open=lambda: self.opened is not None,
        )
        await self.refresh()
        if self.opened is None or self._collecting or not self._buffer.is_empty or not self._may_have_ended:
            return
        ran, timed_out = self.release.has_run, self._timed_out
        record = record_of_end(self.key, opened, total, ran=ran, timed_out=timed_out, now=self.now())
        self._commit(ReadSale(record), opened)

    @property
    def _may_have_ended(self) -> bool:
        is_told = self.state is not PointState.INOPERATIVE
        return self._is_at_rest and is_told and not self.release.may_still_begin

    def begin(self, opened: OpenAuthorisation) -> None:
        """Store the intent to release a nozzle, before the dispenser hears of it."""
        self.outbox.open_authorisation(opened)
        self.opened, self._timed_out = opened, False

    def confirm(self, result: CommandResult) -> None:
        """The dispenser is released for the open order: store that together with the command's result."""
        assert self.opened is not None
        self.outbox.confirm_authorisation(result, int(self.now().timestamp() * 1000))
        self.opened = replace(self.opened, confirmed=True)
        self._expects_sale = True
        self._on_result()
        self._later.ask()

    async def _release_postpaid(self) -> None:
        """Let a lifted post-paid nozzle start without a preset, once however often a board that lags reports it."""
        if self._is_releasing or not self._postpaid_release:
            return
        self._is_releasing = True
        try:
            await self.release.until_over_or_at_work(self._settle_retry_s)
            async with self.lock:
                nozzle = self.key.nozzle(self.nozzle_out) if self.nozzle_out else None
                calling = self.ready and self.state is PointState.CALLING and self.opened is None
                if calling and nozzle is not None and nozzle.postpaid:
                    self._expects_sale |= await self.release.ask_without_limit(nozzle.nozzle)
        finally:
            self._is_releasing = False
