"""A Ray cluster for the tests of a session, as `ray start` starts one."""

import os
import shutil
import signal
import socket
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

# Set before a test starts Ray in this process: Ray would otherwise require tokens, which the cluster does not use.
os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
# Ray Train's process that watches for machines that are taken back is switched off.
os.environ["RAY_TRAIN_ENABLE_PREEMPTION_WATCHER"] = "0"
# Seconds that Ray Train waits for a process group to end, also where one of its processes has died.
os.environ["TORCH_PROCESS_GROUP_SHUTDOWN_TIMEOUT_S"] = "1"

TIMEOUT = 600
LOOPBACK = ("0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F")
"""127.0.0.1, ::1 and the first one as IPv6, as /proc/net has them on a little-endian machine."""
_LISTENS = "0A"


@pytest.fixture(scope="session")
def cluster() -> Iterator[str]:
    """Its address; it has three CPUs."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")  # sockets in it have short names
    command = [Path(sysconfig.get_path("scripts"), "ray"), "start", "--head", "--block", f"--port={port}"]
    options = ["--num-cpus=3", "--include-dashboard=false", f"--temp-dir={folder}"]
    options.append(f"--object-store-memory={100 << 20}")
    process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    deadline = time.monotonic() + TIMEOUT
    while "Ray runtime started" not in (line := process.stdout.readline()):
        assert line and time.monotonic() < deadline
    yield f"127.0.0.1:{port}"
    for pid in reversed(family(process.pid)):  # when asked to end, it drains its only machine for half a minute
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.communicate(timeout=TIMEOUT)
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def ends_within(seconds: int) -> Iterator[None]:
    """Raise an error if the block does not end in time."""

    def end(*_: object) -> None:
        raise TimeoutError("it hangs")

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(seconds)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def family(pid: int) -> list[int]:
    """Return a process and all processes that it has started, in order."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    children = [int(child) for task in tasks for child in task.read_text().split()]
    return [pid, *(each for child in children for each in family(child))]


def listening(pids: list[int]) -> dict[str, str]:
    """Return the sockets on which the processes listen: inode -> hex address."""
    listen = {}
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            _, local, _, state, *_, inode = line.split()[:10]
            if state == _LISTENS:
                listen[f"socket:[{inode}]"] = local.partition(":")[0]
    held = set()
    for pid in pids:
        with suppress(FileNotFoundError):  # the process has ended meanwhile
            for handle in Path(f"/proc/{pid}/fd").iterdir():
                with suppress(FileNotFoundError):  # closed meanwhile
                    held.add(os.readlink(handle))
    return {inode: address for inode, address in listen.items() if inode in held}
