"""One supervised program: how it is started, when it counts as ready, how it is ended."""

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[2]
_LAUNCH = Path(__file__).with_name("launch.py")
_LOG_LIMIT = 20 * 1024 * 1024
_NOT_INHERITED = ("PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED")

# Linux sends the death signal when the *thread* that forked ends, so one thread that lives as long as the
# process starts everything.
_LAUNCHER = ThreadPoolExecutor(max_workers=1, thread_name_prefix="launcher")


class StackError(RuntimeError):
    """The stack cannot start or go on; the message tells a person what to do."""


class StackCancelledError(StackError):
    """Somebody asked the stack to end while it was starting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSpec:
    """What to run, and how it shows that it serves.

    `ready` is asked until it returns True; without it the program prints a JSON line with "ready". `user` is
    the system user to become (PostgreSQL as root).
    """

    name: str
    command: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    ready: Callable[[], bool] | None = None
    ready_url: str | None = None
    before_start: Callable[[], None] | None = None
    stop_signal: int = signal.SIGTERM
    death_signal: int = signal.SIGKILL
    user: str | None = None
    pass_folders: bool = False
    ready_timeout_s: int = 60
    stop_timeout_s: int = 15


def python(module: str, *arguments: str) -> tuple[str, ...]:
    """The command that runs one of our modules with this interpreter."""
    return (sys.executable, "-m", module, *arguments)


def child_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """The environment of a child.

    Ours, what it is given, and byte code allowed (workers would recompile else).
    """
    env = {name: value for name, value in os.environ.items() if name not in _NOT_INHERITED}
    return {**env, "PYTHONUNBUFFERED": "1", **extra}


class Child:
    """A running instance of a spec. Its output goes to a log file; readiness is read from there."""

    def __init__(self, spec: ServiceSpec, log_folder: Path) -> None:
        self.spec = spec
        self.log_path = log_folder / f"{spec.name}.log"
        self.starts = 0
        self.ready_line: dict[str, Any] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._offset = 0

    @property
    def pid(self) -> int | None:
        """Its process id, None when it never started."""
        return None if self._process is None else self._process.pid

    @property
    def exit_code(self) -> int | None:
        """How it ended; None while it runs (or never started)."""
        return None if self._process is None else self._process.poll()

    @property
    def running(self) -> bool:
        """Whether the process is there now."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the program in its own session; Ctrl-C of the terminal reaches the supervisor alone."""
        if self.spec.before_start is not None:
            self.spec.before_start()
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        if self.log_path.exists() and self.log_path.stat().st_size > _LOG_LIMIT:
            self.log_path.replace(self.log_path.with_suffix(".log.1"))
        self.ready_line = {}
        self._process = _LAUNCHER.submit(self._spawn).result()
        self.starts += 1

    def _spawn(self) -> subprocess.Popen[bytes]:
        spec = self.spec
        wrapper = [sys.executable, "-I", "-S", str(_LAUNCH), "--parent", str(os.getpid())]
        wrapper += ["--death-signal", str(int(spec.death_signal))]
        if spec.user is not None:
            wrapper += ["--user", spec.user]
        if spec.pass_folders:
            wrapper.append("--pass-folders")
        with self.log_path.open("ab") as log:
            self._offset = log.tell()
            return subprocess.Popen(
                [*wrapper, "--", *spec.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env=child_environment(spec.env),
                start_new_session=True,
            )

    def is_ready(self) -> bool:
        """Whether it serves now: its own check when it has one, else its ready line."""
        if not self.running:
            return False
        if self.spec.ready is not None:
            return self.spec.ready()
        if self.ready_line or self._find_ready_line():
            return True
        return self.spec.ready_url is not None and answers(self.spec.ready_url)

    def _find_ready_line(self) -> bool:
        with self.log_path.open("rb") as log:
            log.seek(self._offset)
            for raw in log:
                if raw.startswith(b"{") and b'"ready"' in raw and raw.endswith(b"\n"):
                    with contextlib.suppress(ValueError):
                        line = json.loads(raw)
                        if line.get("ready") is True:
                            self.ready_line = line
                            return True
        return False

    def signal(self, number: int) -> None:
        """Send a signal to the program; nothing happens when it is gone."""
        if self._process is not None:
            self._process.send_signal(number)

    def kill(self) -> None:
        """kill -9 of the program and of whatever it started, and wait until it is gone."""
        if self._process is None or self._process.poll() is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def wait(self, timeout_s: float) -> bool:
        """Wait until it is gone; False when it is still there."""
        return wait_until(lambda: not self.running, timeout_s, 0.01)

    def ask_to_stop(self) -> None:
        """Send the signal on which it ends in order; do not wait."""
        self.signal(self.spec.stop_signal)

    def stop(self) -> None:
        """Ask it to end, then insist."""
        if self._process is None or self._process.poll() is not None:
            return
        self.ask_to_stop()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=self.spec.stop_timeout_s)
        self.kill()

    def last_lines(self, count: int = 15) -> str:
        """The end of its log since the last start, for the message that says why it failed."""
        if not self.log_path.exists():
            return "(no log)"
        with self.log_path.open("rb") as log:
            log.seek(self._offset)
            text = log.read()[-20_000:].decode(errors="replace")
        return "\n".join(text.splitlines()[-count:]) or "(it wrote nothing)"


def run_to_end(
    spec: ServiceSpec, *, cancelled: Callable[[], bool] = lambda: False, timeout_s: int = 120
) -> None:
    """Run a program that ends by itself, in its own session: Ctrl-C of the terminal does not reach it.

    Raises StackCancelledError when `cancelled` says so meanwhile (the program is ended then), StackError with the
    end of its output when it fails or takes longer than `timeout_s`.
    """
    with tempfile.TemporaryDirectory(prefix="jz-run-") as folder:
        child = Child(spec, Path(folder))
        child.start()
        in_time = wait_until(lambda: cancelled() or not child.running, timeout_s)
        if cancelled():
            child.stop()
            raise StackCancelledError("the stack was asked to end")
        if not in_time:
            child.kill()
            raise StackError(f"{spec.name} did not end within {timeout_s} s:\n{child.last_lines()}")
        if child.exit_code != 0:
            raise StackError(f"{spec.name} failed:\n{child.last_lines(40)}")


def answers(url: str) -> bool:
    """Whether an HTTP address answers 200 within a second."""
    try:
        with urllib.request.urlopen(url, timeout=1) as answer:
            return bool(answer.status == 200)
    except (OSError, ValueError, http.client.HTTPException):  # the last one: a stranger that speaks no HTTP
        return False


def wait_until(condition: Callable[[], bool], timeout_s: float, step_s: float = 0.05) -> bool:
    """Ask until it holds; False when the time is over."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(step_s)
    return True


def birth_of(pid: int) -> str | None:
    """When a process was born, as text: with the pid it names one process for ever.

    None when there is none.
    """
    try:
        return repr(psutil.Process(pid).create_time())
    except psutil.Error:
        return None


def end_leftover(pid: int, birth: str) -> bool:
    """End a process of an earlier supervisor, if it is still that very process.

    Returns whether there was one.
    """
    if birth_of(pid) != birth:
        return False
    try:
        process = psutil.Process(pid)
        process.send_signal(signal.SIGINT if "postgres" in process.name() else signal.SIGTERM)
        try:
            process.wait(timeout=10)
        except psutil.TimeoutExpired:
            process.kill()
            process.wait(timeout=5)
    except psutil.NoSuchProcess:
        return False
    return True
