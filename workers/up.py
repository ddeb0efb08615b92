"""`make up`.

Start the embedded stack, keep it running, end it on Ctrl-C or SIGTERM without leaving anything behind.

Where: `JIAZHU_DATA` (default `.data`). Ports: see CONTRIBUTING.md. `DATABASE_URL` and `TEMPORAL_ADDRESS`
replace the embedded servers.
"""

import argparse
import os
import sys
import time
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING

from workers.embedded.ending import Ending

if TYPE_CHECKING:
    from workers.embedded.stack import EmbeddedStack

_LOOK_S = 0.1


def data_folder() -> Path:
    """The data folder: `JIAZHU_DATA`, or `.data` in the project."""
    return Path(os.environ.get("JIAZHU_DATA") or Path(__file__).resolve().parents[1] / ".data")


def say(line: str) -> None:
    """One line of progress."""
    print(line, flush=True)


def refuse(lines: list[str]) -> int:
    """Say why nothing is started; returns the exit status."""
    for line in lines:
        print(f"! {line}", file=sys.stderr, flush=True)
    return 2


def _width(text: str) -> int:
    """Columns on a terminal: Chinese characters take two."""
    return sum(2 if unicodedata.east_asian_width(one) in "WF" else 1 for one in text)


def padded(text: str, columns: int) -> str:
    """The text, filled up with spaces to so many columns."""
    return text + " " * max(0, columns - _width(text))


def box(lines: list[str]) -> str:
    """The lines in a frame."""
    inner = max(_width(line) for line in lines)
    body = [f"│ {padded(line, inner)} │" for line in lines]
    return "\n".join([f"┌{'─' * (inner + 2)}┐", *body, f"└{'─' * (inner + 2)}┘"])


def welcome(stack: "EmbeddedStack") -> str:
    """Where to look and how to sign in, once everything serves."""
    from db.seed import STAFF, STAFF_PASSWORD

    names = [login for login, *_ in STAFF]
    return box(
        [
            "加注 Jiazhu 已启动 · the stack is running (sandbox: no real money)",
            "",
            f"站务后台 console       {stack.api_url}/console/",
            f"流程 Temporal UI       {stack.ui_url}",
            f"接口文档 API docs      {stack.api_url}/docs",
            f"模拟微信 WeChat sim    {stack.wechat_url}/_sandbox/state",
            f"模拟加油机 dispensers  {stack.station_url}/state",
            f"数据与日志 data, logs  {stack.folder}",
            "",
            f"演示登录 demo login    {', '.join(names)}",
            f"仅限沙盒 sandbox only  password {STAFF_PASSWORD}",
            "",
            "Ctrl-C 停止 · stops everything; the next start continues",
        ]
    )


def run(arguments: argparse.Namespace, ending: Ending) -> int:
    """Start, keep running until the end is asked for, stop; returns the exit status.

    What takes long to import is imported here, when Ctrl-C is already taken.
    """
    from workers.embedded.process import StackCancelledError, StackError
    from workers.embedded.services import StackOptions, wrong_settings
    from workers.embedded.stack import SERVICES, EmbeddedStack

    if wrong := wrong_settings():
        return refuse(wrong)
    only = arguments.only.split(",") if arguments.only else SERVICES
    options = StackOptions(workers=arguments.workers, rate=arguments.rate, free_ports=arguments.free_ports)
    try:
        stack = EmbeddedStack(arguments.data, only=only, options=options, say=say, cancelled=ending.asked)
        with stack:
            say(welcome(stack))
            while not ending.asked():
                time.sleep(_LOOK_S)
            say("· stopping")
    except StackCancelledError:
        say("· stopped while starting; everything has ended")
        return ending.status
    except StackError as error:
        print(f"! {error}", file=sys.stderr, flush=True)
        return 1
    say("· everything has ended")
    return 0


def main() -> int:
    """The command. Returns the exit status: 0 after an orderly end, 2 for wrong settings, 130 when Ctrl-C came while
    it started.
    """
    ending = Ending()
    ending.install()
    parser = argparse.ArgumentParser(description="Run the embedded stack until Ctrl-C.")
    parser.add_argument("--data", type=Path, default=data_folder(), help="data folder (JIAZHU_DATA)")
    parser.add_argument("--workers", type=int, default=1, help="worker processes")
    parser.add_argument("--rate", type=int, default=20, help="how much faster than life the dispensers pump")
    parser.add_argument("--free-ports", action="store_true", help="any free ports, not the well-known ones")
    parser.add_argument("--only", help="comma-separated services, such as postgres,temporal (default: all)")
    return run(parser.parse_args(), ending)


if __name__ == "__main__":
    sys.exit(main())
