"""Ctrl-C at any moment of `make up` and `make demo`: one clear line, a sensible status, nothing left, no traceback."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.running import clean_environment, processes_of, until
from workers.embedded.ports import any_free
from workers.embedded.process import ROOT
from workers.embedded.services import PORTS

pytestmark = pytest.mark.timeout(180)
_BLOCKED = ("env", "--block-signal=INT", "--block-signal=TERM")
"""As the Makefile starts them."""
_INTERRUPTED = 128 + signal.SIGINT


@pytest.fixture
def folder() -> Iterator[Path]:
    """A parent of data folders."""
    path = Path(tempfile.mkdtemp(prefix="jz-int-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


def _environment(folder: Path) -> dict[str, str]:
    taken: list[int] = []
    for wish in PORTS:
        taken.append(any_free(taken, udp=wish.udp))
    ports = {wish.variable: str(port) for wish, port in zip(PORTS, taken, strict=True)}
    return {**clean_environment(), **ports, "JIAZHU_DATA": str(folder / "d"), "PYTHONUNBUFFERED": "1"}


def _begin(folder: Path, module: str, *arguments: str) -> subprocess.Popen[str]:
    """A command as the leader of a process group, as a shell on a terminal starts it."""
    return subprocess.Popen(
        [*_BLOCKED, sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env=_environment(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def _program(process: subprocess.Popen[str]) -> str:
    return Path(f"/proc/{process.pid}/cmdline").read_text().split("\0")[0]


def _read_until(process: subprocess.Popen[str], words: str) -> str:
    assert process.stdout is not None
    seen = ""
    for line in process.stdout:
        seen += line
        if words in line:
            return seen
    raise AssertionError(f"{words!r} was never said: {seen}")


def _ctrl_c(process: subprocess.Popen[str]) -> str:
    """What the terminal does: SIGINT to the whole group; returns what the command says after it."""
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    return output


def _is_clean(folder: Path, output: str) -> None:
    assert "Traceback" not in output
    assert "KeyboardInterrupt" not in output
    assert "failed" not in output
    until(lambda: processes_of(folder) == [], "nothing is left", 10)


@pytest.mark.parametrize("delay_s", [0.0, 0.05, 0.2])
@pytest.mark.parametrize("module", ["workers.up", "workers.story"])
def test_ctrl_c_in_the_first_moments(folder: Path, module: str, delay_s: float) -> None:
    process = _begin(folder, module)
    time.sleep(delay_s)
    if delay_s == 0:
        until(lambda: _program(process) == sys.executable, "it runs, no longer env", 5)
    output = _ctrl_c(process)
    assert process.returncode == _INTERRUPTED, output
    assert "stopped" in output.splitlines()[-1]
    _is_clean(folder, output)


@pytest.mark.parametrize(
    "words", ["PostgreSQL starts", "· migrations", "· the demo station", "· wechat serves"]
)
def test_ctrl_c_while_up_starts(folder: Path, words: str) -> None:
    process = _begin(folder, "workers.up")
    seen = _read_until(process, words)
    time.sleep(0.3 if "·" in words else 0)  # so that the child is well under way
    output = _ctrl_c(process)
    assert process.returncode == _INTERRUPTED, seen + output
    assert output.splitlines()[-1] == "· stopped while starting; everything has ended"
    _is_clean(folder, output)


@pytest.mark.parametrize("words", ["· migrations", "预付 200.00"])
def test_ctrl_c_during_the_demo(folder: Path, words: str) -> None:
    process = _begin(folder, "workers.story")
    seen = _read_until(process, words)
    output = _ctrl_c(process)
    assert process.returncode == _INTERRUPTED, seen + output
    assert "the demo was interrupted" in output.splitlines()[-1]
    _is_clean(folder, output)
