"""`.env.example` names every setting: it is the list that the README promises."""

import re
from pathlib import Path

from config.settings import PREFIX, Settings
from workers.embedded.services import PORTS

ROOT = Path(__file__).resolve().parents[2]
_NOT_FOR_PEOPLE = {"JIAZHU_EMBEDDED"}
"""Set by the embedded stack for its own processes."""


def _named() -> set[str]:
    return set(re.findall(r"^# ([A-Z][A-Z0-9_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))


def test_every_setting_of_a_process_is_named() -> None:
    wanted = set()
    for name, field in Settings.model_fields.items():
        bare = field.validation_alias is not None
        wanted.add(name.upper() if bare else f"{PREFIX}{name}".upper())
    assert wanted - _named() - _NOT_FOR_PEOPLE == set()


def test_every_variable_of_compose_and_every_port_is_named() -> None:
    compose = set(re.findall(r"\$\{([A-Z0-9_]+)", (ROOT / "docker-compose.yml").read_text()))
    assert (compose | {one.variable for one in PORTS}) - _named() == set()
