"""Lengths, floats, clocks, randomness, environment, prints, docstrings.

What review would otherwise repeat.
"""

import ast
import re
from collections.abc import Iterator

import pytest

from tests.architecture.source import EVERYTHING, PRODUCT, Source, dotted, nodes, sources

_MOST_LINES = 400
_MOST_FUNCTION_LINES = 70
_EXACT = ("domain", "contracts", "workflows", "activities", "db")
_CLOCKS = re.compile(
    r"^(datetime\.)*(datetime|date)\.(now|utcnow|today)$"
    r"|^time\.(time|time_ns|monotonic|monotonic_ns|perf_counter)$"
    r"|^(uuid\.)?uuid[14]$|^random\.|^secrets\.|^os\.urandom$"
)
_ENVIRONMENT = re.compile(r"^os\.(environ|getenv|putenv)\b")
_READS_ENVIRONMENT = ("config/", "bench/", "tests/", "workers/embedded/", "workers/up.py", "workers/story/")
_PRINTS = ("workers/up.py", "workers/story/", "bench/", "tests/")
# A migration is one list of statements in the order of their execution.
_MIGRATIONS = "db/migrations/versions/"
_MARKS = re.compile(r"#.*\b(TODO|FIXME|XXX|HACK)\b|NotImplementedError\(\s*\)")


def _all(*packages: str) -> Iterator[tuple[Source, ast.AST]]:
    return ((source, node) for source in sources(*packages) for node in ast.walk(source.tree))


def _too_long(source: Source) -> bool:
    return source.lines > _MOST_LINES and not source.path.startswith(_MIGRATIONS)


def test_files_are_short() -> None:
    assert [f"{s.path}: {s.lines}" for s in sources(*EVERYTHING) if _too_long(s)] == []


def test_functions_are_short() -> None:
    wrong = []
    for source in sources(*EVERYTHING):
        for node in nodes(source, ast.FunctionDef, ast.AsyncFunctionDef):
            assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > _MOST_FUNCTION_LINES and not source.path.startswith(_MIGRATIONS):
                wrong.append(f"{source.at(node)} {node.name}: {length}")
    assert wrong == []


def test_no_float_near_money_or_quantity() -> None:
    wrong = [
        source.at(node) for source, node in _all(*_EXACT) if isinstance(node, ast.Name) and node.id == "float"
    ]
    assert wrong == []


def test_no_float_literal_in_the_rules() -> None:
    wrong = [
        source.at(node)
        for source, node in _all("domain", "contracts")
        if isinstance(node, ast.Constant) and isinstance(node.value, float)
    ]
    assert wrong == []


@pytest.mark.parametrize("package", ["domain", "workflows"])
def test_no_clock_and_no_chance_in_what_is_replayed(package: str) -> None:
    wrong = [
        f"{source.at(node)} {dotted(node)}"
        for source, node in _all(package)
        if isinstance(node, ast.Attribute | ast.Name) and _CLOCKS.match(dotted(node))
    ]
    assert wrong == []


def test_only_config_reads_the_environment() -> None:
    wrong = [
        source.at(node)
        for source, node in _all(*EVERYTHING)
        if isinstance(node, ast.Attribute)
        and _ENVIRONMENT.match(dotted(node))
        and not source.path.startswith(_READS_ENVIRONMENT)
    ]
    assert wrong == []


def test_only_stories_and_benches_print() -> None:
    wrong = [
        source.at(node)
        for source, node in _all(*PRODUCT)
        if isinstance(node, ast.Call) and dotted(node.func) == "print" and not source.path.startswith(_PRINTS)
    ]
    assert wrong == []


def test_no_error_is_swallowed() -> None:
    wrong = [
        source.at(node)
        for source, node in _all(*EVERYTHING)
        if isinstance(node, ast.ExceptHandler) and all(isinstance(one, ast.Pass) for one in node.body)
    ]
    assert wrong == []


def test_nothing_is_left_for_later() -> None:
    wrong = [
        f"{source.path}:{number}"
        for source in sources(*PRODUCT, "bench")
        for number, line in enumerate(source.text.splitlines(), 1)
        if _MARKS.search(line)
    ]
    assert wrong == []


def test_no_test_asserts_a_constant() -> None:
    wrong = [
        source.at(node)
        for source, node in _all("tests")
        if isinstance(node, ast.Assert) and isinstance(node.test, ast.Constant)
    ]
    assert wrong == []


def _public(source: Source) -> Iterator[tuple[ast.AST, str]]:
    """Module, classes, functions and methods that a reader may use.

    Nested functions and dunder methods are not.
    """
    yield source.tree, source.path
    for node in source.tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            yield node, node.name
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield node, node.name
            for inner in node.body:
                plain = isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef)
                if plain and not inner.name.startswith("_") and not _setter(inner):  # type: ignore[attr-defined]
                    yield inner, f"{node.name}.{inner.name}"  # type: ignore[attr-defined]


def _setter(node: ast.AST) -> bool:
    decorators = getattr(node, "decorator_list", [])
    return any(isinstance(one, ast.Attribute) and one.attr in ("setter", "deleter") for one in decorators)


def test_what_is_public_is_explained() -> None:
    wrong = []
    for source in sources(*PRODUCT):
        empty = source.path.endswith("__init__.py") and not source.text.strip()
        if empty or source.path.startswith(_MIGRATIONS):
            continue
        for node, name in _public(source):
            assert isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            if not ast.get_docstring(node):
                wrong.append(f"{source.at(node)} {name}")
    assert wrong == []
