"""What the stack keeps in its data folder.

The lock, the secrets of this installation, the record of what runs.
"""

import base64
import fcntl
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workers.embedded.process import StackError

_SECRETS = "secrets.json"
_RECORD = "stack.json"
_LOCK = "stack.lock"


def write_private(path: Path, text: str) -> None:
    """Write beside, for the owner alone, then rename: a reader never sees half a file."""
    beside = path.with_name(path.name + ".new")
    beside.unlink(missing_ok=True)
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    beside.replace(path)


class FolderLock:
    """One stack a data folder. The kernel drops the lock with the process, however that ends."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / _LOCK
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock. Raises StackError that names the process which holds it, or says why nobody can take it."""
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StackError(
                f"the data folder {self._path.parent} cannot be written ({error.strerror}): "
                "make it yours, or choose another folder with JIAZHU_DATA"
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(descriptor, 32).decode(errors="replace").strip() or "?"
            os.close(descriptor)
            raise StackError(
                f"a stack runs on {self._path.parent} already (pid {holder}): "
                "stop that one, or choose another folder with JIAZHU_DATA"
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        self._descriptor = descriptor

    @property
    def was_taken(self) -> bool:
        """Whether a stack has ever run on the folder."""
        return self._path.exists()

    def release(self) -> None:
        """Give the lock back."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _key() -> str:
    return base64.b64encode(secrets.token_bytes(32)).decode()


def load_secrets(folder: Path) -> dict[str, str]:
    """The secrets of this installation by environment variable, drawn on the first call and kept (mode 0600)."""
    path = folder / _SECRETS
    known: dict[str, str] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    drawn = {
        "JIAZHU_CODEC_KEYS": f"k1:{_key()}",
        "JIAZHU_DATA_KEYS": f"d1:{_key()}",
        "JIAZHU_INDEX_KEY": _key(),
        "JIAZHU_NOZZLE_CODE_KEY": _key(),
        "JIAZHU_JWT_SECRET": secrets.token_urlsafe(48),
        "JIAZHU_CONSOLE_SECRET": secrets.token_urlsafe(48),
    }
    complete = {**drawn, **known}
    if complete != known:
        write_private(path, json.dumps(complete, indent=1))
    return complete


def read_record(folder: Path) -> dict[str, Any]:
    """What the last supervisor wrote down; empty when there was none or the file is damaged."""
    try:
        record = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Write down ports, addresses and processes, for people and for the next start."""
    write_private(folder / _RECORD, json.dumps(record, indent=1))
