"""Progress of a comparison or sweep on stderr."""

import math
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import count
from time import monotonic

from tqdm import tqdm

from dien_fuxictr.common.progress import has_terminal, terminal_size
from dien_fuxictr.distributed.run_pool import Job, Pool, run_jobs

from .run import Curve, Run

_TAIL_LINES = 8


def run_with_progress(
    runs: Sequence[Run], pool: Pool, finished: int, on_finish: Callable[[Run], None] = lambda run: None
) -> list[str]:
    """Run all; report a failure with the end of its log, and continue with the rest.

    Args:
        runs: in their order.
        pool: starts them.
        finished: number of runs that have finished before.
        on_finish: called with each run that has ended with a result.

    Returns:
        Ids of the failed runs.
    """
    by_id = {run.expid: run for run in runs}
    with RunProgress(finished + len(runs), finished) as progress:

        def end(expid: str, code: int) -> None:
            progress.end(expid, code)
            if expid not in progress.failed:
                on_finish(by_id[expid])

        run_jobs(map(progress.start, runs), pool, end, on_poll=progress.poll)
    return progress.failed


class RunProgress:
    """Progress of runs: in a terminal a bar and rows, otherwise a line per event.

    Args:
        total: number of runs.
        finished: number of those that have finished before.

    Attributes:
        failed: ids of the failed ones.
    """

    def __init__(self, total: int, finished: int) -> None:
        self.failed: list[str] = []
        self._running: dict[str, tuple[Run, Job, Curve]] = {}
        self._finished = finished
        self._display = TerminalDisplay(total, finished) if has_terminal() else LineDisplay(total)

    def __enter__(self) -> "RunProgress":
        return self

    def __exit__(self, *_: object) -> None:
        self._display.close()

    def start(self, run: Run) -> Job:
        """Show that a run starts; return its job."""
        return self._start(run, "continues", "started")

    def _start(self, run: Run, goes_on: str, anew: str) -> Job:
        job = replace(run.job(), again=partial(self._again, run))
        self._running[run.expid] = run, job, Curve(run.curve)
        self._display.show(run.expid, goes_on if job.goes_on else anew)
        return job

    def _again(self, run: Run) -> Job | None:
        return None if run.result else self._start(run, "killed; continues", "killed; started again")

    def poll(self) -> None:
        """Show what the running runs have reached since the last call."""
        for expid in self._running:
            self._show(expid)
        self._display.tick()

    def end(self, expid: str, code: int, how: str = "", finished: int | None = None, **notes: object) -> None:
        """Show that a run has ended; a failure with the end of its log.

        Args:
            expid: its id.
            code: exit code of its process.
            how: finished, failed or pruned; by default finished with code 0 and a result, else failed.
            finished: number of runs that have ended; None: one more.
            notes: shown with their number from now on.
        """
        self._show(expid)
        run, job, _ = self._running.pop(expid)
        how = how or ("failed" if code or run.result is None else "finished")
        if how == "failed":
            self.failed.append(expid)
            self._display.write(_failure(job, code))
            notes["failed"] = len(self.failed)
        self._finished = self._finished + 1 if finished is None else finished
        self._display.end(expid, how, self._finished, notes)

    def _show(self, expid: str) -> None:
        run, _, curve = self._running[expid]
        if curve.update():
            self._display.show(expid, describe_progress(run, curve.points))


def describe_progress(run: Run, points: Sequence[dict[str, float]]) -> str:
    """Describe the last epoch and value of the monitor, and the best one so far.

    Args:
        run: whose points they are.
        points: see `read_curve`; at least one.
    """
    last, name = points[-1], "+".join(run.monitor.get_metrics())
    text = f"epoch {last['epoch']}/{run.params.get('epochs', 1)}, {name} {last['monitor']:.4f}"
    numbers = [point for point in points if math.isfinite(point["monitor"])]
    if not numbers:
        return text
    best = (min if run.is_minimised else max)(numbers, key=lambda point: point["monitor"])
    return f"{text}, best {best['monitor']:.4f} in epoch {best['epoch']}"


def _failure(job: Job, code: int) -> str:
    how = f"exit code {code}" if code > 0 else f"killed by {signal.Signals(-code).name}" if code else "without a result"
    # A progress bar writes many states of itself on one line.
    lines = [line.rsplit("\r", 1)[-1] for line in job.log.read_bytes().decode(errors="replace").rstrip().split("\n")]
    return "\n    ".join([f"failed: {job.name}, {how}; the end of {job.log}:", *lines[-_TAIL_LINES:]])


class LineDisplay:
    """Display for a file or a pipe: a line per event.

    Args:
        total: number of runs.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self.notes: dict[str, object] = {}

    def show(self, expid: str, text: str) -> None:
        """Show what a running run has reached."""
        self.write(f"{expid}: {text}")

    def end(self, expid: str, how: str, finished: int, notes: dict[str, object]) -> None:
        """Show that a run has ended, and how many have by now; `notes` are shown from now on."""
        self.notes |= notes
        listed = "".join(f", {name} {value}" for name, value in self.notes.items())
        self.write(f"{expid}: {how}; {finished}/{self.total} runs{listed}")

    def write(self, text: str) -> None:
        """Write lines that stay."""
        print(text, file=sys.stderr, flush=True)

    def tick(self) -> None:
        """Refresh the display; called repeatedly."""

    def close(self) -> None:
        """Close the display."""


class TerminalDisplay(LineDisplay):
    """Display for a terminal: a bar over the runs, and a row per running one.

    Args:
        total: number of runs.
        finished: number of those that have finished before.
    """

    def __init__(self, total: int, finished: int) -> None:
        super().__init__(total)
        self._bar = tqdm(total=max(total, finished), initial=finished, unit="run", **terminal_size())
        self._rows: dict[str, tuple[int, tqdm]] = {}
        self._refreshed = monotonic()

    def show(self, expid: str, text: str) -> None:
        """Show the state of a run on its own line."""
        if expid not in self._rows:
            taken = [place for place, _ in self._rows.values()]
            place = next(place for place in count(1) if place not in taken)
            self._rows[expid] = place, tqdm(bar_format="{desc}", position=place, leave=False, **terminal_size())
        self._rows[expid][1].set_description_str(f"  {expid}: {text}"[: self._bar.format_dict["ncols"]])

    def end(self, expid: str, how: str, finished: int, notes: dict[str, object]) -> None:
        """Remove the line of a run, and advance the bar."""
        self._rows.pop(expid)[1].close()
        self.notes |= notes
        self._bar.set_postfix(self.notes, refresh=False)
        self._bar.update(finished - self._bar.n)
        self._bar.refresh()

    def write(self, text: str) -> None:
        """Print a line above the bar."""
        self._bar.write(text, file=sys.stderr)

    def tick(self) -> None:
        """Refresh the bar's clock."""
        if monotonic() > self._refreshed + 1:  # the clock also advances while no run ends
            self._refreshed = monotonic()
            self._bar.refresh()

    def close(self) -> None:
        """Close the bar and all lines."""
        for _, row in self._rows.values():
            row.close()
        self._bar.close()
