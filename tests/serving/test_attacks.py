"""Slow, silent and greedy clients, and hanging workers: effects on others."""

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from made_server import PATIENCE, ROOT, Server, ready, wait_until

from benchmarks.serving.attackers import KINDS
from dien_fuxictr.serving import connection
from dien_fuxictr.serving.bundle import Bundle
from dien_fuxictr.serving.examples import made_request

USERS = 200
GOOD = 'requests_total{path="/v1/score",status="200"}'
REFUSED = 'requests_total{path="/v1/score",status="503"}'


@pytest.fixture(scope="module")
def server(bundle_folder: Path) -> Iterator[Server]:
    limits = ("--header-timeout", "1", "--body-timeout", "1", "--worker-timeout", "6", "--max-in-flight", "8")
    with ready(bundle_folder.parent, "--bundle", str(bundle_folder), "--workers", "2", *limits, is_cold=True) as server:
        yield server


@pytest.fixture(scope="module")
def request_(opened: Bundle) -> dict[str, Any]:
    return made_request(opened.encoder, 20, 50)


@pytest.fixture
def attack(server: Server, request_: dict[str, Any], tmp_path: Path) -> Any:
    (tmp_path / "body").write_text(json.dumps(request_))
    one = {**request_, "candidates": {name: values[:1] for name, values in request_["candidates"].items()}}
    (tmp_path / "batch").write_text(json.dumps({"requests": [one] * USERS}))

    @contextmanager
    def attacking(kind: str) -> Iterator[None]:
        command = [sys.executable, "-m", "benchmarks.serving.attackers", kind, str(server.port), str(tmp_path)]
        process = subprocess.Popen(command, cwd=ROOT)
        try:
            yield
        finally:
            process.kill()
            process.wait()

    return attacking


def ask_often(server: Server, request: dict[str, Any]) -> None:
    """Over a connection to each worker, all of whose requests are answered."""
    clients = [http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE) for _ in range(2)]
    for client in clients * 20:
        client.request("POST", "/v1/score", json.dumps(request))
        with client.getresponse() as reply:
            assert reply.status == 200 and len(json.loads(reply.read())["scores"]) == 50
    for client in clients:
        client.close()


def no_request(status: int) -> str:
    return f'requests_total{{path="(no HTTP request)",status="{status}"}}'


def counted(server: Server, name: str) -> float:
    try:
        return server.metric(name)
    except IndexError:  # none yet
        return 0.0


@pytest.mark.parametrize(
    ("kind", "counter"),
    [
        ("slow", no_request(408)),
        ("endless", no_request(431)),
        ("batches", 'requests_total{path="/v1/score:batch",status="200"}'),
    ],
)
def test_others_are_answered(server: Server, attack: Any, request_: dict[str, Any], kind: str, counter: str) -> None:
    before = counted(server, counter)
    with attack(kind):
        wait_until(lambda: counted(server, counter) > before)
        ask_often(server, request_)
        server.wait()


def test_silent_clients_are_let_go(server: Server, attack: Any, request_: dict[str, Any]) -> None:
    with attack("silent"):
        wait_until(lambda: server_connections(server) >= KINDS["silent"][0] // 2)
        ask_often(server, request_)
        server.wait()
    wait_until(lambda: server_connections(server) <= 2)


def server_connections(server: Server) -> int:
    """How many are established at its port."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return sum(line.split()[1].endswith(f":{server.port:04X}") and line.split()[3] == "01" for line in lines)


@pytest.mark.parametrize("kind", ["storm", "connections"])
def test_refusals_are_few_and_requests_are_answered(server: Server, attack: Any, kind: str) -> None:
    refused = counted(server, REFUSED)
    with attack(kind):
        wait_until(lambda: counted(server, REFUSED) > refused)
        start = time.monotonic()
        good, refused = server.metric(GOOD), server.metric(REFUSED)
        wait_until(lambda: server.metric(GOOD) > good + 100)
        time.sleep(2)
        refused = server.metric(REFUSED) - refused
        seconds = time.monotonic() - start
    if kind == "storm":  # a connection is not read for a while once its request is refused
        assert refused <= KINDS[kind][0] * (1 + seconds / connection._REST)


def test_a_worker_that_hangs(server: Server, request_: dict[str, Any]) -> None:
    """Answer probes and new connections by the other worker; replace the hanging one."""
    stopped, other = server.workers()
    os.kill(stopped, signal.SIGSTOP)

    def is_answered() -> bool:
        client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=2)
        try:
            client.request("GET", "/v2/health/ready")
            return client.getresponse().status == 200
        except OSError:  # before the server notices it
            return False
        finally:
            client.close()

    wait_until(lambda: all(is_answered() for _ in range(20)))
    ask_often(server, request_)
    wait_until(lambda: not Path(f"/proc/{stopped}").exists() and len(server.workers()) == 2)
    assert other in server.workers()
    server.wait()
