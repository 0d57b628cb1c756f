"""A worker, run in this process: what it says to its supervisor, and that it does not outlive it."""

import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from urllib.request import urlopen

import pytest
import torch
from made_server import PATIENCE

from dien_fuxictr.serving.bundle import WEIGHTS
from dien_fuxictr.serving.manifest import MANIFEST, write_manifest
from dien_fuxictr.serving.port import reserve
from dien_fuxictr.serving.settings import Settings
from dien_fuxictr.serving.worker import Tie, main


@pytest.fixture
def settings(bundle_folder: Path) -> Iterator[Settings]:
    threads, before = torch.get_num_threads(), signal.getsignal(signal.SIGHUP)
    with reserve("127.0.0.1", 0) as reserved:
        host, port = reserved.getsockname()
        yield Settings(str(bundle_folder), -1, host, port, 1, 1 << 20, 2, 60, 60)
    torch.set_num_threads(threads)
    signal.signal(signal.SIGHUP, before)


class Ends:
    """Both ends of the socket between supervisor and worker."""

    def __init__(self) -> None:
        self.supervisor, worker = socket.socketpair()
        self.tie = Tie(worker.detach())


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
    assert main([replace(settings, bundle=str(folder)).to_json()], ends.tie) == 2
    said = ends.supervisor.recv(1000).decode()
    assert said.startswith(f"bundle {folder}: {WEIGHTS} is not readable: ") and said.index("\n") == len(said) - 1


def test_it_ends_with_its_supervisor(
    settings: Settings, ends: Ends, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = tmp_path / "metrics"
    metrics.mkdir()

    def supervisor() -> None:
        assert ends.supervisor.recv(100) == b"loaded\n"
        with pytest.raises(OSError):
            socket.create_connection((settings.host, settings.port), timeout=5)
        ends.supervisor.send(b".")
        for _ in range(20 * PATIENCE):
            with suppress(OSError), urlopen(f"http://{settings.host}:{settings.port}/v2/health/ready") as reply:
                answers.append(reply.status)
                break
            time.sleep(0.05)
        ends.supervisor.close()

    answers: list[int] = []
    thread = threading.Thread(target=supervisor)
    thread.start()
    with monkeypatch.context() as patch:
        patch.setenv("PROMETHEUS_MULTIPROC_DIR", str(metrics))
        assert main([settings.to_json()], ends.tie) == 0
    thread.join()
    assert answers == [200] and not metrics.exists()
