"""The OSCORE contexts of all stations of a shard, found by key id in one step.

The folder is the truth while the server runs: a new key is seen at its first message, a key whose files are gone or
replaced is refused within two seconds.
"""

import time
from pathlib import Path
from typing import Any

import structlog
from aiocoap.credentials import CredentialsMap
from aiocoap.oscore import COSE_KID

from station_gateway.protocols.uplink.coap import drop_context, load_context, release_context

log = structlog.get_logger(__name__)

RESCAN_S = 2.0
_NO_KEY = (0, 0)


class StationContexts(CredentialsMap):  # type: ignore[misc]
    """aiocoap's own map tries every context in turn; with thousands of stations that would be all we do."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        self._by_kid: dict[bytes, Any] = {}
        self._names: dict[bytes, str] = {}
        self._keys: dict[str, tuple[int, int]] = {}
        self._looked_at: dict[bytes, float] = {}
        self._scanned_at = -1e9
        self.scan()

    def scan(self) -> None:
        """Drop the contexts whose key is gone or replaced and load the new ones.

        A damaged or locked one is reported and passed over.
        """
        self._scanned_at = time.monotonic()
        for kid in tuple(self._by_kid):
            self._drop_when_withdrawn(kid)
        if not self._folder.is_dir():
            return
        for half in sorted(self._folder.iterdir()):
            if half.name in self or not (half / "settings.json").is_file():
                continue
            try:
                key = _key_of(half)
                context = load_context(half, half.name)
            except (OSError, ValueError, TimeoutError) as error:
                log.error("gateway.context.unusable", station=half.name, error=str(error))
                continue
            if context.recipient_id in self._by_kid:
                log.error("gateway.context.duplicate", station=half.name)
                continue
            self[half.name] = context
            self._keys[half.name] = key
            self._names[context.recipient_id] = half.name
            self._by_kid[context.recipient_id] = context

    def _drop_when_withdrawn(self, kid: bytes) -> None:
        """Forget a context when the key file is not the one that it was loaded from."""
        self._looked_at[kid] = time.monotonic()
        name = self._names[kid]
        try:
            if _key_of(self._folder / name) == self._keys[name]:
                return
        except OSError as error:
            log.error("gateway.context.unreadable", station=name, error=str(error))
            return
        log.warning("gateway.context.withdrawn", station=name)
        drop_context(self._by_kid[kid])
        for known in (self._by_kid, self._names, self._looked_at):
            known.pop(kid, None)
        del self[name], self._keys[name]

    @property
    def stations(self) -> list[str]:
        """Return the codes of the stations that this shard serves."""
        return list(self)

    def find_oscore(self, unprotected: dict[int, Any]) -> Any:
        """Return the context of a key id. Raises KeyError; an unknown id makes the folder be read again."""
        kid = unprotected.get(COSE_KID)
        if kid is None:
            raise KeyError("no key id")
        now = time.monotonic()
        if kid in self._by_kid and now - self._looked_at.get(kid, -1e9) > RESCAN_S:
            self._drop_when_withdrawn(kid)
        if kid not in self._by_kid and now - self._scanned_at > RESCAN_S:
            self.scan()
        return self._by_kid[kid]

    def close(self) -> None:
        """Let go of all contexts, which writes their sequence numbers."""
        for context in self.values():
            release_context(context)
        self._by_kid.clear()
        self.clear()


def _key_of(half: Path) -> tuple[int, int]:
    """Return what tells one key file from another; a file that is not there equals no loaded one. Raises OSError."""
    try:
        found = (half / "secret.json").stat()
    except (FileNotFoundError, NotADirectoryError):
        return _NO_KEY
    return found.st_ino, found.st_mtime_ns
