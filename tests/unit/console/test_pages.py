"""The pages show the right rows in Chinese."""

import pytest

from tests.unit.console.till import Till

VIEWS = ("unpaid", "attention", "order", "payment", "refund", "journal", "station", "point", "nozzle")


@pytest.mark.parametrize("view", VIEWS)
def test_every_list_opens(till: Till, view: str) -> None:
    till.login("manager1")
    answer = till.page(f"/{view}/list")
    assert answer.status_code == 200, answer.text[:500]
    assert "浦东大道站" in answer.text
    assert "New " not in answer.text


def test_home_shows_who_waits(till: Till) -> None:
    till.login("cashier1")
    text = till.page("/").text
    assert "沙盒 sandbox" in text
    assert "¥204.89" in text
    assert "油机金额与单价×数量不符" in text
    assert "合计 ¥269.89" in text
    assert "1 / 1" in text
    assert "rsms.me" not in text
