"""`make up`.

Start the embedded stack, keep it running, end it on Ctrl-C or SIGTERM without leaving anything behind.

Where: `JIAZHU_DATA` (default `.data`). Ports: see CONTRIBUTING.md. `DATABASE_URL` and `TEMPORAL_ADDRESS`
replace the embedded servers.
"""

import argparse
import os
import signal
import sys
import threading
import unicodedata
from pathlib import Path
from types import FrameType

from workers.embedded.process import ROOT, StackCancelledError, StackError
from workers.embedded.services import StackOptions
from workers.embedded.stack import SERVICES, EmbeddedStack


def data_folder() -> Path:
    """The data folder: `JIAZHU_DATA`, or `.data` in the project."""
    return Path(os.environ.get("JIAZHU_DATA") or ROOT / ".data")


def say(line: str) -> None:
    """One line of progress."""
    print(line, flush=True)


def _width(text: str) -> int:
    """Columns on a terminal: Chinese characters take two."""
    return sum(2 if unicodedata.east_asian_width(one) in "WF" else 1 for one in text)


def box(lines: list[str]) -> str:
    """The lines in a frame."""
    inner = max(_width(line) for line in lines)
    body = [f"│ {line}{' ' * (inner - _width(line))} │" for line in lines]
    return "\n".join([f"┌{'─' * (inner + 2)}┐", *body, f"└{'─' * (inner + 2)}┘"])


def welcome(stack: EmbeddedStack) -> str:
    """Where to look, once everything serves."""
    return box(
        [
            "加注 Jiazhu 已启动 · the stack is running (sandbox: no real money)",
            "",
            f"接口文档 API docs      {stack.api_url}/docs",
            f"站务后台 console       {stack.api_url}/console/",
            f"流程 Temporal UI       {stack.ui_url}",
            f"模拟微信 WeChat sim    {stack.wechat_url}/_sandbox/state",
            f"模拟加油机 dispensers  {stack.station_url}/state",
            f"数据与日志 data, logs  {stack.folder}",
            "",
            "Ctrl-C 停止 · stops everything; the next start continues",
        ]
    )


def main() -> int:
    """The command. Returns the exit status."""
    parser = argparse.ArgumentParser(description="Run the embedded stack until Ctrl-C.")
    parser.add_argument("--data", type=Path, default=data_folder(), help="data folder (JIAZHU_DATA)")
    parser.add_argument("--workers", type=int, default=1, help="worker processes")
    parser.add_argument("--rate", type=int, default=20, help="how much faster than life the dispensers pump")
    parser.add_argument("--free-ports", action="store_true", help="any free ports, not the well-known ones")
    parser.add_argument("--only", help=f"comma-separated services, of {','.join(SERVICES)}")
    arguments = parser.parse_args()
    only = arguments.only.split(",") if arguments.only else SERVICES
    ending = threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        """Note the wish only: raising here could cut a start or a stop in half."""
        ending.set()

    signal.signal(signal.SIGINT, end)
    signal.signal(signal.SIGTERM, end)
    options = StackOptions(workers=arguments.workers, rate=arguments.rate, free_ports=arguments.free_ports)
    try:
        stack = EmbeddedStack(arguments.data, only=only, options=options, say=say, cancelled=ending.is_set)
        with stack:
            say(welcome(stack))
            ending.wait()
            say("· stopping")
    except StackCancelledError:
        say("· stopped while starting")
    except StackError as error:
        print(f"! {error}", file=sys.stderr, flush=True)
        return 1
    say("· everything has ended")
    return 0


if __name__ == "__main__":
    sys.exit(main())
