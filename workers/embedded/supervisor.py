"""Keeps children running: restarts what dies, with growing pauses, and says so."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

from workers.embedded.process import Child, ServiceSpec, StackCancelledError, StackError, birth_of, wait_until

_FIRST_PAUSE_S = 0.2
_MOST_PAUSE_S = 5.0
_CALM_S = 20.0
_WATCH_STEP_S = 0.05


class Supervisor:
    """The children by name. One thread watches them from `watch()` until `stop_all()`.

    Thread-safe: whoever kills, stops or starts a child holds the lock, the watching thread does too.
    """

    def __init__(
        self,
        log_folder: Path,
        say: Callable[[str], None],
        changed: Callable[[], None],
        cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        """`say` gets lines for a person; `changed` is called after every start, to write down the pids.

        `cancelled` is asked during every wait.
        """
        self._cancelled = cancelled
        self._log_folder = log_folder
        self._say = say
        self._changed = changed
        self._children: dict[str, Child] = {}
        self._wanted: set[str] = set()
        self._pauses: dict[str, float] = {}
        self._due: dict[str, float] = {}
        self._killed: set[str] = set()
        self._started: dict[str, float] = {}
        self._lock = threading.RLock()
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None

    def names(self) -> tuple[str, ...]:
        """The services in the order of their start."""
        return tuple(self._children)

    def child(self, name: str) -> Child:
        """One child. Raises StackError when there is no such service."""
        if name not in self._children:
            raise StackError(f"no service {name!r}; there are: {', '.join(self._children)}")
        return self._children[name]

    def births(self) -> dict[str, tuple[int, str]]:
        """Pid and birth of everything that runs."""
        found = {}
        for name, child in list(self._children.items()):
            birth = birth_of(child.pid) if child.pid is not None and child.running else None
            if child.pid is not None and birth is not None:
                found[name] = (child.pid, birth)
        return found

    def start(self, spec: ServiceSpec) -> Child:
        """Start a service; it does not have to be ready yet."""
        with self._lock:
            child = Child(spec, self._log_folder)
            self._children[spec.name] = child
            self._wanted.add(spec.name)
            self._start(spec.name)
        return child

    def start_again(self, name: str) -> None:
        """Start a service that `stop` ended."""
        with self._lock:
            self._wanted.add(name)
            if not self.child(name).running:
                self._start(name)

    def _start(self, name: str) -> None:
        self._started[name] = time.monotonic()
        self._due.pop(name, None)
        self._killed.discard(name)
        self._children[name].start()
        self._changed()

    def wait_ready(self, name: str, timeout_s: float | None = None) -> None:
        """Wait until a service serves.

        Raises StackError with the end of its log when it does not in time, or when it ends before anybody
        watches over it.
        """
        child = self.child(name)
        limit = child.spec.ready_timeout_s if timeout_s is None else timeout_s
        died = False

        def settled() -> bool:
            nonlocal died
            died = self._thread is None and child.exit_code is not None
            return died or self._cancelled() or child.is_ready()

        settled_in_time = wait_until(settled, limit)
        if self._cancelled():
            raise StackCancelledError("the stack was asked to end")
        if settled_in_time and not died:
            return
        how = f"ended with code {child.exit_code}" if died else f"is not ready after {limit:g} s"
        raise StackError(f"{name} {how}; the end of {child.log_path}:\n{child.last_lines()}")

    def kill(self, name: str, number: int = signal.SIGKILL) -> int:
        """Send a signal to the process itself, as an accident would; returns its pid.

        It will be restarted, and the line about that says that it was meant.
        """
        with self._lock:
            child = self.child(name)
            if child.pid is None or not child.running:
                raise StackError(f"{name} does not run")
            pid = child.pid
            self._killed.add(name)
            os.kill(pid, number)
            if number == signal.SIGKILL:
                child.wait(5.0)
        return pid

    def stop(self, name: str) -> None:
        """End a service in order and leave it ended."""
        with self._lock:
            self._wanted.discard(name)
            self._due.pop(name, None)
            self.child(name).stop()
        self._changed()

    def watch(self) -> None:
        """Start restarting what dies."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, name="supervisor", daemon=True)
            self._thread.start()

    def _watch(self) -> None:
        while not self._ending.wait(_WATCH_STEP_S):
            with self._lock:
                for name in tuple(self._wanted):
                    self._look_at(name, time.monotonic())

    def _look_at(self, name: str, now: float) -> None:
        child = self._children[name]
        if child.running or self._ending.is_set():
            return
        if name not in self._due:
            calm = now - self._started[name] > _CALM_S
            pause = _FIRST_PAUSE_S if calm else self._pauses.get(name, _FIRST_PAUSE_S)
            self._pauses[name] = min(pause * 2, _MOST_PAUSE_S)
            self._due[name] = now + pause
            if name in self._killed:
                self._say(f"· {name} was killed on purpose ({_how(child.exit_code)}); starting it again")
            else:
                self._say(f"! {name} ended ({_how(child.exit_code)}); starting it again")
        elif now >= self._due[name]:
            try:
                self._start(name)
            except (StackError, OSError) as error:
                self._say(f"! {name} does not start: {error}")
                self._due[name] = now + _MOST_PAUSE_S

    def stop_all(self, last: tuple[str, ...] = ()) -> None:
        """End everything: first all but `last` at the same time, then `last` in that order (databases)."""
        self._ending.set()
        if self._thread is not None:
            self._thread.join(timeout=30)
        with self._lock:
            self._wanted.clear()
            first = [child for name, child in self._children.items() if name not in last]
            for child in first:
                with contextlib.suppress(ProcessLookupError):
                    child.ask_to_stop()
            deadline = time.monotonic() + max([child.spec.stop_timeout_s for child in first], default=0)
            for child in first:
                child.wait(max(0.0, deadline - time.monotonic()))
                child.kill()
            for name in last:
                if name in self._children:
                    self._children[name].stop()
        self._changed()


def _how(exit_code: int | None) -> str:
    if exit_code is None or exit_code >= 0:
        return f"code {exit_code}"
    try:
        return signal.Signals(-exit_code).name
    except ValueError:
        return f"signal {-exit_code}"
