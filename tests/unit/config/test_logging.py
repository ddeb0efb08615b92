"""Logs.

JSON lines with the bound ids, foreign loggers in the same form, and no personal data whatever the caller
does.
"""

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from config.logging import bound, configure
from config.redaction import MASK, is_private, redact_text


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Iterator[Any]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    configure("test", fmt="json")
    yield lambda: [json.loads(one) for one in capsys.readouterr().err.splitlines()]
    root.handlers[:] = before
    root.setLevel(level)
    structlog.reset_defaults()


def test_bound_ids_are_on_every_line_of_both_kinds(lines: Any) -> None:
    with bound(order_no="F1", workflow_id=None, station="S1"):
        structlog.get_logger("ours").info("order.opened", amount_fen=100)
        logging.getLogger("theirs").warning("plain %s", "text")
    structlog.get_logger("ours").info("after")
    ours, theirs, after = lines()
    assert ours["event"] == "order.opened"
    assert (ours["order_no"], ours["station"], ours["amount_fen"], ours["service"]) == (
        "F1",
        "S1",
        100,
        "test",
    )
    assert (theirs["event"], theirs["order_no"], theirs["level"]) == ("plain text", "F1", "warning")
    assert "order_no" not in after


def test_lines_from_workflows_carry_the_order(lines: Any) -> None:
    extra = {
        "temporal_workflow": {"workflow_id": "fill-F9", "workflow_type": "FillAndPay", "namespace": "default"}
    }
    logging.getLogger("temporalio.workflow").info("fill.waiting", extra=extra)
    (line,) = lines()
    assert (line["workflow_id"], line["order_no"], line["workflow_type"]) == ("fill-F9", "F9", "FillAndPay")


@pytest.mark.parametrize(
    "name",
    ["phone", "openid", "plate", "auth_code", "id_card", "payer_openid", "driver_phone", "Authorization"],
)
def test_private_fields_are_masked(lines: Any, name: str) -> None:
    structlog.get_logger("ours").info("login", **{name: "13800138000x", "nested": {name: "y", "kept": 1}})
    (line,) = lines()
    assert line[name] == MASK
    assert line["nested"] == {name: MASK, "kept": 1}


@pytest.mark.parametrize(
    "private",
    [
        "13912345678",
        "110101199003070039",
        "134567890123456789",
        "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o",
        "京A12345",
        "沪AD12345",
    ],
)
def test_personal_data_inside_text_is_masked(lines: Any, private: str) -> None:
    logging.getLogger("lib").error("request for %s failed", private)
    try:
        raise ValueError(f"bad {private} here")
    except ValueError:
        structlog.get_logger("ours").exception("call.failed", detail=[f"x {private}"])
    first, second = lines()
    assert private not in json.dumps([first, second], ensure_ascii=False)
    assert "ValueError" in second["exception"]


def test_our_own_ids_and_figures_stay_readable() -> None:
    for text in (
        "fill-F20261123080000123456",
        "S0001",
        "amount_fen=13800138000123",
        "a1b2c3d4e5f60718293a4b5c6d7e8f90",
    ):
        assert redact_text(text) == text
    assert not is_private("station")
    assert not is_private("amount_fen")
