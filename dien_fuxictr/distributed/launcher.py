"""`--workers`: torchrun's launcher in a command, which starts the processes.

Not run yet: with GPUs. Tests start processes on the CPU.
"""

import io
import logging
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from dien_fuxictr.common.errors import UserError

from .child_processes import RESTARTS, end_with_parent

GRACE_SECONDS = 120
LAUNCHED = "DIEN_WORKERS_LAUNCHED"
STORE = "DIEN_WORKERS_STORE"
"""Environment variable with the place where the processes of `launch` meet, for torch's `init_process_group`."""


def launch(count: int, run: Callable[[Sequence[str]], int], arguments: Sequence[str]) -> int:
    """Run a command in several processes; if one is killed, all start again.

    The processes meet in files of a folder that only this user may open, and communicate over the loopback: torch's own
    stores listen on all interfaces without authentication, and contain pickles of the launcher.

    Args:
        count: number of processes, on this machine.
        run: the command; a function of a module. A process that returns is not started again.
        arguments: arguments of the command.

    Returns:
        The exit code of the first process with a code other than 0, else 0.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.disable()  # the launcher's own log; the processes report what matters
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # the default of torchrun
    os.environ[LAUNCHED] = repr(time.time())
    os.environ["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"] = str(GRACE_SECONDS)  # the default of torch 2.10 is 30 s
    os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"  # otherwise the launcher opens a store for the processes
    try:
        with tempfile.TemporaryDirectory(prefix="run_expid-") as folder:
            config = LaunchConfig(
                min_nodes=1,
                max_nodes=1,
                nproc_per_node=count,
                run_id=f"{os.getpid()}",
                rdzv_backend="c10d",
                rdzv_endpoint=f"{folder}/launcher",
                rdzv_configs={"store_type": "file"},
                max_restarts=RESTARTS,
                monitor_interval=0.1,
            )
            codes = elastic_launch(config, _work)(run, list(arguments), os.getpid(), folder)
    except SignalException as error:
        return 128 + error.sigval
    except ChildFailedError as error:
        rank, failure = next(iter(error.failures.items()))
        print(
            f"error: process {rank} was ended by {failure.signal_name()}, after {RESTARTS} restarts",
            file=sys.stderr,
        )
        return 1
    finally:
        logging.disable(logging.NOTSET)
    return next((code for code in codes.values() if code), 0)


def _work(run: Callable[[Sequence[str]], int], arguments: Sequence[str], launcher: int, folder: str) -> int:
    os.setsid()  # only the launcher gets a Ctrl-C, and forwards it to all
    end_with_parent(signal.SIGTERM)
    loopback = next(name for _, name in socket.if_nameindex() if name.startswith("lo"))
    os.environ |= {"GLOO_SOCKET_IFNAME": loopback, "NCCL_SOCKET_IFNAME": loopback}
    # One file per start: the last one shows where a dead process was.
    os.environ[STORE] = f"file://{folder}/{os.environ['TORCHELASTIC_RESTART_COUNT']}"
    signals = _record_signals()
    code = run(arguments) if os.getppid() == launcher else 1
    # The launcher waits for the end of processes that it has sent a signal, as it does once one of them is killed: the
    # others may see that first, and end with another code.
    if code in (130, 143) or (code and signal.SIGTERM in (signals.read() or b"")):
        sys.exit(code)
    return code


def _record_signals() -> io.RawIOBase:
    """Return a stream of the numbers of the signals for which this process has handlers."""
    read, written = os.pipe()
    for end in (read, written):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(written)
    os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))
    return open(read, "rb", buffering=0)


def goes_on(state: Path) -> bool:
    """Return whether the processes were restarted after this launch wrote the state."""
    is_first = os.environ.get("TORCHELASTIC_RESTART_COUNT") == "0"
    launched = os.environ.get(LAUNCHED)
    return not is_first and launched is not None and state.exists() and state.stat().st_mtime > float(launched)


def check_launch(count: int) -> None:
    """Check the number of `--workers`.

    Raises:
        UserError: less than one; or another launcher has started this process, which knows the number.
    """
    if count < 1:
        raise UserError(f"--workers {count} must be 1 or more")
    if "TORCHELASTIC_RUN_ID" in os.environ:
        raise UserError(f"--workers {count} cannot be combined with torchrun; set its --nproc-per-node")


def is_launched() -> bool:
    """Return whether `launch` or `launch_on_ray` has started this process."""
    return LAUNCHED in os.environ and "RANK" in os.environ


def is_leader() -> bool:
    """Return whether this process is the first of several processes, or works alone."""
    return os.environ.get("RANK", "0") == "0"
