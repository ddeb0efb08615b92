"""Cutting a TCP stream into messages: M_Lg is the only frame; segments glue or split messages."""

from station_gateway.protocols.ifsf.errors import IfsfError
from station_gateway.protocols.ifsf.messages import HEADER_SIZE, Message, decode

MAX_BODY = 4096
"""Longer than any message of the dispenser application; a longer one is a lost frame, not a message."""


class Reassembler:
    """Keeps the bytes of an unfinished message between segments."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, segment: bytes) -> list[Message]:
        """Return every message that the segment completes; a partial one waits.

        Raises IfsfError when the stream cannot be IFSF; the messages before the fault are lost with the
        connection, which is safe because the device sends them again.
        """
        data = self._rest + segment if self._rest else segment
        at, found = 0, []
        while len(data) - at >= HEADER_SIZE:
            size = int.from_bytes(data[at + 6 : at + 8], "big")
            if not 2 <= size <= MAX_BODY:
                raise IfsfError(f"impossible message length {size}")
            end = at + HEADER_SIZE + size
            if end > len(data):
                break
            found.append(decode(data[at:end]))
            at = end
        self._rest = data[at:]
        return found
