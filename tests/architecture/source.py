"""The project's own Python files, parsed once a session."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PRODUCT = (
    "domain",
    "contracts",
    "activities",
    "workflows",
    "workers",
    "api",
    "station_gateway",
    "sandbox",
    "adapters",
    "db",
    "config",
)
EVERYTHING = (*PRODUCT, "bench", "tests")


@dataclass(frozen=True, slots=True)
class Source:
    """One file: its path from the root, its text, its syntax tree."""

    path: str
    text: str
    tree: ast.Module

    @property
    def lines(self) -> int:
        """How many lines it has."""
        return len(self.text.splitlines())

    def at(self, node: ast.AST) -> str:
        """`path:line` of a node."""
        return f"{self.path}:{getattr(node, 'lineno', 0)}"


@cache
def sources(*packages: str) -> tuple[Source, ...]:
    """Every Python file of some top-level packages."""
    found = []
    for package in packages:
        for path in sorted((ROOT / package).rglob("*.py")):
            text = path.read_text(encoding="utf-8")
            found.append(Source(str(path.relative_to(ROOT)), text, ast.parse(text)))
    return tuple(found)


def nodes(source: Source, *kinds: type[ast.AST]) -> Iterator[ast.AST]:
    """Every node of some kinds in a file."""
    return (node for node in ast.walk(source.tree) if isinstance(node, kinds))


def dotted(node: ast.AST) -> str:
    """`a.b.c` of an attribute chain; empty for anything else."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return ""
    return ".".join([node.id, *reversed(parts)])


def module_of(source: Source) -> str:
    """The dotted module name of a file."""
    return source.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
