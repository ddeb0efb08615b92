"""`make features`: which acceptance tests stand for which feature, and how they ended.

A test says `@pytest.mark.feature("003-D1")` (several ids are allowed). The plugin prints a table and writes
`build/features.json`: `{id: {"tests": n, "passed": n}}`. A skipped test counts as a test that did not pass.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from _pytest.terminal import TerminalReporter

_OUTPUT = Path(__file__).resolve().parents[1] / "build" / "features.json"
_PROPERTY = "feature"


@dataclass(slots=True)
class _Feature:
    tests: list[str] = field(default_factory=list)
    passed: set[str] = field(default_factory=set)


class FeatureReport:
    """Collects the results of the tests that carry the marker."""

    def __init__(self, output: Path = _OUTPUT) -> None:
        self._output = output
        self._features: dict[str, _Feature] = {}
        self._by_test: dict[str, list[str]] = {}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Note every test by its features."""
        for item in items:
            ids = [str(one) for mark in item.iter_markers("feature") for one in mark.args]
            if ids:
                self._by_test[item.nodeid] = ids
                item.user_properties.append((_PROPERTY, ",".join(ids)))

    def pytest_deselected(self, items: list[pytest.Item]) -> None:
        """What was not asked for is not counted."""
        for item in items:
            self._by_test.pop(item.nodeid, None)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count a call that passed; take it back when its teardown fails."""
        for feature_id in self._by_test.get(report.nodeid, ()):
            feature = self._features.setdefault(feature_id, _Feature())
            if report.nodeid not in feature.tests:
                feature.tests.append(report.nodeid)
            if report.when == "call" and report.passed and not hasattr(report, "wasxfail"):
                feature.passed.add(report.nodeid)
            elif report.failed:
                feature.passed.discard(report.nodeid)

    def figures(self) -> dict[str, dict[str, int]]:
        """What goes into the file."""
        return {
            key: {"tests": len(one.tests), "passed": len(one.passed)}
            for key, one in sorted(self._features.items())
        }

    def pytest_terminal_summary(self, terminalreporter: TerminalReporter) -> None:
        """Print the table and write the file."""
        terminalreporter.section("features")
        for key, one in sorted(self._features.items()):
            mark = "ok  " if len(one.passed) == len(one.tests) else "FAIL"
            terminalreporter.write_line(f"{mark} {key:<8} {len(one.passed)}/{len(one.tests)}")
            for test in one.tests:
                state = " " if test in one.passed else "!"
                terminalreporter.write_line(f"     {state} {test}")
        self._output.parent.mkdir(parents=True, exist_ok=True)
        self._output.write_text(json.dumps(self.figures(), indent=1) + "\n", encoding="utf-8")
        terminalreporter.write_line(f"written: {self._output}")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--feature-report`."""
    parser.addoption("--feature-report", action="store_true", help="print and write the results by feature")


def pytest_configure(config: pytest.Config) -> None:
    """Switch the report on when it is asked for."""
    if config.getoption("--feature-report"):
        config.pluginmanager.register(FeatureReport(), "feature-report")
