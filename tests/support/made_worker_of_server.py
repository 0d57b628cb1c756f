"""A server's worker that loads nothing, and acts by files in the served folder."""

import asyncio
import itertools
import os
import signal
import sys
from pathlib import Path

from dien_fuxictr.serving.settings import Settings
from dien_fuxictr.serving.worker import SupervisorLink


async def serve(folder: Path, link: SupervisorLink) -> int:
    """Act by the file `plan`: serve, refuse, die, hang at the end, or wait first."""

    def log(what: str) -> None:
        with open(folder / "log", "a") as file:
            file.write(f"{os.getpid()} {what}\n")

    plan, ended = (folder / "plan").read_text(), asyncio.Event()
    log("starts")
    if plan == "refuse":
        link.say("the bundle is broken")
        return 2
    if plan == "die":
        return 3
    loop, taken, seconds = asyncio.get_running_loop(), [], itertools.count()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lambda: log("hangs") if plan == "hang" else ended.set())

    def connect(connection: object) -> None:
        taken.append(connection)
        log("connection")

    def state() -> str:
        turn = (folder / "turn").read_text() if (folder / "turn").exists() else "0"
        work = next(seconds) if (folder / f"{os.getpid()} works").exists() else 0
        return f"{len(taken)} {len(taken)} {turn} {work}"

    def close(count: int) -> None:
        for _ in range(count):
            log("closes")

    link.follow(connect, lambda: log("looks"), state, close, ended.set)
    if plan == "one waits":
        try:
            (folder / "first").mkdir()
        except FileExistsError:
            while not (folder / "go").exists():
                await asyncio.sleep(0.01)
    others = asyncio.create_task(link.others())
    await asyncio.wait([others, asyncio.create_task(ended.wait())], return_when=asyncio.FIRST_COMPLETED)
    if others.done():
        log("serves")
    await ended.wait()
    log("ends")
    return 0


def main() -> int:
    """Serve with the settings of the command line."""
    return asyncio.run(serve(Path(Settings.from_json(sys.argv[1]).bundle), SupervisorLink(0)))


if __name__ == "__main__":
    sys.exit(main())
