"""A server of two workers over HTTP: one port, one bundle, one count.

A worker may be killed.
"""

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from tempfile import gettempdir
from typing import Any, NamedTuple
from urllib.request import urlopen

import numpy as np
import pytest
from made_bundles import other_bundle
from made_server import PATIENCE, Server, begin, has_ended, ready, wait_until

from dien_fuxictr.serving.bundle import WEIGHTS, Bundle, open_bundle
from dien_fuxictr.serving.examples import made_request
from dien_fuxictr.serving.request import Limits, RequestReader, scorer_of

CLIENTS = 16
TOTAL = 'requests_total{path="/v1/score",status="200"}'


class Answer(NamedTuple):
    number: int
    status: int
    content: dict[str, Any]


class Caller(threading.Thread):
    """Client that sends request after request on one connection.

    If it breaks, the client waits until the killed process is gone, since the process still receives until the kernel
    has closed its sockets.
    """

    def __init__(self, server: Server, requests: list[Any], first: int) -> None:
        super().__init__()
        self._connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
        self._workers = server.workers()
        self._bodies = [json.dumps(request) for request in requests]
        self._number, self._go_on = first, True
        self.answers: list[Answer] = []
        self.broken = 0
        self.start()

    def run(self) -> None:
        while self._go_on:
            self._number = (self._number + 1) % len(self._bodies)
            try:
                self._connection.request("POST", "/v1/score", self._bodies[self._number])
                reply = self._connection.getresponse()
                self.answers.append(Answer(self._number, reply.status, json.loads(reply.read())))
            except (OSError, http.client.HTTPException):
                self.broken += 1
                self._connection.close()
                wait_until(lambda: not all(Path(f"/proc/{pid}").exists() for pid in self._workers))

    def end(self) -> None:
        self._go_on = False
        self.join()
        self._connection.close()


@pytest.fixture(scope="module")
def site(bundle_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a symlink to one of three bundles, or to a broken one."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(bundle_folder, folder / "a")
    for seed, name in enumerate(("b", "c", "broken"), 1):
        other_bundle(bundle_folder, folder / name, seed)
    (folder / "broken" / WEIGHTS).write_bytes(b"broken")
    switch(folder, "a")
    return folder


def switch(site: Path, name: str) -> None:
    (site / "new").symlink_to(name)
    os.replace(site / "new", site / "current")


@pytest.fixture(scope="module")
def server(site: Path) -> Iterator[Server]:
    with ready(site, "--bundle", "current", "--workers", "2", is_cold=True) as server:
        yield server


@pytest.fixture(scope="module")
def requests(opened: Bundle) -> list[dict[str, Any]]:
    return [made_request(opened.encoder, *sizes) for sizes in ((0, 5), (3, 7), (20, 50), (40, 9))]


@pytest.fixture
def before(server: Server, requests: list[Any]) -> float:
    server.ask("POST", "/v1/score", requests[0])
    return server.metric(TOTAL)


@pytest.fixture
def callers(server: Server, requests: list[Any]) -> Iterator[list[Caller]]:
    callers = [Caller(server, requests, number) for number in range(CLIENTS)]
    yield callers
    for caller in callers:
        caller.end()


def counted_in(server: Server) -> Path:
    """Return the folder in which its workers count."""
    pid = server.workers()[0]
    (folder,) = (each for each in Path(gettempdir()).glob("run_serve-*") if any(each.glob(f"*_{pid}.db")))
    return folder


def sockets(pid: int) -> int:
    """Open connections of a process, and those sockets that it always has."""
    count = 0
    for file in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed in between
            count += os.readlink(file).startswith("socket:")
    return count


def test_connections_are_spread_and_counted_together(server: Server, before: float, requests: list[Any]) -> None:
    candidates = server.metric("candidates_total")
    connections = [http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE) for _ in range(64)]
    for connection in connections:
        connection.connect()
    for connection in connections:
        connection.request("POST", "/v1/score", json.dumps(requests[0]))
        assert connection.getresponse().read()
    open_ = {pid: sockets(pid) for pid in server.workers()}
    counts = {server.metric(TOTAL) for _ in range(20)}
    assert counts == {before + 64}
    assert server.metric("candidates_total") == candidates + 64 * 5
    for connection in connections:
        connection.close()
    wait_until(lambda: sum(count - sockets(pid) for pid, count in open_.items()) == 64)
    assert min(count - sockets(pid) for pid, count in open_.items()) >= 0.8 * 32


def processes(server: Server) -> dict[str, set[int]]:
    """Metric of a process -> whose it tells."""
    with urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=PATIENCE) as reply:
        found = re.findall(r'^process_(\w+)\{pid="(\d+)"\} \S+$', reply.read().decode(), re.MULTILINE)
    return {name: {int(pid) for each, pid in found if each == name} for name, _ in found}


def test_each_worker_is_told_as_a_process(server: Server, site: Path) -> None:
    told = processes(server)
    assert {"cpu_seconds_total", "resident_memory_bytes", "open_fds", "start_time_seconds"} <= told.keys()
    assert all(pids == set(server.workers()) for pids in told.values())
    assert server.metric("bundle_written_timestamp_seconds") == open_bundle(site / "a").manifest.written


def test_requests_from_all_sides_during_reloads(
    server: Server, site: Path, requests: list[Any], callers: list[Caller]
) -> None:
    def all_are_answered() -> None:
        before = [len(caller.answers) for caller in callers]
        wait_until(lambda: all(len(each.answers) > count + 4 for each, count in zip(callers, before, strict=True)))

    for name, result in (("b", "loaded"), ("broken", "refused"), ("c", "loaded"), ("a", "loaded")):
        all_are_answered()
        counter = f'reloads_total{{result="{result}"}}'
        both = server.metric(counter) + 2
        switch(site, name)
        wait_until(lambda counter=counter, both=both: server.metric(counter) == both)
    all_are_answered()
    for caller in callers:
        caller.end()
    scores, digests = {}, {}
    for name in "abc":
        bundle = open_bundle(site / name)
        score, read = scorer_of(bundle.model), RequestReader(bundle, Limits()).read
        scores[bundle.digest], digests[name] = [score(read(request)) for request in requests], bundle.digest
    for a, b, c in zip(*scores.values(), strict=True):
        assert min(np.abs(a - b).max(), np.abs(b - c).max(), np.abs(a - c).max()) > 1e-3
    for caller in callers:
        assert caller.broken == 0 and {answer.status for answer in caller.answers} == {200}
        models = [answer.content["model"] for answer in caller.answers]
        changes = [models[0], *(after for before, after in pairwise(models) if before != after)]
        assert changes == [digests[name] for name in "abca"]
        for answer in caller.answers:
            expected = scores[answer.content["model"]][answer.number].tolist()
            assert answer.content["scores"] == pytest.approx(expected, abs=1e-6)
    serving = {
        name: server.metric(f'model{{digest="{digest}",expid="DIEN_amazon"}}') for name, digest in digests.items()
    }
    assert serving == {"a": 2.0, "b": 0.0, "c": 0.0}


def test_a_worker_that_was_killed_before_it_counted(server: Server, before: float) -> None:
    (counted_in(server) / "counter_1.db").touch()
    assert server.metric(TOTAL) == before


def test_a_worker_that_is_killed(server: Server, site: Path, before: float, callers: list[Caller]) -> None:
    digest = open_bundle(site / "a").digest
    wait_until(lambda: all(len(caller.answers) > 4 for caller in callers))
    killed, other = server.workers()
    spread = sockets(killed), sockets(other)
    os.kill(killed, signal.SIGKILL)
    totals = []

    def both_serve() -> bool:
        totals.append(server.metric(TOTAL))
        serving = server.metric(f'model{{digest="{digest}",expid="DIEN_amazon"}}')
        return serving == 2 and len(set(server.workers()) - {killed}) == 2

    wait_until(lambda: not Path(f"/proc/{killed}").exists())
    wait_until(both_serve)
    assert len(totals) > 2 and totals == sorted(totals)
    assert other in server.workers()
    for caller in callers:
        caller.end()
    assert {answer.status for caller in callers for answer in caller.answers} == {200}
    broken = [caller.broken for caller in callers]
    assert set(broken) <= {0, 1} and 0 < sum(broken) <= spread[0] and CLIENTS - sum(broken) <= spread[1]
    answered = sum(len(caller.answers) for caller in callers)
    assert 0 <= server.metric(TOTAL) - before - answered <= CLIENTS
    assert server.metric("in_flight") == 0
    assert processes(server)["open_fds"] == set(server.workers())


def replace_folder(folder: Path, new: Path) -> None:
    """Replace a folder like `--publish`."""
    folder.rename(folder.with_suffix(".old"))
    new.rename(folder)
    shutil.rmtree(folder.with_suffix(".old"))


def test_a_worker_starts_again_with_the_accepted_bundle(
    bundle_folder: Path, tmp_path: Path, requests: list[Any]
) -> None:
    folder = shutil.copytree(bundle_folder, tmp_path / "served")
    server = Server(tmp_path, "--bundle", "served", "--workers", "2", is_cold=True)

    def model(digest: str) -> float:
        return server.metric(f'model{{digest="{digest}",expid="DIEN_amazon"}}')

    try:
        server.wait()
        accepted = other_bundle(bundle_folder, tmp_path / "new", 1)
        replace_folder(folder, tmp_path / "new")
        wait_until(lambda: server.metric('reloads_total{result="loaded"}') == 2 and model(accepted) == 2)
        refused = other_bundle(bundle_folder, tmp_path / "new", 2, keeps_golden=True)
        replace_folder(folder, tmp_path / "new")
        wait_until(lambda: server.metric('reloads_total{result="refused"}') == 2)
        for killed in server.workers():
            os.kill(killed, signal.SIGKILL)
            wait_until(lambda killed=killed: not Path(f"/proc/{killed}").exists() and model(accepted) == 2)
        wait_until(lambda: server.metric('reloads_total{result="refused"}') == 4)
        replies = [server.ask("POST", "/v1/score", requests[1]) for _ in range(30)]
        assert {(status, reply["model"]) for status, reply in replies} == {(200, accepted)}
        server.process.terminate()
        code, errors = server.end()
    finally:
        server.process.kill()
    assert code == 0
    starts = [line for line in errors.splitlines() if "started with the accepted model" in line]
    assert len(starts) == 2 and all(f"started with the accepted model {accepted}: the" in line for line in starts)
    assert errors.count(f"model {accepted} stays, model {refused} is refused: ") == 4


@pytest.fixture
def switching() -> list[str]:
    """Return the page's commands that switch to another bundle, and back."""
    page = (Path(__file__).parents[2] / "docs" / "guides" / "serving.md").read_text()
    return re.findall(r"^    (.* mv -T current.tmp current)$", page, re.M)


def test_back_to_the_bundle_before_in_one_command(
    server: Server, site: Path, callers: list[Caller], switching: list[str]
) -> None:
    to_new, back = switching
    digests = {name: open_bundle(site / name).digest for name in "abc"}
    switch(site, "a")
    loaded = 'reloads_total{result="loaded"}'
    wait_until(lambda: server.metric(f'model{{digest="{digests["a"]}",expid="DIEN_amazon"}}') == 2)
    for command in (to_new.replace(" new ", " b "), back) * 2:
        both = server.metric(loaded) + 2
        subprocess.run(command, shell=True, cwd=site, check=True)
        wait_until(lambda both=both: server.metric(loaded) == both)
        before = [len(caller.answers) for caller in callers]
        wait_until(
            lambda before=before: all(len(each.answers) > n + 4 for each, n in zip(callers, before, strict=True))
        )
    for caller in callers:
        caller.end()
        models = [answer.content["model"] for answer in caller.answers]
        changes = [models[0], *(after for before, after in pairwise(models) if before != after)]
        assert changes == [digests[name] for name in "ababa"]
        assert caller.broken == 0 and {answer.status for answer in caller.answers} == {200}
    assert os.readlink(site / "current") == "a"


def test_it_answers_what_is_in_flight_and_leaves_nothing(server: Server, requests: list[Any]) -> None:
    server.wait()
    body = json.dumps(requests[2]).encode()
    slow = [socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) for _ in range(8)]
    for connection in slow:
        begin(connection, len(body))
    pids = server.workers()
    held = counted_in(server)
    server.process.send_signal(signal.SIGTERM)
    wait_until(server.lets_nobody_in)
    for connection in slow:
        connection.sendall(body)
        assert connection.makefile("rb").readline() == b"HTTP/1.1 200 OK\r\n"
        connection.close()
    code, errors = server.end()
    others = r" replaces model | is refused: | has ended with SIGKILL; another one starts in "  # of the tests before
    assert code == 0 and not [line for line in errors.splitlines() if not re.search(others, line)]
    assert not held.exists() and all(map(has_ended, pids))
