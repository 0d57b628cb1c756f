"""Runs as processes, one at a time per device; none outlives its command."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Protocol

from dien_fuxictr.common.package_data import TOP

from .child_processes import HAS_PARENT_SIGNAL, end_with_parent

COMMAND = (sys.executable, "-u", "-m", "dien_fuxictr.experiment")
_POLL_SECONDS = 0.1
_GRACE_SECONDS = 20.0  # Slurm and Kubernetes leave 30 by default


@dataclass(frozen=True)
class Job:
    """One process to run.

    Attributes:
        name: tells it apart.
        arguments: arguments of `COMMAND`.
        log: file for all that it prints.
        goes_on: append to the log instead of starting a new one.
        again: what to run in its place where a machine of a cluster was lost, or None if it has done all.
    """

    name: str
    arguments: list[str]
    log: Path
    goes_on: bool = False
    again: "Callable[[], Job | None] | None" = None


class Process(Protocol):
    """A started job."""

    def poll(self) -> int | None:
        """Return the exit code (negative: the signal that killed it); None while it runs."""

    def terminate(self) -> None:
        """Let it save its state and end."""

    def kill(self) -> None:
        """Kill the process and all processes that it has started, and wait for their end."""


class Pool:
    """A pool whose jobs are processes of this machine.

    Args:
        gpus: device of each parallel run; -1 is the CPU.
    """

    def __init__(self, gpus: list[int]) -> None:
        self.gpus = gpus

    def start(self, job: Job, gpu: int) -> Process:
        """Start a job on an idle device."""
        job.log.parent.mkdir(parents=True, exist_ok=True)
        with open(job.log, "ab" if job.goes_on else "wb") as log:
            return start([*COMMAND, *job.arguments, "--gpu", str(gpu)], log, max(1, cores() // len(self.gpus)))


def run_jobs(
    jobs: Iterable[Job],
    pool: Pool,
    on_end: Callable[[str, int], None],
    is_over: Callable[[str], bool] = lambda name: False,
    on_poll: Callable[[], None] = lambda: None,
) -> None:
    """Run all jobs, one at a time per device; leave no process behind.

    Args:
        jobs: the next one is asked for when a device is idle.
        pool: starts them.
        on_end: called with the name and the exit code of an ended job.
        is_over: asked repeatedly for each running job; a job that need not continue is terminated.
        on_poll: called again and again.
    """
    waiting, idle = iter(jobs), deque(pool.gpus)
    running: dict[str, tuple[Process, int]] = {}
    try:
        while True:
            while idle and (job := next(waiting, None)):
                gpu = idle.popleft()
                running[job.name] = pool.start(job, gpu), gpu
            if not running:
                break
            time.sleep(_POLL_SECONDS)
            on_poll()
            for name, (process, gpu) in list(running.items()):
                if process.poll() is None and is_over(name):
                    stop([process])
                if (code := process.poll()) is not None:
                    del running[name]
                    idle.append(gpu)
                    on_end(name, code)
    finally:
        stop([process for process, _ in running.values()])


class _Here(subprocess.Popen):
    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.wait()


def start(command: Sequence[str], log: IO[bytes], threads: int, orphan: signal.Signals = signal.SIGTERM) -> Process:
    """Start a process of this machine.

    Args:
        command: its own.
        log: what it prints goes there.
        threads: for its computations.
        orphan: the signal that it gets when this process has ended (Linux).
    """
    return _Here(
        command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        env={"OMP_NUM_THREADS": str(threads), **os.environ, **_imports()},
        start_new_session=True,  # only the parent gets a Ctrl-C, and stops all runs in order
        preexec_fn=partial(end_with_parent, orphan) if HAS_PARENT_SIGNAL else None,
    )


def _imports() -> dict[str, str]:
    """Return variables that make this checkout, and no other folder, importable."""
    path = os.pathsep.join(filter(None, [str(TOP), os.environ.get("PYTHONPATH")]))
    return {"PYTHONPATH": path, "PYTHONSAFEPATH": "1"}


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def stop(processes: Sequence[Process]) -> None:
    """Terminate processes, so that runs save their state; kill what is left."""
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + _GRACE_SECONDS
    try:
        while any(process.poll() is None for process in processes) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS / 10)
    finally:
        for process in processes:
            process.kill()
