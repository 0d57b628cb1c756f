"""`--cluster`: data-parallel processes of a command on a cluster, by Ray Train.

Not run yet: on a cluster of several machines, or with GPUs. Tests have a cluster of one machine.
"""

import io
import os
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any, TextIO

from dien_fuxictr.common.errors import TrainingError, UserError
from dien_fuxictr.common.signals import DeferredSignals, Terminated

from .child_processes import RESTARTS
from .distributed_group import PATIENCE
from .launcher import GRACE_SECONDS, LAUNCHED
from .ray_cluster import joined, missing

_PACKAGE = "ray[train]"
_INTERRUPTED, _TERMINATED = "interrupted", "terminated"


def launch_on_ray(
    cluster: str, count: int, gpu: int, run: Callable[[Sequence[str]], int], arguments: Sequence[str]
) -> int:
    """Run a command in several processes of a cluster; if one is lost, all restart.

    Args:
        cluster: value of `--cluster`.
        count: number of processes.
        gpu: -1 for the CPU; else each process gets its own GPU.
        run: the command; a function of a module. A process that returns is not started again.
        arguments: arguments of the command.

    Returns:
        The exit code of the first process, whose last line has been printed.

    Raises:
        UserError: there is no such cluster, it is too small, or one of its machines does not see the working directory.
        TrainingError: processes were lost too often.
    """
    what = "GPU" if gpu >= 0 else "CPU"
    with joined(cluster, _PACKAGE, count, shows_output=True) as name:
        import ray
        from ray.exceptions import RayActorError

        try:
            from ray.train import TrainingFailedError
        except ImportError as error:
            raise UserError(missing(error, _PACKAGE)) from error
        there = int(ray.cluster_resources().get(what, 0))
        if there < count:
            raise UserError(f"--workers {count}: {name} has {there} {what}s")
        with tempfile.TemporaryDirectory(prefix=".run_expid-", dir=Path.cwd()) as shared:
            device = ["--gpu", "0" if gpu >= 0 else "-1"]  # index among the GPUs that Ray lets the process see
            config = {"run": run, "arguments": [*arguments, *device], "shared": shared, "launched": repr(time.time())}
            try:
                code, line = _fit(config, count, gpu >= 0)
            except TrainingFailedError as error:
                raise TrainingError(f"processes were lost, after {RESTARTS} restarts: {error}") from error
            except RayActorError as error:
                raise TrainingError(f"Ray has lost the process that starts the others: {error}") from error
    print(line, end="", file=sys.stderr)
    return code


def _fit(config: dict[str, Any], count: int, on_gpus: bool) -> tuple[int, str]:
    """Return the result of the first process; forward signals to all processes.

    They end after the same step.
    """
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    backend = "cpu:gloo,cuda:nccl" if on_gpus else "gloo"
    trainer = TorchTrainer(
        _work,
        train_loop_config=config,
        torch_config=TorchConfig(backend=backend, timeout_s=int(PATIENCE.total_seconds())),
        scaling_config=ScalingConfig(num_workers=count, use_gpu=on_gpus, resources_per_worker={"CPU": 1}),
        run_config=RunConfig(storage_path=config["shared"], failure_config=FailureConfig(max_failures=RESTARTS)),
    )
    ended: list[Any] = []

    def fit() -> None:
        try:
            ended.append(trainer.fit().return_value)
        except BaseException as error:  # a signal may reach Ray too, which then ends by SystemExit
            ended.append(error)

    thread = threading.Thread(target=fit, daemon=True)  # Ray has its own handler of Ctrl-C in the main thread
    try:
        thread.start()
        while thread.is_alive():
            thread.join(0.1)
    except KeyboardInterrupt as error:
        Path(config["shared"], _TERMINATED if isinstance(error, Terminated) else _INTERRUPTED).touch()
        thread.join(GRACE_SECONDS)
        if not ended or isinstance(ended[0], BaseException):
            raise
    if isinstance(ended[0], BaseException):
        raise ended[0]
    return ended[0]


def _work(config: dict[str, Any]) -> tuple[int, str]:
    """Run the command in a data-parallel process; return exit code and last line."""
    import torch

    shared = Path(config["shared"])
    if not shared.is_dir():
        return 2, (
            f"error: {shared.parent} does not exist on machine {socket.gethostname()} of the cluster; all machines "
            "must share the working directory and the folders of data sets and checkpoints, at the same paths\n"
        )
    os.chdir(shared.parent)
    os.environ[LAUNCHED] = config["launched"]
    sys.argv = ["run_expid.py", *config["arguments"]]  # the line of results names the command
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    threading.Thread(target=_heed, args=(shared,), daemon=True).start()
    with redirect_stderr(_Heard(sys.stderr)) as heard:
        code = config["run"](config["arguments"])
    return code, heard.error


class _Heard(io.TextIOBase):
    """Stream that forwards output to stderr, except the line of an error.

    The command on the first machine prints that line.
    """

    def __init__(self, stderr: TextIO) -> None:
        self._stderr = stderr
        self.error = ""

    def write(self, text: str) -> int:
        if text.startswith("error: "):
            self.error = f"{text.rstrip()}\n"
            return len(text)
        return self._stderr.write(text)

    def flush(self) -> None:
        self._stderr.flush()


def _heed(shared: Path) -> None:
    """Read signals from files, since the command is not in the main thread here."""
    while shared.is_dir():
        for name, error in ((_INTERRUPTED, KeyboardInterrupt), (_TERMINATED, Terminated)):
            if (shared / name).exists():
                DeferredSignals.asked = error
        time.sleep(0.5)
