"""Processes of a sweep: one run at a time on each GPU index, none outlives the sweep."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from dien_fuxictr.common.shipped import SCRIPT

_POLL_SECONDS = 0.1
_GRACE_SECONDS = 10.0
_TAIL_LINES = 8
# Looked up here: between fork and exec, in a process that may have threads, as little as possible should happen.
_PRCTL = ctypes.CDLL(None).prctl if sys.platform == "linux" else None
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Job:
    """One process to run.

    Attributes:
        arguments: of `SCRIPT`.
        log: file for all that it prints.
        goes_on: add to the log instead of beginning it anew.
    """

    arguments: list[str]
    log: Path
    goes_on: bool = False


class RunBar:
    """A progress bar over runs that also reports failures.

    Args:
        total: number of runs.
        finished: of which so many are there already.

    Attributes:
        failed: names of the failed ones.
    """

    def __init__(self, total: int, finished: int) -> None:
        self.failed: list[str] = []
        self._notes: dict[str, object] = {}
        self._bar = tqdm(total=max(total, finished), initial=finished, unit="run", dynamic_ncols=True)
        self._shown = time.monotonic()

    def __enter__(self) -> "RunBar":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def tick(self) -> None:
        """Let the clock of a terminal go on between the ends of runs."""
        if sys.stderr.isatty() and time.monotonic() > self._shown + 1:
            self._shown = time.monotonic()
            self._bar.refresh()

    def ended(self, finished: int | None = None, **notes: object) -> None:
        """One more run has ended, or by now `finished` in all; `notes` are shown beside the bar."""
        self._notes |= notes
        self._bar.set_postfix(self._notes, refresh=False)
        self._bar.update(1 if finished is None else finished - self._bar.n)

    def failure(self, name: str, code: int, log: Path, finished: int | None = None) -> None:
        """A run has failed: say so, with the end of its log."""
        self.failed.append(name)
        self._bar.write(_failure(name, code, log), file=sys.stderr)
        self.ended(finished, failed=len(self.failed))


def run_with_progress(jobs: dict[str, Job], gpus: list[int], finished: int) -> list[str]:
    """`run_jobs` under a progress bar; a failure is reported with the end of its log, and the rest goes on.

    Args:
        jobs: by name, in their order.
        gpus: a worker each; -1 is the CPU.
        finished: runs of the whole that need no job.

    Returns:
        Names of the failed jobs.
    """
    with RunBar(finished + len(jobs), finished) as bar:

        def on_end(name: str, code: int) -> None:
            if code:
                bar.failure(name, code, jobs[name].log)
            else:
                bar.ended()

        run_jobs(jobs.items(), gpus, on_end, on_poll=bar.tick)
    return bar.failed


def _failure(name: str, code: int, log: Path) -> str:
    how = f"exit code {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"
    # A progress bar writes many states of itself on one line.
    lines = [line.rsplit("\r", 1)[-1] for line in log.read_bytes().decode(errors="replace").rstrip().split("\n")]
    return "\n    ".join([f"failed: {name}, {how}; the end of {log}:", *lines[-_TAIL_LINES:]])


def run_jobs(
    jobs: Iterable[tuple[str, Job]],
    gpus: list[int],
    on_end: Callable[[str, int], None],
    is_over: Callable[[str], bool] = lambda name: False,
    on_poll: Callable[[], None] = lambda: None,
) -> None:
    """Run all jobs, one at a time on each GPU index. When this ends, however it ends, no process is left.

    Args:
        jobs: names and jobs; the next one is asked for when a worker is idle.
        gpus: a worker each; -1 is the CPU.
        on_end: called with the name and the exit code (negative: the signal that killed it) of an ended job.
        is_over: asked again and again for each running job; one that need not go on is interrupted.
        on_poll: called again and again.
    """
    waiting, idle = iter(jobs), deque(gpus)
    running: dict[str, tuple[subprocess.Popen, int]] = {}
    try:
        while True:
            while idle and (following := next(waiting, None)):
                name, job = following
                gpu = idle.popleft()
                running[name] = _start(job, gpu, len(gpus)), gpu
            if not running:
                break
            time.sleep(_POLL_SECONDS)
            on_poll()
            for name, (process, gpu) in list(running.items()):
                if process.poll() is None and is_over(name):
                    _stop([process])
                if process.poll() is not None:
                    del running[name]
                    idle.append(gpu)
                    on_end(name, process.returncode)
    finally:
        _stop([process for process, _ in running.values()])


def _start(job: Job, gpu: int, workers: int) -> subprocess.Popen:
    threads = max(1, _cores() // workers)
    job.log.parent.mkdir(parents=True, exist_ok=True)
    with open(job.log, "ab" if job.goes_on else "wb") as log:
        return subprocess.Popen(
            [sys.executable, "-u", str(SCRIPT), *job.arguments, "--gpu", str(gpu)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={"OMP_NUM_THREADS": str(threads), **os.environ},
            start_new_session=True,  # a Ctrl-C reaches the sweep alone, which then stops all in order
            preexec_fn=_die_with_parent if _PRCTL else None,
        )


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _die_with_parent() -> None:
    """In the child: a sweep that is killed outright takes its runs along, or the next one would start them twice."""
    assert _PRCTL
    _PRCTL(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _stop(processes: list[subprocess.Popen]) -> None:
    """Interrupt, which lets a run remove its temporary files; kill what is still there after a while."""
    for process in processes:
        _signal(process, signal.SIGINT)
    deadline = time.monotonic() + _GRACE_SECONDS
    try:
        for process in processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
    finally:
        for process in processes:
            _signal(process, signal.SIGKILL)
            process.wait()


def _signal(process: subprocess.Popen, number: signal.Signals) -> None:
    """To the process and all that it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)
