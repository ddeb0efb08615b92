"""What every workflow method asks Temporal for, in source order: a change shows before an old history breaks.

An AST walk, so nothing is run: activities, timers, waits, children, patches, and awaited calls of the workflow's own
parts (their order is the order of commands).
"""

import ast
import json
from pathlib import Path

FILE = Path(__file__).with_name("fingerprints.json")
_WORKFLOWS = Path(__file__).resolve().parents[2] / "workflows"
_COMMANDS = {
    "continue_as_new",
    "deprecate_patch",
    "execute_activity_method",
    "execute_child_workflow",
    "execute_local_activity_method",
    "get_external_workflow_handle",
    "patched",
    "sleep",
    "start_activity_method",
    "start_child_workflow",
    "start_local_activity_method",
    "upsert_search_attributes",
    "wait_condition",
}


def _command(call: ast.Call) -> str | None:
    """Return the line of a call that reaches Temporal, or None."""
    name = ast.unparse(call.func)
    first = ast.unparse(call.args[0]) if call.args else ""
    if name.startswith("workflow.") and name.removeprefix("workflow.") in _COMMANDS:
        line = name.removeprefix("workflow.")
        if line == "wait_condition":
            return f"{line} with timer" if any(k.arg == "timeout" for k in call.keywords) else line
        return f"{line} {first}" if line != "upsert_search_attributes" else line
    if "Activities." in first:
        return f"{name} {first}"
    return None


class _Commands(ast.NodeVisitor):
    def __init__(self) -> None:
        self.found: list[tuple[int, int, str]] = []

    def visit_Call(self, node: ast.Call) -> None:
        line = _command(node)
        if line is not None:
            self.found.append((node.lineno, node.col_offset, line))
        self.generic_visit(node)

    def visit_Await(self, node: ast.Await) -> None:
        if isinstance(node.value, ast.Call) and _command(node.value) is None:
            name = ast.unparse(node.value.func)
            self.found.append((node.lineno, node.col_offset, f"await {name}"))
        self.generic_visit(node)


def _of_function(function: ast.AsyncFunctionDef | ast.FunctionDef) -> list[str]:
    visitor = _Commands()
    for statement in function.body:
        visitor.visit(statement)
    return [line for _, _, line in sorted(visitor.found)]


def _functions(tree: ast.Module, module: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for node in tree.body:
        owner = f"{module}.{node.name}" if isinstance(node, ast.ClassDef) else module
        body = node.body if isinstance(node, ast.ClassDef) else [node]
        for item in body:
            if isinstance(item, ast.AsyncFunctionDef | ast.FunctionDef):
                lines = _of_function(item)
                if lines:
                    found[f"{owner}.{item.name}"] = lines
    return found


def compute(folder: Path = _WORKFLOWS) -> dict[str, list[str]]:
    """Return `module.Class.method` -> its commands, of every file of a folder."""
    found: dict[str, list[str]] = {}
    for path in sorted(folder.glob("*.py")):
        found.update(_functions(ast.parse(path.read_text(encoding="utf-8")), path.stem))
    return found


def write() -> None:
    """Keep the fingerprints of the workflows as they are now."""
    FILE.write_text(json.dumps(compute(), indent=1, sort_keys=True) + "\n", encoding="utf-8")


def recorded() -> dict[str, list[str]]:
    """Return the fingerprints of the last recording."""
    return dict(json.loads(FILE.read_text(encoding="utf-8")))
