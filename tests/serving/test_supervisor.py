"""Supervisor, with workers that load nothing: starts, restarts, ends."""

import asyncio
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from made_server import PATIENCE, has_ended

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.serving import supervisor
from dien_fuxictr.serving.settings import Settings
from dien_fuxictr.serving.supervisor import GRACE, Supervisor, WorkerDied

ROOT = Path(__file__).parents[2]
FAKE = "made_worker_of_server"


class Site:
    """Folder with the plan and the log of workers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings = Settings(str(folder), -1, "127.0.0.1", 0, 2)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.plan("serve")

    def plan(self, what: str) -> None:
        (self.folder / "plan").write_text(what)

    def pids(self, what: str) -> list[int]:
        """Return the ids of the workers that have done this, in order."""
        log = self.folder / "log"
        lines = log.read_text().splitlines() if log.exists() else []
        return [int(pid) for pid, done in map(str.split, lines) if done == what]

    async def wait(self, what: str, times: int) -> list[int]:
        for _ in range(100 * PATIENCE):
            if len(pids := self.pids(what)) >= times:
                assert len(pids) == times
                return pids
            await asyncio.sleep(0.01)
        raise TimeoutError(f"{what} {times} times")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setattr(supervisor, "WORKER", FAKE)
    monkeypatch.setattr(supervisor, "_FIRST_PAUSE", 0.1)
    monkeypatch.setattr(supervisor, "_LONGEST_PAUSE", 0.2)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT / "tests" / "support"), str(ROOT)]))
    return Site(tmp_path)


def supervised(site: Site, scenario: Callable[[], Awaitable[object]]) -> float:
    """Run the scenario next to the supervisor; return the duration of its end."""

    async def run() -> float:
        supervisor = Supervisor(site.settings, str(site.folder), site.listener)
        running = asyncio.create_task(supervisor.run())
        acting = asyncio.create_task(scenario())
        await asyncio.wait([running, acting], return_when=asyncio.FIRST_COMPLETED)
        if not acting.done():  # the supervisor has ended by itself
            acting.cancel()
            await running
        await acting
        start = time.monotonic()
        await running
        return time.monotonic() - start

    return asyncio.run(run())


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_its_workers_when_told(site: Site, number: int, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        await site.wait("serves", 2)
        os.kill(os.getpid(), number)

    supervised(site, scenario)
    assert sorted(site.pids("ends")) == sorted(site.pids("starts")) and len(site.pids("ends")) == 2
    assert warnings(caplog) == []


def test_what_has_not_loaded_is_ended_at_once(site: Site) -> None:
    async def scenario() -> None:
        while not site.pids("starts"):
            await asyncio.sleep(0.001)
        os.kill(os.getpid(), signal.SIGTERM)

    assert supervised(site, scenario) < GRACE
    assert all(has_ended(pid) for pid in site.pids("starts")) and not site.pids("serves")


def test_a_worker_that_does_not_end_is_killed(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "GRACE", -4.5)
    site.plan("hang")

    async def scenario() -> None:
        for pid in await site.wait("serves", 2):
            os.kill(pid, signal.SIGTERM)
        await site.wait("hangs", 2)
        os.kill(os.getpid(), signal.SIGTERM)

    assert supervised(site, scenario) > 0.4
    assert not site.pids("ends")
    assert all(has_ended(pid) for pid in site.pids("serves"))


def test_none_serves_before_all_have_loaded(site: Site) -> None:
    site.plan("one waits")

    async def scenario() -> None:
        await site.wait("starts", 2)
        for _ in range(2):
            await asyncio.sleep(0.3)
            assert not site.pids("serves")
            os.kill(os.getpid(), signal.SIGHUP)
        (site.folder / "go").touch()
        await site.wait("serves", 2)
        os.kill(os.getpid(), signal.SIGTERM)

    supervised(site, scenario)
    assert not site.pids("looks")


def test_a_look_reaches_all(site: Site) -> None:
    async def scenario() -> None:
        pids = await site.wait("serves", 2)
        os.kill(os.getpid(), signal.SIGHUP)
        assert sorted(await site.wait("looks", 2)) == sorted(pids)
        os.kill(os.getpid(), signal.SIGTERM)

    supervised(site, scenario)


def test_a_worker_that_dies_is_replaced(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        killed, other = await site.wait("serves", 2)
        (site.folder / f"gauge_livesum_{killed}.db").touch()
        (site.folder / f"counter_{killed}.db").touch()
        os.kill(killed, signal.SIGKILL)
        *_, new = await site.wait("serves", 3)
        assert site.pids("starts")[2:] == [new] and new not in (killed, other)
        assert not has_ended(other) and not site.pids("looks")
        assert not (site.folder / f"gauge_livesum_{killed}.db").exists()
        assert (site.folder / f"counter_{killed}.db").exists()
        assert warnings(caplog) == [f"worker process {killed} has ended with SIGKILL; another one starts in 0.1 s"]
        os.kill(os.getpid(), signal.SIGTERM)

    supervised(site, scenario)
    assert len(site.pids("ends")) == 2


def test_what_dies_again_and_again_waits_longer_each_time(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        (killed, _) = await site.wait("serves", 2)
        site.plan("refuse")
        os.kill(killed, signal.SIGKILL)
        await site.wait("starts", 5)
        site.plan("serve")
        await site.wait("serves", 3)
        os.kill(os.getpid(), signal.SIGTERM)

    supervised(site, scenario)
    ends = [
        re.fullmatch(r"worker process \d+ has ended with (.*); another one starts in (.*) s", line)
        for line in warnings(caplog)
    ]
    refused = "exit code 2: the bundle is broken"
    assert [end and end.groups() for end in ends] == [("SIGKILL", "0.1"), *[(refused, "0.2")] * 3]


def test_restart_delay_is_reset_by_a_lasting_worker(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(supervisor, "_LASTING", 0)

    async def scenario() -> None:
        last = (await site.wait("serves", 2))[-1]
        for served in (3, 4):
            os.kill(last, signal.SIGKILL)
            last = (await site.wait("serves", served))[-1]
        os.kill(os.getpid(), signal.SIGTERM)

    supervised(site, scenario)
    assert [line.rpartition("starts in ")[2] for line in warnings(caplog)] == ["0.1 s", "0.1 s"]


def test_a_bundle_that_no_worker_can_load(site: Site) -> None:
    site.plan("refuse")
    with pytest.raises(UserError, match=r"^the bundle is broken$"):
        supervised(site, lambda: asyncio.sleep(0))
    assert site.pids("starts") and all(has_ended(pid) for pid in site.pids("starts"))


def test_a_worker_that_dies_before_it_has_loaded(site: Site) -> None:
    site.plan("die")
    message = r"^worker process \d+ has ended with exit code 3 before all workers had loaded$"
    with pytest.raises(WorkerDied, match=message):
        supervised(site, lambda: asyncio.sleep(0))
    assert len(site.pids("starts")) <= 2


def test_no_worker_is_left_of_a_supervisor_that_is_killed(site: Site) -> None:
    code = f"from dien_fuxictr.serving import supervisor as s; s.WORKER = {FAKE!r}; s.main({[site.settings.to_json()]})"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL) as process:
        pids = asyncio.run(site.wait("serves", 2))
        process.kill()
    assert sorted(asyncio.run(site.wait("ends", 2))) == sorted(pids)


def test_a_worker_that_hangs_is_replaced(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(supervisor, "_BEAT", 0.02)
    site.settings = replace(site.settings, worker_timeout=0.5)

    async def scenario() -> None:
        stopped, _ = await site.wait("serves", 2)
        os.kill(stopped, signal.SIGSTOP)
        await site.wait("serves", 3)
        assert has_ended(stopped)
        os.kill(os.getpid(), signal.SIGTERM)

    supervised(site, scenario)
    line = f"worker process {site.pids('serves')[0]} has not answered for 1 s: killed"
    assert warnings(caplog)[0] == line


def test_a_worker_whose_model_does_not_end_is_replaced(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(supervisor, "_BEAT", 0.02)

    async def scenario() -> None:
        pids = await site.wait("serves", 2)
        (site.folder / "turn").write_text("31")
        while not all(map(has_ended, pids)):
            await asyncio.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    supervised(site, scenario)
    lines = [f"worker process {pid} has not answered for 31 s: killed" for pid in site.pids("serves")[:2]]
    assert set(lines) <= set(warnings(caplog))


def connect(site: Site, count: int) -> list[socket.socket]:
    return [socket.create_connection(site.listener.getsockname(), timeout=PATIENCE) for _ in range(count)]


def test_each_connection_goes_to_the_least_loaded(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """And none to a worker that does not answer."""
    monkeypatch.setattr(supervisor, "_BEAT", 0.02)
    monkeypatch.setattr(supervisor, "_EVEN_EVERY", 10**6)
    monkeypatch.setattr(supervisor, "SILENT", 0.2)
    site.settings = replace(site.settings, worker_timeout=PATIENCE)

    async def scenario() -> None:
        first, other = await site.wait("serves", 2)
        clients = connect(site, 6)
        assert sorted(await site.wait("connection", 6)) == sorted([first, other] * 3)
        os.kill(first, signal.SIGSTOP)
        await asyncio.sleep(1)
        clients += connect(site, 4)
        assert (await site.wait("connection", 10))[6:] == [other] * 4
        os.kill(first, signal.SIGCONT)
        await asyncio.sleep(0.5)
        clients += connect(site, 4)
        assert (await site.wait("connection", 14))[10:] == [first] * 4
        os.kill(os.getpid(), signal.SIGTERM)
        for client in clients:
            client.close()

    supervised(site, scenario)


def test_connections_wait_where_no_worker_answers(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "_BEAT", 0.02)
    monkeypatch.setattr(supervisor, "SILENT", 0.2)

    async def scenario() -> None:
        pids = await site.wait("serves", 2)
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        await asyncio.sleep(1)
        clients = connect(site, 2)
        await asyncio.sleep(0.2)
        assert not site.pids("connection")
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        assert set(await site.wait("connection", 2)) <= set(pids), "the first that wakes may take both"
        os.kill(os.getpid(), signal.SIGTERM)
        for client in clients:
            client.close()

    supervised(site, scenario)


def test_a_worker_that_has_more_than_its_share_closes_some(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "_BEAT", 0.02)

    async def scenario() -> None:
        killed, other = await site.wait("serves", 2)
        clients = connect(site, 20)
        await site.wait("connection", 20)
        os.kill(killed, signal.SIGKILL)
        await site.wait("serves", 3)
        while len(closes := site.pids("closes")) < 2:
            await asyncio.sleep(0.01)
        assert set(closes) == {other}
        os.kill(os.getpid(), signal.SIGTERM)
        for client in clients:
            client.close()

    supervised(site, scenario)


def test_a_worker_that_works_more_than_its_share_closes_some(site: Site) -> None:
    """And the next connections are the other's."""

    async def scenario() -> None:
        busy, other = await site.wait("serves", 2)
        clients = connect(site, 6)
        assert sorted(await site.wait("connection", 6)) == sorted([busy, other] * 3)
        (site.folder / f"{busy} works").touch()
        while len(closes := site.pids("closes")) < 2:
            await asyncio.sleep(0.01)
        assert closes == [busy] * 2
        clients += connect(site, 3)
        assert (await site.wait("connection", 9))[6:] == [other] * 3
        os.kill(os.getpid(), signal.SIGTERM)
        for client in clients:
            client.close()

    supervised(site, scenario)
