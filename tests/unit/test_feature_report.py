"""The feature report counts what passed, and nothing else."""

import json
import subprocess
import sys
from pathlib import Path

from tests.architecture.source import ROOT

_TESTS = """
import pytest

@pytest.mark.feature("001-4", "N17")
def test_good(): assert 1 + 1 == 2

@pytest.mark.feature("001-4")
def test_bad(): assert 1 + 1 == 3

@pytest.mark.feature("N18")
def test_skipped(): pytest.skip("not here")

@pytest.fixture
def breaks():
    yield
    raise RuntimeError("teardown")

@pytest.mark.feature("N18")
def test_breaks_afterwards(breaks): assert 1 + 1 == 2

def test_of_no_feature(): assert 1 + 1 == 2
"""
_PROGRAM = """
import sys
from pathlib import Path
import pytest
from tests.feature_report import FeatureReport
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", "-c", "/dev/null", sys.argv[1]],
                     plugins=[FeatureReport(Path(sys.argv[2]))]))
"""


def test_only_a_test_that_passed_counts_as_passed(tmp_path: Path) -> None:
    file, output = tmp_path / "test_sample.py", tmp_path / "out" / "features.json"
    file.write_text(_TESTS, encoding="utf-8")
    result = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(file), str(output)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert json.loads(output.read_text(encoding="utf-8")) == {
        "001-4": {"tests": 2, "passed": 1},
        "N17": {"tests": 1, "passed": 1},
        "N18": {"tests": 2, "passed": 0},
    }, result.stdout
    assert "FAIL 001-4" in result.stdout
    assert "ok   N17" in result.stdout
