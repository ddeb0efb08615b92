"""The wire to a dispenser, against a scripted device."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from station_gateway.client.link import DispenserLink, LinkError, Wire
from station_gateway.protocols.ifsf.framing import Reassembler
from station_gateway.protocols.ifsf.messages import Address, Message, MessageType, encode

CONTROLLER, DEVICE = Address(2, 1), Address(1, 9)
Answer = Callable[[Message], list[bytes]]


class ScriptedDevice:
    """Answers as the test says, on the command connection."""

    def __init__(self) -> None:
        self.answer: Answer = lambda message: [reply(message)]
        self.heard: list[Message] = []
        self.writer: asyncio.StreamWriter | None = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        cutter = Reassembler()
        while chunk := await reader.read(4096):
            for message in cutter.feed(chunk):
                self.heard.append(message)
                for frame in self.answer(message):
                    writer.write(frame)
        writer.close()


def reply(message: Message, *, token: int | None = None, origin: Address = DEVICE) -> bytes:
    kind = MessageType.ANSWER if message.type is MessageType.READ else MessageType.ACK
    items = tuple((one, b"\x03") for one in message.ids)
    return encode(
        Message(
            recipient=CONTROLLER,
            origin=origin,
            type=kind,
            token=message.token if token is None else token,
            database=message.database,
            items=items,
        )
    )


@pytest.fixture
async def rig() -> AsyncIterator[tuple[ScriptedDevice, DispenserLink, list[Message]]]:
    device, heard = ScriptedDevice(), list[Message]()
    server = await asyncio.start_server(device.serve, "127.0.0.1", 0)
    link = DispenserLink(node=9, controller=CONTROLLER, answer_timeout_s=0.3, on_message=heard.append)
    await link.open("127.0.0.1", server.sockets[0].getsockname()[1])
    yield device, link, heard
    link.close()
    server.close()


Rig = tuple[ScriptedDevice, DispenserLink, list[Message]]


@pytest.mark.feature("003-D3")
async def test_token_is_echoed_and_cycles(rig: Rig) -> None:
    device, link, _ = rig
    for _ in range(40):
        answer = await link.read(b"\x21", b"\x14")
        assert answer.values() == {0x14: b"\x03"}
    tokens = [message.token for message in device.heard]
    assert tokens[:3] == [1, 2, 3]
    assert 0 not in tokens
    assert tokens[31] == 1


async def test_answers_find_their_requests_in_any_order(rig: Rig) -> None:
    device, link, _ = rig
    held: list[Message] = []

    def hold(message: Message) -> list[bytes]:
        held.append(message)
        return [reply(one) for one in reversed(held)] if len(held) == 3 else []

    device.answer = hold
    answers = await asyncio.gather(*(link.read(bytes((0x21 + n,)), bytes((0x14 + n,))) for n in range(3)))
    assert [next(iter(one.values())) for one in answers] == [0x14, 0x15, 0x16]


@pytest.mark.parametrize("wrong", ["token", "origin", "silence"])
async def test_no_proper_answer_ends_the_connection(rig: Rig, wrong: str) -> None:
    device, link, _ = rig
    scripts: dict[str, Answer] = {
        "token": lambda message: [reply(message, token=(message.token + 1) % 32)],
        "origin": lambda message: [reply(message, origin=Address(1, 8))],
        "silence": lambda message: [],
    }
    device.answer = scripts[wrong]
    with pytest.raises(LinkError):
        await link.write(b"\x21", (0x3E, b""))
    assert link.closed.is_set()
    with pytest.raises(LinkError, match="not connected"):
        await link.read(b"\x21", b"\x14")


@pytest.mark.feature("003-E5")
async def test_hostile_stream_is_closed(rig: Rig) -> None:
    device, link, _ = rig
    device.answer = lambda message: [b"\xff" * 40]
    with pytest.raises(LinkError):
        await link.read(b"\x21", b"\x14")
    assert link.closed.is_set()


async def test_unsolicited_message_that_wants_an_acknowledgement_gets_one(rig: Rig) -> None:
    device, link, heard = rig
    await link.read(b"\x21", b"\x14")
    event = Message(
        recipient=CONTROLLER,
        origin=DEVICE,
        type=MessageType.UNSOLICITED_WITH_ACK,
        token=0,
        database=b"\x21",
        items=((0x64, b""), (0x14, b"\x04")),
    )
    assert device.writer is not None
    device.writer.write(encode(event))
    async with asyncio.timeout(2):
        while not heard or device.heard[-1].type is not MessageType.ACK:
            await asyncio.sleep(0.01)
    assert heard == [event]
    assert (device.heard[-1].database, device.heard[-1].ack) == (b"\x21", 0)


async def test_answers_on_the_connection_back(rig: Rig) -> None:
    device, link, _ = rig
    device.answer = lambda message: []
    loop = asyncio.get_running_loop()
    listener = await loop.create_server(lambda: Wire(link.received, link.back_lost), "127.0.0.1", 0)
    _, writer = await asyncio.open_connection("127.0.0.1", listener.sockets[0].getsockname()[1])
    reading = asyncio.create_task(link.read(b"\x21", b"\x14"))
    async with asyncio.timeout(2):
        while not device.heard:
            await asyncio.sleep(0.01)
    writer.write(reply(device.heard[0]))
    assert (await reading).values() == {0x14: b"\x03"}
    writer.close()
    listener.close()
