"""What the embedded stack refuses in one line before it starts: nothing of somebody else's is removed or written."""

from pathlib import Path

import pytest

from workers.embedded.postgres import EmbeddedPostgres, check_answers
from workers.embedded.process import StackError
from workers.embedded.stack import EmbeddedStack
from workers.embedded.state import FolderLock, read_record, write_record
from workers.story.__main__ import _clear


def _stranger(folder: Path) -> Path:
    folder.mkdir()
    file = folder / "precious.txt"
    file.write_text("mine", encoding="utf-8")
    return file


def test_a_folder_with_files_of_somebody_is_made_no_cluster(tmp_path: Path) -> None:
    file = _stranger(tmp_path / "postgres")
    with pytest.raises(StackError, match="holds files but no database"):
        EmbeddedPostgres(tmp_path / "postgres").prepare()
    assert file.read_text(encoding="utf-8") == "mine"


def test_the_demo_clears_only_what_a_stack_made(tmp_path: Path) -> None:
    file = _stranger(tmp_path / "theirs")
    with pytest.raises(StackError, match="no demo made"):
        _clear(tmp_path / "theirs")
    assert file.read_text(encoding="utf-8") == "mine"
    ours = tmp_path / "ours"
    _stranger(ours)
    lock = FolderLock(ours)
    lock.acquire()
    lock.release()
    _clear(ours)
    assert not ours.exists()


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "stack.lock").mkdir()
    with pytest.raises(StackError, match=r"cannot be written .*another folder with JIAZHU_DATA"):
        FolderLock(tmp_path).acquire()


def test_a_refused_start_leaves_the_ports_of_the_start_before(tmp_path: Path) -> None:
    write_record(tmp_path, {"ports": {"api": 8777}})
    refused = EmbeddedStack(tmp_path, say=lambda _line: None, environment={"JIAZHU_API_PORT": "abc"})
    with pytest.raises(StackError, match="no port number"), refused:
        pytest.fail("it started")
    assert read_record(tmp_path)["ports"] == {"api": 8777}


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("garbage", "is not postgresql"),
        ("mysql://u:p@h/x", "is not postgresql"),
        ("postgresql://u:p@127.0.0.1:1/x", "does not let us in"),
    ],
)
def test_a_database_address_that_cannot_serve_is_one_line(url: str, line: str) -> None:
    with pytest.raises(StackError, match=line) as refused:
        check_answers(url)
    assert "\n" not in str(refused.value)
    assert "u:p" not in str(refused.value), "a password belongs on no screen"
