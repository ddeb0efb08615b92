"""Bytes on their way out, with the faults that a network adds: glued and split frames, always in order."""

from __future__ import annotations

import asyncio

from sandbox.station.faults import FaultBoard, FaultKind

SPLIT_PAUSE_MS = 50


class Outgoing:
    """Write frames to a socket, now or held back for a moment."""

    def __init__(self, faults: FaultBoard) -> None:
        self._faults = faults
        self._held = bytearray()
        self._frames_to_wait = 0
        self._timer: asyncio.TimerHandle | None = None

    def send(self, writer: asyncio.StreamWriter, frame: bytes) -> None:
        """Send one frame after everything that was held back before it."""
        if self._timer is not None:
            self._held += frame
            self._frames_to_wait -= 1
            if self._frames_to_wait == 0:
                self._release(writer)
            return
        glue = self._faults.take(FaultKind.GLUE)
        if glue:
            self._hold(writer, frame, frames=glue["frames"] - 1, ms=glue["hold_ms"])
            return
        split = self._faults.take(FaultKind.SPLIT)
        if split:
            writer.write(frame[: split["bytes"]])
            self._hold(writer, frame[split["bytes"] :], frames=0, ms=SPLIT_PAUSE_MS)
            return
        writer.write(frame)

    def drop(self) -> None:
        """The connection is gone, and with it what was held back."""
        if self._timer:
            self._timer.cancel()
        self._timer = None
        self._held.clear()

    def _hold(self, writer: asyncio.StreamWriter, rest: bytes, *, frames: int, ms: int) -> None:
        self._held += rest
        self._frames_to_wait = frames
        self._timer = asyncio.get_running_loop().call_later(ms / 1000, self._release, writer)

    def _release(self, writer: asyncio.StreamWriter) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = None
        writer.write(bytes(self._held))
        self._held.clear()
