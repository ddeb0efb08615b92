"""Recorded histories still replay with the production runner and converter; a changed workflow is noticed."""

import base64
import json
import re
import shutil
from pathlib import Path

import pytest
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer
from temporalio.workflow import NondeterminismError

from config.payload_converter import PYDANTIC
from tests.replay import fingerprints
from tests.replay.changed import OneActivityMore
from tests.replay.changed_less import OneActivityLess
from tests.replay.scenarios import NAMES
from workers.registry import FILL
from workers.sandboxing import workflow_runner

_HISTORIES = Path(__file__).parent / "histories"
_ADVICE = (
    "A workflow's commands changed. Runs of the old code may be open: put the change behind `workflow.patched(...)`,"
    " then record again with `make replay-record` and commit the histories with the change."
)
_PRIVATE = {
    "a path of a machine": re.compile(r"/(home|root|work|Users|tmp)/"),
    "a process of a machine": re.compile(r"\b\d{2,7}@[a-zA-Z0-9.-]{3,}"),
    "a phone number": re.compile(r"(?<!\d)1[3-9]\d{9}(?!\d)"),
    "an openid": re.compile(r"\bo[A-Za-z0-9_-]{27}\b"),
    "a number plate": re.compile(
        r"[京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼][A-Z][A-Z0-9]{5,6}"
    ),
}


def history(name: str) -> WorkflowHistory:
    """Return a recorded history."""
    body = json.loads((_HISTORIES / f"{name}.json").read_text(encoding="utf-8"))
    return WorkflowHistory.from_json(body["workflow_id"], body["history"])


def replayer(*workflows: type) -> Replayer:
    """Return a replayer as the production worker is: the same runner, the same converter."""
    return Replayer(workflows=workflows, workflow_runner=workflow_runner(), data_converter=PYDANTIC)


@pytest.mark.parametrize("name", NAMES)
async def test_recorded_history_replays(name: str) -> None:
    result = await replayer(*FILL.workflows).replay_workflow(history(name), raise_on_replay_failure=False)
    assert result.replay_failure is None, f"{result.replay_failure}\n{_ADVICE}"


@pytest.mark.parametrize(
    ("changed", "name"),
    [(OneActivityMore, "postpaid_cash"), (OneActivityLess, "prepaid_dispenser_silent")],
)
async def test_changed_workflow_is_refused(changed: type, name: str) -> None:
    with pytest.raises(NondeterminismError):
        await replayer(changed).replay_workflow(history(name))


def test_every_history_has_its_scenario() -> None:
    assert {path.stem for path in _HISTORIES.glob("*.json")} == set(NAMES)


def _texts(value: object) -> list[str]:
    """Return every string of a history, payloads decoded."""
    if isinstance(value, dict):
        found = [t for v in value.values() for t in _texts(v)]
        if isinstance(value.get("data"), str):
            found.append(base64.b64decode(value["data"]).decode("utf-8", "replace"))
        return found
    if isinstance(value, list):
        return [t for v in value for t in _texts(v)]
    return [value] if isinstance(value, str) else []


@pytest.mark.parametrize("name", NAMES)
def test_history_names_no_person_and_no_machine(name: str) -> None:
    body = json.loads((_HISTORIES / f"{name}.json").read_text(encoding="utf-8"))
    texts = [t for t in _texts(body) if not re.fullmatch(r"[A-Za-z0-9+/=]{24,}", t)]
    assert any("order_no" in t for t in texts), "the payloads were not looked into"
    for what, pattern in _PRIVATE.items():
        assert [t for t in texts if pattern.search(t)] == [], what


def test_commands_are_the_recorded_ones() -> None:
    now, before = fingerprints.compute(), fingerprints.recorded()
    changed = sorted(k for k in now.keys() | before.keys() if now.get(k) != before.get(k))
    assert changed == [], f"{changed}\n{_ADVICE}"


def test_fingerprints_see_one_command_more(tmp_path: Path) -> None:
    source = fingerprints._WORKFLOWS / "return_surplus.py"
    target = tmp_path / source.name
    shutil.copy(source, target)
    text = target.read_text(encoding="utf-8")
    assert fingerprints.compute(tmp_path) == {
        k: v for k, v in fingerprints.recorded().items() if k.startswith("return_surplus.")
    }
    line = "        self._desk.tell(stage=True)\n"
    assert line in text
    target.write_text(text.replace(line, f"        await workflow.sleep(timedelta(seconds=1))\n{line}"))
    method = fingerprints.compute(tmp_path)["return_surplus.ReturnSurplus._give_back"]
    assert method[-1] == "sleep timedelta(seconds=1)"
