"""A server in its own process, on one core."""

import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

ROOT = Path(__file__).parents[2]
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Server:
    """Running server, seen from outside.

    Attributes:
        port: port on 127.0.0.1.
    """

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self._process, self.port = process, port

    def cpu_seconds(self) -> float:
        """Return the CPU seconds of its process."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def resident_mib(self) -> float:
        """Return the resident memory of its process in MiB."""
        return int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1]) * _PAGE / 2**20

    def get(self, path: str) -> str:
        """Return the body of an answer; raise an error unless its status is 200."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=60) as answer:
            return answer.read().decode()

    def metric(self, name: str, default: float | None = None) -> float:
        """Return a value of /metrics, named with its labels.

        Without a value or a default it raises an error.
        """
        found = re.findall(rf"^{re.escape(name)} (\S+)$", self.get("/metrics"), re.MULTILINE)
        if not found and default is not None:
            return default
        (value,) = found
        return float(value)


@contextmanager
def serving(command: Sequence[str], core: int) -> Iterator[Server]:
    """Run a server within the context, which starts when it is ready.

    Args:
        command: arguments of the interpreter; the command prints its address first.
        core: core of the CPU for all of it.

    Raises:
        RuntimeError: the command ends instead.
    """
    process = subprocess.Popen([sys.executable, *command], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    os.sched_setaffinity(process.pid, {core})
    try:
        assert process.stdout
        server = Server(process, _port(process.stdout))
        while process.poll() is None:
            try:
                server.get("/v2/health/ready")
                break
            except OSError:
                time.sleep(0.1)
        else:
            raise RuntimeError(f"the server ended with exit code {process.returncode}")
        yield server
    finally:
        process.terminate()
        process.wait()


def server_and_client_cores() -> tuple[int, int]:
    """Return the first two cores of this process, or its only one twice.

    The process keeps the second to itself.
    """
    first, second = (sorted(os.sched_getaffinity(0)) * 2)[:2]
    os.sched_setaffinity(0, {second})
    return first, second


def _port(output: IO[str]) -> int:
    for line in output:
        if found := re.search(r"http://127\.0\.0\.1:(\d+)", line):
            return int(found[1])
    raise RuntimeError("the server ended before it accepted connections")
