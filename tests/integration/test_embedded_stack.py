"""The supervisor: restarts, orderly and violent ends, second starts. Run on a subset of the services."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from config.settings import Settings
from config.temporal import connect
from workers.embedded import state
from workers.embedded.process import ROOT, Child, ServiceSpec, StackError, birth_of, end_leftover, wait_until
from workers.embedded.services import StackOptions
from workers.embedded.stack import EmbeddedStack
from workers.embedded.supervisor import Supervisor
from workers.up import box

_SERVERS = ("postgres", "temporal")


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="jz-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


def _stack(folder: Path, *only: str) -> EmbeddedStack:
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("DATABASE", "TEMPORAL"))
    }
    return EmbeddedStack(
        folder, only=only or _SERVERS, options=StackOptions(free_ports=True, migrate=False), environment=clean
    )


def _processes_of(folder: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if any(str(folder) in word for word in process.info["cmdline"] or []):
            found.append(process)
    return found


@pytest.mark.feature("000-3")
async def test_a_second_start_continues_after_kill_9_of_every_process(folder: Path) -> None:
    with _stack(folder) as stack:
        settings = Settings(temporal_address=stack.temporal_address)
        workflow_id = uuid.uuid4().hex
        await (await connect(settings)).start_workflow("Waits", id=workflow_id, task_queue="nobody")
        with psycopg.connect(stack.database_url.replace("+psycopg", ""), autocommit=True) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 7 AS n")
        first_ports = stack.ports
        stack._supervisor._ending.set()  # so that what is killed stays dead
        for name in stack.names():
            stack.kill(name)
    with _stack(folder) as stack:
        assert stack.ports == first_ports
        client = await connect(Settings(temporal_address=stack.temporal_address))
        described = await client.get_workflow_handle(workflow_id).describe()
        assert described.status is not None
        assert described.status.name == "RUNNING"
        with psycopg.connect(stack.database_url.replace("+psycopg", "")) as connection:
            assert connection.execute("SELECT n FROM kept").fetchone() == (7,)
    assert _processes_of(folder) == []


def test_what_is_killed_comes_back(folder: Path) -> None:
    with _stack(folder, "postgres") as stack:
        before = stack.kill("postgres")
        stack.wait_ready("postgres", 20)
        assert stack.pid("postgres") != before
        assert stack.restarts("postgres") == 1
        stack.stop_service("postgres")
        assert stack.child("postgres").exit_code == 0
        stack.start_service("postgres")
        assert stack.child("postgres").running


def test_two_stacks_do_not_share_a_folder(folder: Path) -> None:
    with _stack(folder, "postgres"):
        with pytest.raises(StackError, match=rf"pid {os.getpid()}"):
            _stack(folder, "postgres").start()
        assert _processes_of(folder) != []
    with _stack(folder, "postgres"):
        pass


def test_secrets_are_drawn_once_and_are_the_owners_alone(folder: Path) -> None:
    first = state.load_secrets(folder)
    assert state.load_secrets(folder) == first
    assert (folder / "secrets.json").stat().st_mode & 0o777 == 0o600
    assert len(set(first.values())) == len(first)


def _run_up(folder: Path) -> subprocess.Popen[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("DATABASE", "TEMPORAL"))}
    command = [sys.executable, "-m", "workers.up", "--data", str(folder), "--only", "postgres,wechat"]
    return subprocess.Popen(
        command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def _wait_for(process: subprocess.Popen[str], text: str) -> str:
    assert process.stdout is not None
    seen = ""
    for line in process.stdout:
        seen += line
        if text in line:
            return seen
    raise AssertionError(seen)


def test_a_signal_leaves_nothing_behind(folder: Path) -> None:
    process = _run_up(folder)
    _wait_for(process, "wechat serves")
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert "everything has ended" in output
    assert _processes_of(folder) == []


def test_a_signal_while_it_starts_leaves_nothing_behind(folder: Path) -> None:
    process = _run_up(folder)
    _wait_for(process, "PostgreSQL starts")
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGINT
    assert "stopped while starting" in output
    assert _processes_of(folder) == []


def test_the_line_about_a_kill_on_purpose_is_no_alarm(folder: Path) -> None:
    said: list[str] = []

    def stack() -> EmbeddedStack:
        options = StackOptions(free_ports=True, migrate=False)
        clean = {name: value for name, value in os.environ.items() if not name.startswith("DATABASE")}
        return EmbeddedStack(folder, only=("postgres",), options=options, environment=clean, say=said.append)

    with stack() as running:
        running.kill("postgres")
        running.wait_ready("postgres", 20)
        pid = running.pid("postgres")
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        assert wait_until(lambda: running.restarts("postgres") == 2, 20)
    about = [line for line in said if "starting it again" in line]
    assert about[0].startswith("· postgres was killed on purpose")
    assert about[1].startswith("! postgres ended (SIGKILL)")
    assert sum("first start" in line for line in said) == 1
    with stack():
        assert sum("first start" in line for line in said) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's death signal is Linux's")
def test_kill_9_of_the_supervisor_ends_the_children(folder: Path) -> None:
    process = _run_up(folder)
    _wait_for(process, "wechat serves")
    assert len(_processes_of(folder)) > 2
    process.kill()
    process.communicate(timeout=60)
    assert wait_until(lambda: _processes_of(folder) == [], 15), _processes_of(folder)


def test_a_foreign_process_is_never_taken_for_a_leftover() -> None:
    process = subprocess.Popen(["sleep", "60"])
    try:
        birth = birth_of(process.pid)
        assert birth is not None
        assert not end_leftover(process.pid, "0.0")
        assert process.poll() is None
        assert end_leftover(process.pid, birth)
        assert birth_of(process.pid) is None
    finally:
        process.kill()
        process.wait()


def test_a_service_that_cannot_start_shows_why(tmp_path: Path) -> None:
    supervisor = Supervisor(tmp_path, lambda _line: None, lambda: None)
    program = "import sys; print('no such table: nozzle'); sys.exit(3)"
    supervisor.start(ServiceSpec(name="broken", command=(sys.executable, "-c", program)))
    with pytest.raises(StackError, match=r"(?s)broken ended with code 3.*no such table: nozzle"):
        supervisor.wait_ready("broken", 20)
    supervisor.stop_all()


def test_a_service_that_ignores_the_signal_is_killed(tmp_path: Path) -> None:
    program = (
        "import json, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "print(json.dumps({'ready': True, 'port': 5}), flush=True); time.sleep(60)"
    )
    spec = ServiceSpec(name="deaf", command=(sys.executable, "-c", program), stop_timeout_s=1)
    child = Child(spec, tmp_path)
    child.start()
    assert wait_until(child.is_ready, 20)
    assert child.ready_line["port"] == 5
    child.stop()
    assert child.exit_code == -signal.SIGKILL


def test_the_record_names_ports_and_processes(folder: Path) -> None:
    with _stack(folder, "postgres") as stack:
        record = json.loads((folder / "stack.json").read_text(encoding="utf-8"))
        assert record["processes"]["postgres"]["pid"] == stack.pid("postgres")
        assert record["ports"] == stack.ports
    record = json.loads((folder / "stack.json").read_text(encoding="utf-8"))
    assert record["processes"] == {}


def test_the_box_is_straight_with_chinese_in_it() -> None:
    lines = box(["加注", "ab"]).splitlines()
    assert lines[1] == "│ 加注 │"
    assert lines[2] == "│ ab   │"
