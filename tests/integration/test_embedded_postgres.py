"""PostgreSQL from the wheel under our supervision: nothing that was committed is lost to kill -9."""

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from workers.embedded.postgres import EmbeddedPostgres
from workers.embedded.process import Child, wait_until


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="jz-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


def _started(cluster: EmbeddedPostgres, logs: Path) -> Child:
    child = Child(cluster.spec(), logs)
    child.start()
    assert wait_until(child.is_ready, 30), child.last_lines()
    return child


def test_what_was_committed_survives_kill_9(folder: Path) -> None:
    cluster = EmbeddedPostgres(folder / "postgres")
    child = _started(cluster, folder / "logs")
    with psycopg.connect(cluster.conninfo(), autocommit=True) as connection:
        assert connection.execute("SHOW fsync").fetchone() == ("on",)
        connection.execute("CREATE TABLE kept (n int)")
        connection.execute("INSERT INTO kept VALUES (7)")
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        assert child.wait(5)
    again = _started(cluster, folder / "logs")
    with psycopg.connect(cluster.conninfo()) as connection:
        assert connection.execute("SELECT n FROM kept").fetchone() == (7,)
    again.stop()
    assert again.exit_code == 0


def test_a_stale_pid_file_that_names_a_living_stranger_is_no_obstacle(folder: Path) -> None:
    cluster = EmbeddedPostgres(folder / "postgres")
    _started(cluster, folder / "logs").stop()
    lines = [str(os.getpid()), str(cluster.folder), "0", "5432", str(cluster.socket_folder), "", "", "ready"]
    (cluster.folder / "postmaster.pid").write_text("\n".join(lines) + "\n", encoding="utf-8")
    _started(cluster, folder / "logs").stop()


def test_a_server_that_outlived_its_supervisor_is_replaced(folder: Path) -> None:
    cluster = EmbeddedPostgres(folder / "postgres")
    first = _started(cluster, folder / "logs")
    second = _started(cluster, folder / "logs")
    assert first.wait(5)
    assert first.exit_code == 0
    second.stop()


def test_a_deep_folder_gets_a_short_socket_path(folder: Path) -> None:
    deep = folder / ("d" * 60) / ("e" * 60)
    cluster = EmbeddedPostgres(deep / "postgres")
    assert len(str(cluster.socket_folder)) < 80
    child = _started(cluster, deep / "logs")
    child.stop()
    shutil.rmtree(cluster.socket_folder, ignore_errors=True)


def test_an_interrupted_first_start_is_repeated(folder: Path) -> None:
    half = folder / "postgres.new"
    (half / "base").mkdir(parents=True)
    (half / "half-written.conf").write_text("x", encoding="utf-8")
    _started(EmbeddedPostgres(folder / "postgres"), folder / "logs").stop()
    assert not half.exists()


def test_others_cannot_enter_the_socket_folder(folder: Path) -> None:
    cluster = EmbeddedPostgres(folder / "postgres")
    _started(cluster, folder / "logs").stop()
    assert cluster.socket_folder.stat().st_mode & 0o777 == 0o700
    assert cluster.folder.stat().st_mode & 0o077 == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root changes its user")
def test_root_hands_over_and_passes_a_closed_parent(folder: Path) -> None:
    folder.chmod(0o700)
    cluster = EmbeddedPostgres(folder / "closed" / "postgres")
    spec = cluster.spec()
    assert spec.user == "nobody"
    assert spec.pass_folders
    child = _started(cluster, folder / "closed" / "logs")
    status = Path(f"/proc/{child.pid}/status").read_text(encoding="ascii")
    owner = next(line.split()[1] for line in status.splitlines() if line.startswith("Uid:"))
    assert owner == str(cluster.folder.stat().st_uid) != "0"
    child.stop()


def test_databases_are_copied_from_a_template_and_dropped(postgres_cluster: EmbeddedPostgres) -> None:
    postgres_cluster.ensure_database("source")
    with psycopg.connect(postgres_cluster.conninfo("source"), autocommit=True) as connection:
        connection.execute("CREATE TABLE t (n int)")
    postgres_cluster.ensure_database("copy", template="source")
    connection = psycopg.connect(postgres_cluster.conninfo("copy"))
    assert connection.execute("SELECT count(*) FROM t").fetchone() == (0,)
    postgres_cluster.drop_database("copy")
    with pytest.raises(psycopg.OperationalError):
        connection.execute("SELECT 1")
    postgres_cluster.drop_database("source")
