"""Write the generated parts of the process pages: the state diagram and the state table.

`.venv/bin/python -m docs.generate` rewrites what stands between `<!-- generated:NAME -->` and `<!-- /generated -->` from the
code's own transition table and durations; with `--check` it writes nothing and ends with 1 when a page is stale.
"""

import argparse
import re
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from fastapi import FastAPI

from api.access import route_access
from api.auth.roles import Role
from api.routes import cashier, fills, health, identity, notify, orders, pages, stations, terminal
from domain import policy
from domain.order import ALLOWED, INITIAL, FillMode, OrderStatus
from workflows.wording import PERSON_ZH, WAITS_FOR

DOCS = Path(__file__).parent
_BLOCK = re.compile(r"(<!-- generated:([a-z-]+) -->\n).*?(<!-- /generated -->)", re.DOTALL)


def state_diagram() -> str:
    """Return the order's states as a Mermaid diagram."""
    lines = ["```mermaid", "stateDiagram-v2"]
    lines += [f"    [*] --> {INITIAL[mode]}: {mode}" for mode in FillMode]
    for status in OrderStatus:
        lines += [f"    {status} --> {after}" for after in OrderStatus if after in ALLOWED[status]]
    lines += [f"    {status} --> [*]" for status in OrderStatus if status.is_final]
    return "\n".join([*lines, "```", ""])


def state_table() -> str:
    """Return the order's states as a table: name, the words on screens, what it waits for, who moves it, what follows."""
    lines = ["| state | shown as | waits for | who can move it | next |", "|---|---|---|---|---|"]
    for status in OrderStatus:
        waits, who = WAITS_FOR.get(status, ("–", "–"))
        follows = ", ".join(f"`{after}`" for after in OrderStatus if after in ALLOWED[status]) or "end"
        lines.append(f"| `{status}` | {status.label_zh} | {waits} | {who} | {follows} |")
    return "\n".join([*lines, ""])


def _duration(value: timedelta) -> str:
    seconds = int(value.total_seconds())
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size and seconds % size == 0:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def _code() -> str:
    folders = ("workflows", "activities", "api")
    return "".join(p.read_text(encoding="utf-8") for f in folders for p in (DOCS.parent / f).rglob("*.py"))


def timer_table() -> str:
    """Return every duration of `domain/policy.py` that the code reads, with its value."""
    code = _code()
    lines = ["| name in `domain/policy.py` | value |", "|---|---|"]
    for name, value in vars(policy).items():
        if f"policy.{name}" not in code:
            continue
        if isinstance(value, timedelta):
            lines.append(f"| `{name}` | {_duration(value)} |")
        elif isinstance(value, tuple):
            lines.append(f"| `{name}` | {', '.join(_duration(one) for one in value)} |")
    return "\n".join([*lines, ""])


def person_table() -> str:
    """Return every reason for which an order asks for a person, as ops staff read it."""
    lines = ["| `needs_person` | 说明与处理 |", "|---|---|"]
    lines += [f"| `{reason}` | {words} |" for reason, words in PERSON_ZH.items()]
    return "\n".join([*lines, ""])


def route_table() -> str:
    """Return every route with the roles that it declares."""
    app = FastAPI()
    for module in (cashier, fills, health, identity, notify, orders, pages, stations, terminal):
        app.include_router(module.router)
    columns = [role for role in Role if role is not Role.ANYONE]
    lines = [f"| route | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for route in sorted(route_access(app), key=lambda one: (one.path, one.methods)):
        name = f"`{' '.join(route.methods)} {route.path}`"
        if Role.ANYONE in route.roles:
            lines.append(f"| {name} (no credential) |{' ○ |' * len(columns)}")
        else:
            lines.append(
                f"| {name} |" + "".join(" ● |" if role in route.roles else "  |" for role in columns)
            )
    return "\n".join([*lines, ""])


PARTS: dict[str, Callable[[], str]] = {
    "state-diagram": state_diagram,
    "state-table": state_table,
    "timer-table": timer_table,
    "person-table": person_table,
    "route-table": route_table,
}


def rendered(page: str) -> str:
    """Return a page with its generated parts renewed; raises KeyError for a part that nobody makes."""
    return _BLOCK.sub(lambda m: f"{m[1]}{PARTS[m[2]]()}{m[3]}", page)


def stale_pages(folder: Path = DOCS) -> list[Path]:
    """Return the pages whose generated parts are not what the code says."""
    pages = sorted(folder.rglob("*.md"))
    return [page for page in pages if rendered(text := page.read_text(encoding="utf-8")) != text]


def main() -> int:
    """The command. Returns the exit status."""
    parser = argparse.ArgumentParser(description="Renew the generated parts of docs/.")
    parser.add_argument("--check", action="store_true", help="write nothing, fail when a page is stale")
    check = parser.parse_args().check
    stale = stale_pages()
    for page in stale:
        sys.stdout.write(f"{'stale' if check else 'renewed'}: {page.relative_to(DOCS.parent)}\n")
        if not check:
            page.write_text(rendered(page.read_text(encoding="utf-8")), encoding="utf-8")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
