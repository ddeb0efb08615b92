"""A bad network between a station and the gateway server."""

import asyncio
import random
from collections.abc import Callable


class LossyPath(asyncio.DatagramProtocol):
    """A UDP path that loses, doubles and reorders datagrams in both directions; seeded."""

    def __init__(
        self, target: tuple[str, int], *, loss: float, double: float, reorder: float, seed: int
    ) -> None:
        self.target = target
        self.loss, self.double, self.reorder = loss, double, reorder
        self.random = random.Random(seed)
        self.passed = self.lost = self.doubled = self.delayed = 0
        self._back: dict[tuple[str, int], asyncio.DatagramTransport] = {}
        self._front: asyncio.DatagramTransport | None = None

    async def open(self) -> int:
        loop = asyncio.get_running_loop()
        self._front, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=("127.0.0.1", 0))
        return int(self._front.get_extra_info("sockname")[1])

    def close(self) -> None:
        for transport in (self._front, *self._back.values()):
            if transport is not None:
                transport.close()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        asyncio.get_running_loop().create_task(self._up(data, addr))

    async def _up(self, data: bytes, addr: tuple[str, int]) -> None:
        if addr not in self._back:
            loop = asyncio.get_running_loop()
            self._back[addr], _ = await loop.create_datagram_endpoint(
                lambda: _Return(self, addr), remote_addr=self.target
            )
        self.carry(data, self._back[addr].sendto)

    def down(self, data: bytes, addr: tuple[str, int]) -> None:
        if self._front is not None:
            front = self._front
            self.carry(data, lambda one: front.sendto(one, addr))

    def carry(self, data: bytes, send: Callable[[bytes], None]) -> None:
        if self.random.random() < self.loss:
            self.lost += 1
            return
        copies = 2 if self.random.random() < self.double else 1
        self.passed += 1
        self.doubled += copies - 1
        for _ in range(copies):
            late = self.random.random() < self.reorder
            self.delayed += late
            delay_s = self.random.uniform(0.01, 0.08) if late else 0.0
            asyncio.get_running_loop().call_later(delay_s, send, data)


class _Return(asyncio.DatagramProtocol):
    def __init__(self, path: LossyPath, addr: tuple[str, int]) -> None:
        self._path, self._addr = path, addr

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._path.down(data, self._addr)

    def error_received(self, exc: Exception) -> None:
        self._path.lost += 1
