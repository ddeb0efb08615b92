"""The documents say what the code says: generated parts are fresh, links lead somewhere, named tests exist."""

import ast
import re
from pathlib import Path

import pytest

from contracts import names
from docs.generate import DOCS, rendered, stale_pages
from tests.architecture.source import ROOT, nodes, sources
from workers.registry import WORKER_SETS

_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_CODE_BLOCK = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
_TEST_NAME = re.compile(r"`(test_\w+)`")
_FEATURE_ROW = re.compile(r"^\| ([0-9A-Z]+(?:-[A-Z0-9]+)?) \|", re.MULTILINE)
PAGES = sorted([*DOCS.rglob("*.md"), *ROOT.glob("*.md"), ROOT / "tests" / "README.md"])


def _text(page: Path) -> str:
    """A page without its code blocks."""
    return _CODE_BLOCK.sub("", page.read_text(encoding="utf-8"))


def _anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    heads = re.findall(r"^#+ (.+)$", _text(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


def _dead_links(page: Path) -> list[str]:
    dead = []
    for target in _LINK.findall(_text(page)):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        if not file.exists() or (anchor and file.suffix == ".md" and anchor not in _anchors(file)):
            dead.append(f"{page.relative_to(ROOT)}: {target}")
    return dead


def _test_functions() -> set[str]:
    return {
        node.name
        for source in sources("tests")
        for node in nodes(source, ast.FunctionDef, ast.AsyncFunctionDef)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    }


def _features_of_tests() -> set[str]:
    found = set()
    for source in sources("tests"):
        for node in nodes(source, ast.Call):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.feature":
                found |= {str(one.value) for one in node.args if isinstance(one, ast.Constant)}
    return found


def test_generated_parts_are_fresh() -> None:
    assert [str(page.relative_to(ROOT)) for page in stale_pages()] == [], (
        "run `.venv/bin/python -m docs.generate`"
    )


def test_a_changed_part_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- generated:state-table -->\nold\n<!-- /generated -->\n", encoding="utf-8")
    assert stale_pages(tmp_path) == [page]
    page.write_text(rendered(page.read_text(encoding="utf-8")), encoding="utf-8")
    assert stale_pages(tmp_path) == []


def test_every_workflow_has_its_page() -> None:
    missing = []
    for source in sources("workflows"):
        if "@workflow.defn" in source.text:
            page = DOCS / "processes" / f"{Path(source.path).stem.replace('_', '-')}.md"
            if not page.exists():
                missing.append(str(page.relative_to(ROOT)))
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    assert _dead_links(page) == []


def test_a_dead_link_is_noticed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tests.architecture.test_docs.ROOT", tmp_path)
    page = tmp_path / "page.md"
    page.write_text("# One two\n[a](gone.md) [b](#one-two) [c](#three)\n", encoding="utf-8")
    assert _dead_links(page) == ["page.md: gone.md", "page.md: #three"]


def test_named_tests_exist() -> None:
    known = _test_functions()
    named = {(page.name, name) for page in PAGES for name in _TEST_NAME.findall(_text(page))}
    assert sorted(f"{page}: {name}" for page, name in named if name not in known) == []


def test_features_of_tests_are_described() -> None:
    described = set(_FEATURE_ROW.findall((DOCS / "features.md").read_text(encoding="utf-8")))
    assert sorted(_features_of_tests() - described) == []


def test_every_decision_is_in_the_index() -> None:
    index = (DOCS / "adr" / "README.md").read_text(encoding="utf-8")
    pages = {page.name for page in (DOCS / "adr").glob("0*.md")}
    assert pages
    assert sorted(name for name in pages if f"({name})" not in index) == []


def test_every_step_of_the_timeline_is_explained() -> None:
    page = (DOCS / "operations.md").read_text(encoding="utf-8")
    steps = {
        method.name
        for served in WORKER_SETS.values()
        for kind in served.activities
        for member in vars(kind).values()
        if (method := getattr(member, "__temporal_activity_definition", None)) is not None
    }
    steps |= {value for name, value in vars(names).items() if name.startswith(("SIGNAL_", "UPDATE_"))}
    assert len(steps) > 20
    assert sorted(step for step in steps if f"`{step}`" not in page) == []
