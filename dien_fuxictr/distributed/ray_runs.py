"""Runs of a comparison or sweep as tasks of a Ray cluster with a shared folder.

Not run yet: on a cluster of several machines, or with GPUs. Tests have a cluster of one machine.
"""

import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from dien_fuxictr.common.errors import UserError

from . import run_pool
from .child_processes import RESTARTS
from .ray_cluster import joined
from .run_pool import Job, Pool

_KILLED = -signal.SIGKILL
_POLL_SECONDS = 0.1


@contextmanager
def pool_of(cluster: str | None, gpus: list[int]) -> Iterator[Pool]:
    """Start the pool that runs the jobs of a comparison or a sweep.

    Args:
        cluster: value of `--cluster`; None: this machine.
        gpus: one run at a time on each, -1 the CPU; on a cluster any GPU for each index. Empty: one run at a time on
            the CPU; on a cluster as many as it has CPUs.

    Raises:
        UserError: there is no such cluster.
    """
    if cluster is None:
        yield Pool(gpus or [-1])
        return
    with joined(cluster, cpus=len(gpus) or None) as name:
        import ray

        there = ray.cluster_resources()
        if gpus and max(gpus) >= 0 and not there.get("GPU"):
            raise UserError(f"--gpu {max(gpus)}: {name} has no GPU")
        on_ray = OnRay(gpus or [-1] * int(there["CPU"]))
        print(f"on {name}, {len(on_ray.gpus)} runs at a time", file=sys.stderr)
        yield on_ray


class OnRay(Pool):
    """Pool whose jobs are tasks with a CPU, and a GPU if needed, of any machine."""

    def __init__(self, gpus: list[int]) -> None:
        import ray

        super().__init__(gpus)
        self._task: Any = ray.remote(num_cpus=1, max_retries=0)(_run)

    def start(self, job: Job, gpu: int) -> "_Task":
        """Start the task on Ray."""
        has_gpu = gpu >= 0
        # a task only sees its own GPU
        return _Task(job, self._task.options(num_gpus=int(has_gpu)), "0" if has_gpu else "-1")


class _Task:
    def __init__(self, job: Job, task: Any, gpu: str) -> None:
        self._task, self._gpu = task, gpu
        self._code: int | None = None
        self._restarts = RESTARTS
        self._submit(job)

    def _submit(self, job: Job) -> None:
        self._job = job
        job.log.parent.mkdir(parents=True, exist_ok=True)
        self._mark = job.log.with_name(f".{job.name}.{uuid4().hex}")
        self._mark.touch()
        with open(job.log, "ab" if job.goes_on else "wb"):
            pass
        command = [*run_pool.COMMAND[1:], *job.arguments, "--gpu", self._gpu]
        self._ref = self._task.remote(command, os.getcwd(), str(job.log), str(self._mark))

    def poll(self) -> int | None:
        """Return the exit code, or None while the run continues; like `Process.poll`.

        Raises:
            UserError: the machine of the task does not see the folder of the runs.
        """
        import ray
        from ray.exceptions import RayError, RayTaskError, TaskCancelledError

        if self._code is not None or not ray.wait([self._ref], timeout=0)[0]:
            return self._code
        self._mark.unlink(missing_ok=True)
        try:
            code, refusal = ray.get(self._ref)
        except TaskCancelledError:
            code, refusal = -signal.SIGTERM, ""
        except RayTaskError:
            raise
        except RayError:  # the process or the machine of the task has died
            code, refusal = _KILLED, ""
        if refusal:
            self._code = code
            raise UserError(refusal)
        if code == _KILLED and self._restarts and self._job.again:
            self._restarts -= 1
            if job := self._job.again():
                self._submit(job)
                return None
            code = 0
        self._code = code
        return code

    def terminate(self) -> None:
        """Cancel the task; a waiting one ends at once."""
        import ray

        self._restarts = 0
        ray.cancel(self._ref)

    def kill(self) -> None:
        """Kill the process of the task, and the run with it."""
        import ray

        self._restarts = 0
        if self._code is None:
            ray.cancel(self._ref, force=True)
            ray.wait([self._ref], timeout=5)
        self._mark.unlink(missing_ok=True)


def _run(command: list[str], folder: str, log: str, mark: str) -> tuple[int, str]:
    """Return a run's exit code or refusal; runs on a machine of the cluster."""
    if not os.path.exists(os.path.join(folder, mark)):
        return 2, (
            f"{Path(folder, log).parent} does not exist on machine {socket.gethostname()} of the cluster; all machines "
            "must share the working directory and the folders of the runs, data sets and checkpoints, at the same paths"
        )
    os.chdir(folder)
    with open(log, "ab") as output:
        # A run that saved its state at the end would conflict with the run that replaces it.
        process = run_pool.start([sys.executable, *command], output, 1, orphan=signal.SIGKILL)
    try:
        while (code := process.poll()) is None:
            time.sleep(_POLL_SECONDS)  # a signal does not interrupt a wait for a process
    finally:
        run_pool.stop([process])
    return code, ""
