"""A server as a process, asked over HTTP."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.request import urlopen

from warm_start import COLD

ROOT = Path(__file__).parents[2]
PATIENCE = 180
"""Seconds; what takes longer hangs, also where others keep all cores busy."""


def wait_until(what: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not what():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.05)


class Server:
    """A server as a process, which has printed its address.

    Args:
        folder: in which it starts.
        arguments: of the command.
        is_cold: starts without the starter, for tests that look at its processes, stop or kill them.
    """

    def __init__(self, folder: Path, *arguments: str, is_cold: bool = False) -> None:
        command = [sys.executable, str(ROOT / "run_serve.py"), "--port", "0", *arguments]
        self._mark = f"DIEN_TESTS_SERVER={uuid.uuid4()}"
        environment = os.environ | dict([self._mark.split("=")]) | ({COLD: "1"} if is_cold else {})
        self.process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stdout
        limit = threading.Timer(PATIENCE, self.process.kill)
        limit.start()
        said, match = "", None
        while not match and (line := self.process.stdout.readline()):
            self.line, said = line, said + line
            match = re.search(r"http://127\.0\.0\.1:(\d+) ", line)
        limit.cancel()
        assert match, said + self.process.communicate()[1]
        self.port = int(match[1])

    def ask(self, method: str, path: str, content: object = None) -> tuple[int, dict]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request(method, path, json.dumps(content) if content is not None else None)
            reply = connection.getresponse()
            return reply.status, json.loads(reply.read())
        finally:
            connection.close()

    def metric(self, name: str) -> float:
        with urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=PATIENCE) as reply:
            return float(re.findall(rf"^serve_{re.escape(name)} (\S+)$", reply.read().decode(), re.MULTILINE)[0])

    def wait_for_reload(self, result: str) -> None:
        wait_until(lambda: self.metric(f'reloads_total{{result="{result}"}}'))

    def wait(self) -> None:
        """Until all workers are ready: each connection comes to any of them."""
        wait_until(lambda: all(self.ask("GET", "/v2/health/ready")[0] == 200 for _ in range(30)))

    def workers(self) -> list[int]:
        """Return the process ids of its workers, or of their starters, the oldest first."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it has ended, or is another user's
                is_worker = b"dien_fuxictr.serving.worker" in (folder / "cmdline").read_bytes().split(b"\0")
                if is_worker and self._mark.encode() in (folder / "environ").read_bytes().split(b"\0"):
                    found.append((int((folder / "stat").read_text().rpartition(")")[2].split()[19]), int(folder.name)))
        return [pid for _, pid in sorted(found)]

    def lets_nobody_in(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE).close()
        except OSError:
            return True
        return False

    def end_amid(self, request: object, meanwhile: Callable[[], object]) -> tuple[int, str]:
        """End the server by SIGTERM while it receives a request, which is answered.

        `meanwhile` runs before the body is complete.
        """
        body = json.dumps(request).encode()
        with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE) as slow:
            begin(slow, len(body))
            self.process.send_signal(signal.SIGTERM)
            meanwhile()
            slow.sendall(body)
            assert slow.makefile("rb").readline() == b"HTTP/1.1 200 OK\r\n"
        return self.end()

    def end(self) -> tuple[int, str]:
        _, errors = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, errors


@contextmanager
def ready(folder: Path, *arguments: str, is_cold: bool = False) -> Iterator[Server]:
    """Run a server, whose workers are ready, until the block ends."""
    server = Server(folder, *arguments, is_cold=is_cold)
    try:
        server.wait()
        yield server
    finally:
        server.process.kill()
        server.process.communicate()


def begin(client: socket.socket, length: int) -> None:
    """Ask for scores, up to the body, which the server has begun to wait for."""
    head = f"POST /v1/score HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\nExpect: 100-continue\r\n\r\n"
    client.sendall(head.encode())
    go_on = b"HTTP/1.1 100 Continue\r\n\r\n"
    assert client.recv(len(go_on), socket.MSG_WAITALL) == go_on


def has_ended(pid: int) -> bool:
    """Return whether the process has ended, or waits for its parent to notice."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
    return state == "Z"
