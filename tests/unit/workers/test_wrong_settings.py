"""Wrong settings end every command with a line each and status 2, before anything is started."""

import argparse
from collections.abc import Callable
from pathlib import Path

import pytest

import api.main
import db.seed
import station_gateway.server.main
import workers.codec_server
import workers.main
from workers import up
from workers.embedded.ending import Ending
from workers.story import __main__ as story

_WRONG = {
    "JIAZHU_LOG_LEVEL": "foo",
    "JIAZHU_LOG_FORMAT": "foo",
    "JIAZHU_DATABASE_POOL_SIZE": "0",
    "JIAZHU_WORKER_MAX_ACTIVITIES": "abc",
}


@pytest.fixture(autouse=True)
def wrong(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment with several mistakes in it."""
    for name, value in _WRONG.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def _up(folder: Path, ending: Ending) -> int:
    return up.run(argparse.Namespace(data=folder, workers=1, rate=20, free_ports=False, only=None), ending)


@pytest.mark.parametrize("command", [_up, story.run])
def test_the_stack_names_every_wrong_setting_and_touches_nothing(
    command: Callable[[Path, Ending], int],
    wrong: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("JIAZHU_API_PORT", "JIAZHU_TEMPORAL_PORT"):
        wrong.setenv(name, "70000")
    folder = tmp_path / "data"
    assert command(folder, Ending()) == 2
    said = capsys.readouterr()
    names = sorted({*_WRONG, "JIAZHU_API_PORT", "JIAZHU_TEMPORAL_PORT"})
    assert [line.partition(":")[0] for line in said.err.splitlines()] == [f"! {name}" for name in names]
    assert "! JIAZHU_TEMPORAL_PORT: must be a port number, 1 to 65535" in said.err
    assert said.out == ""
    assert not folder.exists()


@pytest.mark.parametrize(
    "main",
    [
        api.main.main,
        workers.main.main,
        workers.codec_server.main,
        station_gateway.server.main.main,
        db.seed.main,
    ],
)
def test_a_single_process_names_them_too(main: Callable[[], int], capsys: pytest.CaptureFixture[str]) -> None:
    assert main() == 2
    assert [line.partition(":")[0] for line in capsys.readouterr().err.splitlines()] == sorted(_WRONG)
