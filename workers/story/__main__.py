"""`make demo`: start the embedded stack, tell the story, stop everything.

Ends by itself with status 0, or 1 when something is not as it must be; 2 for wrong settings, 130 after Ctrl-C.
"""

import shutil
import sys
from pathlib import Path

from workers.embedded.ending import Ending
from workers.up import data_folder, refuse, say


def _clear(folder: Path) -> None:
    """Remove the last demo's data; raises StackError when a stack still runs on them, or none ever did."""
    from workers.embedded.process import StackError
    from workers.embedded.state import FolderLock

    if folder.exists():
        lock = FolderLock(folder)
        if any(folder.iterdir()) and not lock.was_taken:
            raise StackError(
                f"{folder} holds files that no demo made: move them, or choose another folder with JIAZHU_DATA"
            )
        lock.acquire()
        lock.release()
        shutil.rmtree(folder)


def run(folder: Path, ending: Ending) -> int:
    """Tell the story on a new data folder; returns the exit status.

    What takes long to import is imported here, when Ctrl-C is already taken.
    """
    from workers.embedded.process import StackCancelledError, StackError
    from workers.embedded.services import StackOptions, wrong_settings
    from workers.embedded.stack import EmbeddedStack
    from workers.story.demo import tell_story
    from workers.story.people import StoryError

    if wrong := wrong_settings():
        return refuse(wrong)
    try:
        _clear(folder)
        options = StackOptions(rate=20)
        with (
            EmbeddedStack(folder, options=options, say=say, cancelled=ending.asked) as stack,
            ending.cutting(),
        ):
            status = tell_story(stack)
    except (KeyboardInterrupt, StackCancelledError):
        say("\n演示被中断，一切已停止 · the demo was interrupted, everything has stopped")
        return ending.status
    except (StackError, StoryError) as error:
        print(f"! {error}", file=sys.stderr, flush=True)
        return 1
    say("\n演示结束，一切已停止 · the demo has ended, everything has stopped")
    return status


def main() -> int:
    """The command. The demo has a data folder of its own, made anew each time."""
    ending = Ending()
    ending.install()
    return run(Path(f"{data_folder()}-demo"), ending)


if __name__ == "__main__":
    sys.exit(main())
