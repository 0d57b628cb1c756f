"""A Ray cluster for the tests of a session, as `ray start` starts one."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

TIMEOUT = 120


@pytest.fixture(scope="session")
def cluster() -> Iterator[str]:
    """Its address; it has three CPUs."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")  # sockets in it have short names
    command = [Path(sys.executable).with_name("ray"), "start", "--head", "--block", f"--port={port}", "--num-cpus=3"]
    options = ["--include-dashboard=false", f"--temp-dir={folder}", f"--object-store-memory={100 << 20}"]
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
    process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    deadline = time.monotonic() + TIMEOUT
    while "Ray runtime started" not in (line := process.stdout.readline()):
        assert line and time.monotonic() < deadline
    yield f"127.0.0.1:{port}"
    process.terminate()
    process.communicate(timeout=TIMEOUT)
    shutil.rmtree(folder, ignore_errors=True)
