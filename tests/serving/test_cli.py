"""`run_serve.py`: bad input, scores equal to `--predict`, and its end."""

import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from made_bundles import other_bundle
from made_rows import requests_of
from made_server import Server, wait_until

from dien_fuxictr import open_experiment
from dien_fuxictr.serving.cli import main
from dien_fuxictr.serving.manifest import MANIFEST, write_manifest


@pytest.fixture
def server(project: Path) -> Iterator[Server]:
    server = Server(project)
    yield server
    server.process.kill()
    server.process.communicate()


def test_it_scores_the_test_rows_as_predict_and_ends_when_told(server: Server, project: Path) -> None:
    samples = project / "data" / "amazon" / "samples"
    expected = open_experiment("DIEN_amazon").predict(samples / "test.parquet").tolist()
    assert "(only this machine reaches it)" in server.line
    server.wait()
    status, model = server.ask("GET", "/v1/model")
    assert (status, model["expid"]) == (200, "DIEN_amazon")
    assert server.ask("POST", "/v1/score", model["example"])[0] == 200
    requests = list(requests_of(samples))
    scores = []
    for first in range(0, len(requests), 50):
        status, reply = server.ask("POST", "/v1/score:batch", {"requests": requests[first : first + 50]})
        assert (status, reply["model"]) == (200, model["model"])
        scores += [score for of_user in reply["scores"] for score in of_user]
    assert len(scores) > 100 and scores == pytest.approx(expected, abs=1e-5)
    one = server.ask("POST", "/v1/score", requests[0])[1]["scores"]
    assert one == pytest.approx(expected[: len(one)], abs=1e-5)

    assert server.end_amid(requests[0], lambda: wait_until(server.lets_nobody_in)) == (0, "")


def test_bundle_is_served_without_any_other_file(bundle_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(bundle_folder, tmp_path / "b")
    server = Server(tmp_path, "--bundle", "b")
    try:
        server.wait()
        _, model = server.ask("GET", "/v1/model")
        status, reply = server.ask("POST", "/v1/score", model["example"])
        assert (status, len(reply["scores"])) == (200, 2)
        server.process.send_signal(signal.SIGINT)
        assert server.end() == (0, "")
    finally:
        server.process.kill()
    assert [file.name for file in tmp_path.iterdir()] == ["b"]


def test_a_bundle_that_does_not_fit_itself_ends_the_server(bundle_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(bundle_folder, tmp_path / "b")
    (folder / "weights.safetensors").write_bytes(b"broken")
    (folder / MANIFEST).unlink()
    write_manifest(folder)
    code, errors = Server(tmp_path, "--bundle", "b").end()
    assert code == 2
    assert re.fullmatch(rf"error: bundle {re.escape(str(folder))}: weights.safetensors is not readable: .*\n", errors)


def test_another_bundle_is_served_when_the_symlink_leads_to_it(bundle_folder: Path, tmp_path: Path) -> None:
    first, second = (shutil.copytree(bundle_folder, tmp_path / "first"), tmp_path / "second")
    digest = other_bundle(bundle_folder, second, 1)
    switch = "ln -sfn {} current.tmp && mv -T current.tmp current"
    subprocess.run(switch.format(first.name), shell=True, cwd=tmp_path, check=True)
    server = Server(tmp_path, "--bundle", "current")
    try:
        server.wait()
        _, model = server.ask("GET", "/v1/model")
        subprocess.run(switch.format(second.name), shell=True, cwd=tmp_path, check=True)
        server.process.send_signal(signal.SIGHUP)
        server.wait_for_reload("loaded")
        _, reply = server.ask("POST", "/v1/score", model["example"])
        assert reply["model"] == digest != model["model"]
        (second / "encoder.json").write_bytes(b"broken")
        server.process.send_signal(signal.SIGHUP)
        server.wait_for_reload("refused")
        assert server.ask("POST", "/v1/score", model["example"]) == (200, reply)
        server.process.send_signal(signal.SIGTERM)
        code, errors = server.end()
    finally:
        server.process.kill()
    assert code == 0
    loaded, not_loaded = errors.splitlines()
    assert loaded.startswith(f"WARNING:root:reloaded, model {digest} replaces model {model['model']} (validation/AUC ")
    assert not_loaded.startswith(
        f"WARNING:root:not reloaded, model {digest} stays, model {digest} is refused: bundle {second}: encoder.json "
        "does not match its digest in manifest.json ("
    )


def test_the_bundle_of_an_experiment_is_looked_at_too(server: Server, bundle_folder: Path, project: Path) -> None:
    server.wait()
    (served,) = project.rglob("DIEN_amazon.bundle")
    digest = other_bundle(bundle_folder, served.with_suffix(".new"), 1)
    served.rename(served.with_suffix(".old"))
    served.with_suffix(".new").rename(served)
    server.wait_for_reload("loaded")
    assert server.ask("GET", "/v1/model")[1]["model"] == digest
    shutil.rmtree(served.with_suffix(".old"))


@pytest.fixture
def refused(project: Path, capsys: pytest.CaptureFixture[str]):
    def run(*arguments: str) -> str:
        assert main(arguments) == 2
        (line,) = capsys.readouterr().err.splitlines()
        return line

    return run


def test_bad_input_is_one_line(refused, bundle_folder: Path, tmp_path: Path) -> None:
    assert "error: checkpoint " in (line := refused("--expid", "DIN_amazon")) and "does not exist; run_expid.py" in line
    assert (
        refused("--bundle", "nowhere")
        == "error: nowhere is not a bundle: manifest.json is missing; run_serve.py --expid ID --publish writes a bundle"
    )
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        line = refused("--bundle", str(bundle_folder), "--port", port)
        assert line == f"error: cannot listen on --host 127.0.0.1 --port {port}: Address already in use"


@pytest.mark.parametrize(
    ("host", "message"),
    [
        ("", "--host must not be empty: name an address, 127.0.0.1 or, for all interfaces, 0.0.0.0"),
        ("no-such-host.invalid", "cannot listen on --host no-such-host.invalid --port 0: no such address"),
        ("a..b", "cannot listen on --host a..b --port 0: no such address"),
        ("::x", "cannot listen on --host ::x --port 0: no such address"),
    ],
)
def test_a_host_that_is_no_address(host: str, message: str, refused, bundle_folder: Path) -> None:
    assert refused("--bundle", str(bundle_folder), "--host", host, "--port", "0") == f"error: {message}"


def test_packages_that_are_missing(refused, bundle_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("uvicorn", "orjson", "prometheus_client"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, name, None)
            line = refused("--bundle", str(bundle_folder))
            assert re.match(rf"error: serving needs the package {name}, which is not installed: pip install ", line)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--examples", "101"], "101 must be a whole number from 0 to 100"),
        (["--port", "65536"], "65536 must be a whole number from 0 to 65535"),
        (["--port", "http"], "http must be a whole number from 0 to 65535"),
        (["--max-in-flight", "0"], "0 must be a whole number, 1 or more"),
        (["--max-users", "1.5"], "1.5 must be a whole number, 1 or more"),
        (["--max-connections", "-1"], "-1 must be a whole number, 1 or more"),
        *(
            ([f"--{name}-timeout", value], f"{value} must be a number of seconds, more than 0")
            for name in ("header", "body", "idle", "worker")
            for value in ("0", "-1", "soon", "nan", "inf")
        ),
        (["--worker-timeout", "0.5"], "--worker-timeout 0.5 must be 1 or more"),
        (["--log-format", "xml"], "invalid choice: 'xml'"),
        *(
            (["--engine", "ray", f"--{name}", "9"], f"--{name} cannot be combined with --engine ray")
            for name in ("header-timeout", "body-timeout", "idle-timeout", "worker-timeout", "max-connections")
        ),
        (["--engine", "ray", "--log-format", "json"], "--log-format json cannot be combined with --engine ray"),
        (["--publish", "--allow-new-fields"], "--allow-new-fields cannot be combined with --publish"),
        (["--bundle", "b", "--set", "epochs=1"], "cannot be combined with --bundle"),
    ],
)
def test_a_wrong_command_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2 and message in capsys.readouterr().err
