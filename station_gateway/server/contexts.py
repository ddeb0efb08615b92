"""The OSCORE contexts of all stations of a shard, found by key id in one step; new ones are seen at once."""

import time
from pathlib import Path
from typing import Any

import structlog
from aiocoap.credentials import CredentialsMap
from aiocoap.oscore import COSE_KID

from station_gateway.protocols.uplink.coap import load_context, release_context

log = structlog.get_logger(__name__)

_RESCAN_S = 2.0


class StationContexts(CredentialsMap):  # type: ignore[misc]
    """aiocoap's own map tries every context in turn; with thousands of stations that would be all we do."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        self._by_kid: dict[bytes, Any] = {}
        self._scanned_at = -1e9
        self.scan()

    def scan(self) -> None:
        """Load the contexts that are new in the folder; a damaged or locked one is reported and passed over."""
        self._scanned_at = time.monotonic()
        if not self._folder.is_dir():
            return
        for half in sorted(self._folder.iterdir()):
            if half.name in self or not (half / "settings.json").is_file():
                continue
            try:
                context = load_context(half, half.name)
            except (OSError, ValueError, TimeoutError) as error:
                log.error("gateway.context.unusable", station=half.name, error=str(error))
                continue
            if context.recipient_id in self._by_kid:
                log.error("gateway.context.duplicate", station=half.name)
                continue
            self[half.name] = context
            self._by_kid[context.recipient_id] = context

    @property
    def stations(self) -> list[str]:
        """Return the codes of the stations that this shard serves."""
        return list(self)

    def find_oscore(self, unprotected: dict[int, Any]) -> Any:
        """Return the context of a key id. Raises KeyError; an unknown id makes the folder be read again."""
        kid = unprotected.get(COSE_KID)
        if kid is None:
            raise KeyError("no key id")
        if kid not in self._by_kid and time.monotonic() - self._scanned_at > _RESCAN_S:
            self.scan()
        return self._by_kid[kid]

    def close(self) -> None:
        """Let go of all contexts, which writes their sequence numbers."""
        for context in self.values():
            release_context(context)
        self._by_kid.clear()
        self.clear()
