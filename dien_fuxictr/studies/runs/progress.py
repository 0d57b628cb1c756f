"""How far a study is, on stderr: its runs, and what each running one has reached by the curve that it writes."""

import math
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from dien_fuxictr.distributed.run_pool import Job, Pool, run_jobs

from .display import Lines, Terminal
from .run import Curve, Run

_TAIL_LINES = 8


def run_with_progress(
    runs: Sequence[Run], pool: Pool, finished: int, on_finish: Callable[[Run], None] = lambda run: None
) -> list[str]:
    """Run all; a failure is reported with the end of its log, and the rest goes on.

    Args:
        runs: in their order.
        pool: of workers.
        finished: runs of the study that are there already.
        on_finish: called with each run that has ended with a result.

    Returns:
        Ids of the failed runs.
    """
    by_id = {run.expid: run for run in runs}
    with Progress(finished + len(runs), finished) as progress:

        def end(expid: str, code: int) -> None:
            progress.end(expid, code)
            if expid not in progress.failed:
                on_finish(by_id[expid])

        run_jobs(map(progress.start, runs), pool, end, on_poll=progress.poll)
    return progress.failed


class Progress:
    """Shows how far a study is: in a terminal a bar and a line for each running run, else a line an evaluation.

    Args:
        total: number of runs.
        finished: of which so many are there already.

    Attributes:
        failed: ids of the failed ones.
    """

    def __init__(self, total: int, finished: int) -> None:
        self.failed: list[str] = []
        self._running: dict[str, tuple[Run, Job, Curve]] = {}
        self._finished = finished
        self._display = Terminal(total, finished) if sys.stderr.isatty() else Lines(total)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self._display.close()

    def start(self, run: Run) -> Job:
        """A run is about to start; returns its job."""
        return self._start(run, "goes on", "started")

    def _start(self, run: Run, goes_on: str, anew: str) -> Job:
        job = replace(run.job(), again=partial(self._again, run))
        self._running[run.expid] = run, job, Curve(run.curve)
        self._display.show(run.expid, goes_on if job.goes_on else anew)
        return job

    def _again(self, run: Run) -> Job | None:
        return None if run.result else self._start(run, "killed; goes on", "killed; started again")

    def poll(self) -> None:
        """Show what the running runs have reached since the last call."""
        for expid in self._running:
            self._show(expid)
        self._display.tick()

    def end(self, expid: str, code: int, how: str = "", finished: int | None = None, **notes: object) -> None:
        """A run has ended; a failure is shown with the end of its log.

        Args:
            expid: its id.
            code: exit code of its process.
            how: finished, failed or pruned; by default finished with code 0 and a result, else failed.
            finished: runs of the study that have ended; None: one more.
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
            self._display.show(expid, reached(run, curve.points))


def reached(run: Run, points: Sequence[dict[str, float]]) -> str:
    """The last epoch and value of the monitor, and the best one so far.

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
