"""Processes of a sweep: one run at a time on each GPU index, none outlives the sweep."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "run_expid.py"
_POLL_SECONDS = 0.1
_GRACE_SECONDS = 10.0


@dataclass(frozen=True)
class Job:
    """One process to run.

    Attributes:
        arguments: of `SCRIPT`.
        log: file for all that it prints.
    """

    arguments: list[str]
    log: Path


def run_jobs(jobs: dict[str, Job], gpus: list[int], on_end: Callable[[str, int], None]) -> None:
    """Run all jobs, one at a time on each GPU index. When this ends, however it ends, no process is left.

    Args:
        jobs: by name, in their order.
        gpus: a worker each; -1 is the CPU.
        on_end: called with the name and the exit code (negative: the signal that killed it) of an ended job.
    """
    waiting, idle = deque(jobs.items()), deque(gpus)
    running: dict[str, tuple[subprocess.Popen, int]] = {}
    try:
        while waiting or running:
            while waiting and idle:
                name, job = waiting.popleft()
                gpu = idle.popleft()
                running[name] = _start(job, gpu, len(gpus)), gpu
            time.sleep(_POLL_SECONDS)
            for name, (process, gpu) in list(running.items()):
                if process.poll() is not None:
                    del running[name]
                    idle.append(gpu)
                    on_end(name, process.returncode)
    finally:
        _stop([process for process, _ in running.values()])


def _start(job: Job, gpu: int, workers: int) -> subprocess.Popen:
    threads = max(1, _cores() // workers)
    job.log.parent.mkdir(parents=True, exist_ok=True)
    with open(job.log, "wb") as log:
        return subprocess.Popen(
            [sys.executable, "-u", str(SCRIPT), *job.arguments, "--gpu", str(gpu)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={"OMP_NUM_THREADS": str(threads), **os.environ},
            start_new_session=True,  # a Ctrl-C reaches the sweep alone, which then stops all in order
            preexec_fn=_die_with_parent if sys.platform == "linux" else None,
        )


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _die_with_parent() -> None:
    """In the child: a sweep that is killed outright takes its runs along, or the next one would start them twice."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)


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
