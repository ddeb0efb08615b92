"""Releasing a nozzle for an order and withdrawing it again: the two commands that open and close pumps.

The intent is durable before the dispenser hears of it. A missing answer is no verdict: the device is asked
what it did, and when it cannot be asked the result is UNKNOWN and the next connection finds out.
"""

import asyncio

import structlog

from contracts.station import (
    AuthoriseCommand,
    CommandResult,
    CommandState,
    EndReason,
    PointState,
    StopCommand,
)
from station_gateway.client.lifetime import Lifetime
from station_gateway.client.link import LinkError
from station_gateway.client.outbox import OpenAuthorisation
from station_gateway.client.point import Point
from station_gateway.client.releases import PARTLY_TAKEN, may_have_begun
from station_gateway.client.sales import zero_sale
from station_gateway.client.states import FLOWING, RELEASED, WAITING
from station_gateway.protocols.ifsf.errors import IfsfError
from station_gateway.protocols.ifsf.ids import FpId, PriceId, price_db
from station_gateway.protocols.ifsf.messages import ACK_OK
from station_gateway.protocols.ifsf.numbers import decode_scaled, encode_amount

log = structlog.get_logger(__name__)

_READY_PATIENCE_S = 8
_LOOK_S = 0.1

Command = AuthoriseCommand | StopCommand


def answer(command: Command, state: CommandState, code: str = "", detail: str = "") -> CommandResult:
    """Return the result of a command."""
    return CommandResult(
        command_id=command.command_id, order_no=command.order_no, state=state, code=code, detail=detail
    )


def refused(command: Command, code: str, detail: str = "") -> CommandResult:
    """Return a refusal: nothing was changed at the dispenser."""
    return answer(command, CommandState.REFUSED, code, detail)


async def _connected(point: Point) -> None:
    """Give a dispenser that is just coming back a moment before refusing: the customer has paid already."""
    for _ in range(int(_READY_PATIENCE_S / _LOOK_S)):
        if point.ready:
            return
        await asyncio.sleep(_LOOK_S)


async def authorise(point: Point, command: AuthoriseCommand, lifetime: Lifetime) -> CommandResult:
    """Release a nozzle up to an amount; the result is stored before it is returned."""
    await _connected(point)
    async with point.lock:
        known = point.outbox.result_of(command.command_id)
        if known is not None:
            return known
        try:
            result = await _checked(point, command, lifetime)
        except (LinkError, IfsfError) as error:
            result = refused(command, "FP_OFFLINE", str(error))
        if result is not None:
            _keep(point, result)
            return result
        try:
            return await _release(point, command)
        except Exception:
            point.link.close()  # what the dispenser did is not on record: read everything again
            raise


def _keep(point: Point, result: CommandResult) -> None:
    point.outbox.add_result(result, int(point.now().timestamp() * 1000))


async def _checked(point: Point, command: AuthoriseCommand, lifetime: Lifetime) -> CommandResult | None:
    """Return why the nozzle may not be released now, None when it may. Changes nothing at the dispenser."""
    nozzle = point.key.nozzle(command.nozzle)
    if nozzle is None:
        return refused(command, "NOZZLE_UNKNOWN")
    if point.opened is not None:
        if point.opened.command_id == command.command_id:
            return _already_open(point, command)
        return refused(command, "FP_BUSY", "another order is open")
    if not point.ready:
        return refused(command, "FP_OFFLINE")
    await point.release.until_over_or_at_work(_LOOK_S)  # a post-paid one
    await point.refresh()  # before the buffer: what ends after this was not running
    if busy := _busy(point, command):
        return busy
    price = await _price(point, nozzle.product)
    if price != command.price_fen_per_unit:
        return refused(command, "PRICE_MISMATCH", f"the dispenser has {price}")
    if not await point.collect_unpaid(command.nozzle):
        return refused(command, "FP_BUSY", "the dispenser has older fuel to tell")
    if busy := _busy(point, command):  # by what the device has told meanwhile
        return busy
    if lifetime.is_over:  # last: a pump must not open after the customer has left
        return answer(command, CommandState.EXPIRED, "EXPIRED")
    return None


def _busy(point: Point, command: AuthoriseCommand) -> CommandResult | None:
    """Return the refusal of a point that does not wait for a customer at this nozzle."""
    if point.state in (PointState.CLOSED, PointState.INOPERATIVE):
        return refused(command, "FP_CLOSED", point.state.value)
    if point.state not in WAITING:
        return refused(command, "FP_BUSY", point.state.value)
    if point.state is PointState.CALLING and point.nozzle_out not in (None, command.nozzle):
        return refused(command, "FP_BUSY", "another nozzle is lifted")
    return None


def _already_open(point: Point, command: AuthoriseCommand) -> CommandResult:
    """The command was cut off between its intent and its result: never release again, only say what is known."""
    if point.opened is not None and point.opened.confirmed:
        return answer(command, CommandState.ACCEPTED)
    return answer(command, CommandState.UNKNOWN, "NO_ANSWER", "the dispenser has not been asked yet")


async def _price(point: Point, product: int) -> int | None:
    """Return the dispenser's own price in fen per unit, None when it does not tell."""
    read = await point.link.read(price_db(product), bytes((PriceId.PRICE,)))
    raw = read.values().get(PriceId.PRICE)
    if raw is None:
        read = await point.link.read(point.db, bytes((FpId.CURRENT_UNIT_PRICE,)))
        raw = read.values().get(FpId.CURRENT_UNIT_PRICE)
    return decode_scaled(raw, 2) if raw else None


async def _release(point: Point, command: AuthoriseCommand) -> CommandResult:
    meter = point.outbox.meter(point.key.node, point.key.fp, command.nozzle)
    opened = OpenAuthorisation(
        node=point.key.node,
        fp=point.key.fp,
        nozzle=command.nozzle,
        order_no=command.order_no,
        command_id=command.command_id,
        price_fen_per_unit=command.price_fen_per_unit,
        total_before_milli=None if meter is None else meter.stands_milli,
        confirmed=False,
        opened_ms=int(point.now().timestamp() * 1000),
    )
    preset = (FpId.AMOUNT_PRESET, encode_amount(command.amount_fen))
    point.begin(opened)
    try:
        ack = await point.release.ask(command.nozzle, preset)
    except LinkError as error:
        point.link.close()
        result = answer(command, CommandState.UNKNOWN, "NO_ANSWER", str(error))
        _keep(point, result)
        return result
    if ack.ack == ACK_OK:
        result = answer(command, CommandState.ACCEPTED)
        point.confirm(result)
        return result
    log.info("authorise.refused", order=command.order_no, codes=ack.refusals())
    if may_have_begun(ack):
        return await _withdraw(point, command)
    result = refused(command, "DEVICE_REFUSED", f"codes {ack.refusals()}")
    point.outbox.drop_authorisation(result, int(point.now().timestamp() * 1000))
    point.opened = None
    return result


async def _withdraw(point: Point, command: AuthoriseCommand) -> CommandResult:
    """The nozzle may be open without its limit: shut it; the order ends by what the device then tells."""
    result = answer(command, CommandState.UNKNOWN, PARTLY_TAKEN, "released without its limit; withdrawn")
    _keep(point, result)
    try:
        await point.release.terminate()
    except LinkError:
        point.link.close()
    point.doubt()
    return result


async def stop(point: Point, command: StopCommand) -> CommandResult:
    """Withdraw an authorisation before fuel flows; a fill that runs is left alone."""
    async with point.lock:
        try:
            result = await _stopped(point, command)
        except (LinkError, IfsfError) as error:
            point.doubt()
            result = answer(command, CommandState.UNKNOWN, "NO_ANSWER", str(error))
        _keep(point, result)
        return result


async def _stopped(point: Point, command: StopCommand) -> CommandResult:
    if point.opened is None or point.opened.order_no != command.order_no:
        if point.outbox.has_fuel_of(command.order_no):
            return refused(command, "FUELLING", "fuel had flowed")
        return refused(command, "NOT_AUTHORISED")
    if not point.ready:
        return refused(command, "FP_OFFLINE")
    await point.refresh()
    if point.state in FLOWING:
        return refused(command, "FUELLING")
    if point.state is PointState.INOPERATIVE:  # like a wire that is gone: nobody knows whether it heard this
        await point.release.terminate()
        return refused(command, "FP_OFFLINE", "inoperative")
    if point.state in RELEASED or point.release.may_still_begin:
        ack = await point.release.terminate()
        if ack.ack != ACK_OK and point.state in RELEASED:
            return refused(command, "DEVICE_REFUSED", f"codes {ack.refusals()}")
        await point.refresh()
    before = point.opened
    await point.settle()
    if point.opened is not None:
        return refused(command, "FP_BUSY", "not at rest yet, or an older transaction is in the way")
    zero = zero_sale(point.key, before, EndReason.ZERO, point.now())
    if not point.outbox.knows_sale(zero.natural_key):
        return refused(command, "FUELLING", "fuel flowed, or cannot be excluded")
    return answer(command, CommandState.ACCEPTED)
