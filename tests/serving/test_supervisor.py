"""The supervisor, with workers that load nothing: what it starts, starts again and ends."""

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
from pathlib import Path

import pytest
from made_server import PATIENCE, has_ended

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.serving import supervisor
from dien_fuxictr.serving.settings import Settings
from dien_fuxictr.serving.supervisor import Supervisor, WorkerDied

TESTS = Path(__file__).parents[1]
FAKE = "made_worker_of_server"


class Site:
    """Where workers find their plan and leave their log."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings = Settings(str(folder), -1, "127.0.0.1", 0, 2, 1, 1, 1, 1)
        self.plan("serve")

    def plan(self, what: str) -> None:
        (self.folder / "plan").write_text(what)

    def pids(self, what: str) -> list[int]:
        """Of the workers that have done this, in the order in which they have."""
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
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(TESTS), str(TESTS.parent)]))
    return Site(tmp_path)


def supervised(site: Site, scenario: Callable[[], Awaitable[object]]) -> float:
    """Run the scenario beside the supervisor, which ends; returns how long the end took."""

    async def run() -> float:
        supervisor = Supervisor(site.settings, str(site.folder), [socket.socket() for _ in range(2)])
        running = asyncio.create_task(supervisor.run())
        await scenario()
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
    assert sorted(site.pids("ends")) == sorted(site.pids("at-once")) and len(site.pids("ends")) == 2
    assert warnings(caplog) == []


def test_what_has_not_loaded_is_ended_at_once(site: Site) -> None:
    async def scenario() -> None:
        while not site.pids("at-once"):
            await asyncio.sleep(0.001)
        os.kill(os.getpid(), signal.SIGTERM)

    supervised(site, scenario)
    assert all(has_ended(pid) for pid in site.pids("at-once")) and not site.pids("serves")


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
        await site.wait("at-once", 2)
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
        assert site.pids("when-loaded") == [new] and new not in (killed, other)
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
        await site.wait("when-loaded", 3)
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


def test_the_wait_begins_anew_after_a_worker_that_lasted(
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
    assert not site.pids("when-loaded") and all(has_ended(pid) for pid in site.pids("at-once"))


def test_a_worker_that_dies_before_it_has_loaded(site: Site) -> None:
    site.plan("die")
    message = r"^worker process \d+ has ended with exit code 3 before all workers had loaded$"
    with pytest.raises(WorkerDied, match=message):
        supervised(site, lambda: asyncio.sleep(0))
    assert not site.pids("when-loaded")


def test_no_worker_is_left_of_a_supervisor_that_is_killed(site: Site) -> None:
    code = f"from dien_fuxictr.serving import supervisor as s; s.WORKER = {FAKE!r}; s.main({[site.settings.to_json()]})"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL) as process:
        pids = asyncio.run(site.wait("serves", 2))
        process.kill()
    assert sorted(asyncio.run(site.wait("ends", 2))) == sorted(pids)
