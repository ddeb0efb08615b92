"""Who may import whom: import-linter's contracts, and the two rules that name single modules."""

import ast
import subprocess
import sys

import pytest

from tests.architecture.source import ROOT, Source, nodes, sources

_PORTS = {"activities.ports", "activities.records"}
_GATEWAY_DB = {"db.session", "db.repositories.gateway", "db.repositories.inbox"}


def test_the_import_contracts_hold() -> None:
    command = [
        sys.executable,
        "-c",
        "from importlinter.cli import lint_imports_command; lint_imports_command()",
    ]
    result = subprocess.run(
        [*command, "--config", ".importlinter", "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-6000:] + result.stderr[-2000:]
    assert "0 broken" in result.stdout


def _imports(source: Source) -> set[str]:
    found: set[str] = set()
    for node in nodes(source, ast.Import, ast.ImportFrom):
        if isinstance(node, ast.Import):
            found |= {one.name for one in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            whole = {f"{node.module}.{one.name}" for one in node.names}
            found |= (
                whole if node.module in ("activities", "db", "config", "db.repositories") else {node.module}
            )
    return found


def test_adapters_and_database_know_the_ports_only() -> None:
    wrong = [
        f"{source.path} imports {name}"
        for source in sources("adapters", "db")
        for name in _imports(source)
        if name.startswith("activities") and name not in _PORTS
    ]
    assert wrong == []


def test_the_gateway_server_knows_inbox_and_downlink_only() -> None:
    wrong = [
        f"{source.path} imports {name}"
        for source in sources("station_gateway")
        for name in _imports(source)
        if name.startswith("db.") and name not in _GATEWAY_DB
    ]
    assert wrong == []


@pytest.mark.parametrize("package", ["api", "station_gateway"])
def test_settings_enter_by_the_main_module_only(package: str) -> None:
    wrong = [
        f"{source.path} imports {name}"
        for source in sources(package)
        for name in _imports(source)
        if name.startswith("config.settings") and not source.path.endswith("/main.py")
    ]
    assert wrong == []


def test_the_station_simulator_has_a_codec_of_its_own() -> None:
    assert any(source.path == "sandbox/station/ifsf_wire.py" for source in sources("sandbox"))
    wrong = [s.path for s in sources("sandbox") if any(n.startswith("station_gateway") for n in _imports(s))]
    assert wrong == []
