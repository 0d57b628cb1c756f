"""A worker of a server that loads nothing: what it does is in the folder that it is told to serve."""

import asyncio
import os
import signal
import sys
import threading
import time
from pathlib import Path

from dien_fuxictr.serving.settings import Settings
from dien_fuxictr.serving.worker import Tie


def main() -> int:
    """As the file `plan` says: serve, refuse, die, hang at the end, or wait before it has loaded."""
    folder, accepts, ended = (
        Path(Settings.from_json(sys.argv[1]).bundle),
        "at-once" if sys.argv[2:] else "when-loaded",
        threading.Event(),
    )

    def log(what: str) -> None:
        with open(folder / "log", "a") as file:
            file.write(f"{os.getpid()} {what}\n")

    tie, plan = Tie(0), (folder / "plan").read_text()
    log(accepts)
    if plan == "refuse":
        tie.say("the bundle is broken")
        return 2
    if plan == "die":
        return 3
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: log("hangs") if plan == "hang" else ended.set())
    if plan == "one waits":
        try:
            (folder / "first").mkdir()
        except FileExistsError:
            while not (folder / "go").exists():
                time.sleep(0.01)
    tie.follow(lambda: log("looks"), ended.set)
    asyncio.run(tie.others())
    log("serves")
    while not ended.wait(0.05):
        pass
    log("ends")
    return 0


if __name__ == "__main__":
    sys.exit(main())
