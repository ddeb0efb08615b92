"""Ctrl-C and SIGTERM for `make up` and `make demo`: a wish that is noted, never a traceback.

Imports next to nothing, so that a command can install it before everything that takes long to import.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Ending:
    """Whether somebody asked this process to end. A start and a stop are never cut in half: they ask `asked`."""

    def __init__(self) -> None:
        self._number = 0
        self._cuts = False

    def install(self) -> None:
        """Take both signals; those that came in while they were blocked (see the Makefile) are noted now."""
        for number in _SIGNALS:
            signal.signal(number, self._note)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self._number = self._number or number
        if self._cuts:
            self._cuts = False
            raise KeyboardInterrupt

    def asked(self) -> bool:
        """Whether a signal came."""
        return self._number != 0

    @property
    def status(self) -> int:
        """The exit status by which a shell knows a command that was interrupted: 130 after Ctrl-C."""
        return 128 + self._number

    @contextmanager
    def cutting(self) -> Iterator[None]:
        """Within this, and only here, a signal raises KeyboardInterrupt: for what may stop at any line."""
        self._cuts = True
        try:
            if self._number:
                raise KeyboardInterrupt
            yield
        finally:
            self._cuts = False
