"""The runs of a study as processes: one at a time on each GPU index, none outlives the study."""

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

from dien_fuxictr.common.shipped import TOP

COMMAND = (sys.executable, "-u", "-m", "dien_fuxictr.experiment")
_POLL_SECONDS = 0.1
_GRACE_SECONDS = 20.0  # Slurm and Kubernetes leave 30 by default
# Looked up here: between fork and exec, in a process that may have threads, as little as possible should happen.
_PRCTL = ctypes.CDLL(None).prctl if sys.platform == "linux" else None
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Job:
    """One process to run.

    Attributes:
        name: tells it apart.
        arguments: of `COMMAND`.
        log: file for all that it prints.
        goes_on: add to the log instead of beginning it anew.
    """

    name: str
    arguments: list[str]
    log: Path
    goes_on: bool = False


def run_jobs(
    jobs: Iterable[Job],
    gpus: list[int],
    on_end: Callable[[str, int], None],
    is_over: Callable[[str], bool] = lambda name: False,
    on_poll: Callable[[], None] = lambda: None,
) -> None:
    """Run all jobs, one at a time on each GPU index. When this ends, however it ends, no process is left.

    Args:
        jobs: the next one is asked for when a worker is idle.
        gpus: a worker each; -1 is the CPU.
        on_end: called with the name and the exit code (negative: the signal that killed it) of an ended job.
        is_over: asked again and again for each running job; one that need not go on is terminated.
        on_poll: called again and again.
    """
    waiting, idle = iter(jobs), deque(gpus)
    running: dict[str, tuple[subprocess.Popen, int]] = {}
    try:
        while True:
            while idle and (job := next(waiting, None)):
                gpu = idle.popleft()
                running[job.name] = _start(job, gpu, len(gpus)), gpu
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
            [*COMMAND, *job.arguments, "--gpu", str(gpu)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={"OMP_NUM_THREADS": str(threads), **os.environ, **_imports()},
            start_new_session=True,  # a Ctrl-C reaches the study alone, which then stops all in order
            preexec_fn=_die_with_parent if _PRCTL else None,
        )


def _imports() -> dict[str, str]:
    """A checkout is importable from any working directory, as an installed package is; of that directory nothing is."""
    path = os.pathsep.join(filter(None, [str(TOP), os.environ.get("PYTHONPATH")]))
    return {"PYTHONPATH": path, "PYTHONSAFEPATH": "1"}


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _die_with_parent() -> None:
    """In the child: a study that is killed outright takes its runs along, or the next one would start them twice."""
    assert _PRCTL
    _PRCTL(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _stop(processes: list[subprocess.Popen]) -> None:
    """Terminate, after which a run saves its state; kill what is still there after a while, and all that it started."""
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + _GRACE_SECONDS
    try:
        for process in processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
    finally:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
