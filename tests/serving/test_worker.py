"""A worker in this process: its messages, and its end with the supervisor."""

import shutil
import signal
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from made_server import PATIENCE

from dien_fuxictr.serving.bundle import WEIGHTS
from dien_fuxictr.serving.manifest import MANIFEST, read_manifest, write_manifest
from dien_fuxictr.serving.settings import Settings
from dien_fuxictr.serving.worker import ALIVE, ASK, CONNECTION, GO_ON, LOADED, TOOK, UP, SupervisorLink, main


@pytest.fixture
def settings(bundle_folder: Path) -> Iterator[Settings]:
    threads, before = torch.get_num_threads(), signal.getsignal(signal.SIGHUP)
    yield Settings(str(bundle_folder), -1, "127.0.0.1", 0, 1)
    torch.set_num_threads(threads)
    signal.signal(signal.SIGHUP, before)


class Ends:
    """Both ends of the socket between supervisor and worker."""

    def __init__(self) -> None:
        self.supervisor, worker = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.supervisor.settimeout(PATIENCE)
        self.link = SupervisorLink(worker.detach())

    def hear(self) -> str:
        return self.supervisor.recv(1000).decode()


@pytest.fixture
def ends() -> Iterator[Ends]:
    ends = Ends()
    yield ends
    ends.supervisor.close()


def test_it_says_why_it_cannot_load(settings: Settings, ends: Ends, tmp_path: Path) -> None:
    folder = shutil.copytree(settings.bundle, tmp_path / "b")
    (folder / WEIGHTS).write_bytes(b"broken")
    (folder / MANIFEST).unlink()
    write_manifest(folder)
    assert main([replace(settings, bundle=str(folder)).to_json()], ends.link) == 2
    assert ends.hear() == UP
    said = ends.hear()
    assert said.startswith(f"bundle {folder}: {WEIGHTS} is not readable: ") and "\n" not in said


def test_it_serves_the_connections_that_it_is_given(
    settings: Settings, ends: Ends, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Accept no connections itself, and end with the supervisor."""
    metrics = tmp_path / "metrics"
    metrics.mkdir()

    def supervisor() -> None:
        said.append(ends.hear())
        ours, its = socket.socketpair()
        ours.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        with its:
            socket.send_fds(ends.supervisor, [CONNECTION], [its.fileno()])
        said.append(ends.hear())
        ends.supervisor.send(GO_ON)
        with ours:
            while b"ready" not in ours.recv(1000):
                ours.sendall(b"GET /v2/health/ready HTTP/1.1\r\nHost: x\r\n\r\n")
            said.append(ends.hear())
            ends.supervisor.send(ASK)
            said.append(ends.hear())
        ends.supervisor.close()

    said: list[str] = []
    thread = threading.Thread(target=supervisor)
    thread.start()
    with monkeypatch.context() as patch:
        patch.setenv("PROMETHEUS_MULTIPROC_DIR", str(metrics))
        assert main([settings.to_json()], ends.link) == 0
    thread.join()
    digest = read_manifest(Path(settings.bundle)).digest
    assert said == [UP, LOADED, f"{TOOK} {digest}", f"{ALIVE} 1 1 0.000 0.000"] and not metrics.exists()
