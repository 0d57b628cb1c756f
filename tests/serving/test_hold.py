"""Only `--publish` replaces the bundle of a running server."""

import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from made_bundles import other_bundle
from made_server import Server

from dien_fuxictr import Experiment, open_experiment
from dien_fuxictr.common.files import digest
from dien_fuxictr.experiment.training import checkpoint
from dien_fuxictr.serving.cli import main
from dien_fuxictr.serving.hold import Hold, unless_held
from dien_fuxictr.serving.manifest import read_manifest
from dien_fuxictr.serving.write import write_bundle


@pytest.fixture
def models(project: Path, tmp_path: Path) -> Path:
    """Return a model_root for this test, with the trained DIEN."""
    shutil.copytree(project / "checkpoints", tmp_path / "models", ignore=shutil.ignore_patterns("*.bundle"))
    return tmp_path / "models"


@pytest.fixture
def start(project: Path) -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def of(*arguments: str) -> Server:
        servers.append(Server(project, *arguments))
        return servers[-1]

    yield of
    for server in servers:
        server.process.kill()
        server.process.communicate()


def train_again(models: Path) -> None:
    file = models / "amazon" / "DIEN_amazon.model"
    checkpoint.save({name: value + 0.01 for name, value in checkpoint.load(file).items()}, file)
    state = checkpoint.load(file.with_suffix(".resume"))
    checkpoint.save(state | {"progress": state["progress"] | {"weights": digest(file)}}, file.with_suffix(".resume"))


def content(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def bundle_of(models: Path) -> Path:
    return models / "amazon" / "DIEN_amazon.bundle"


def test_nothing_is_written_if_the_port_is_taken(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["--model-root", str(models), "--port", str(taken.getsockname()[1])]) == 2
    assert "Address already in use" in capsys.readouterr().err
    assert not bundle_of(models).exists()


@pytest.mark.parametrize("ways", [[], ["--workers", "2"], ["--bundle"]])
def test_a_start_leaves_the_model_of_a_running_server(
    ways: list[str], models: Path, start: Callable[..., Server], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder, of_models = bundle_of(models), ("--model-root", str(models))
    if ways == ["--bundle"]:
        write_bundle(open_experiment(overrides={"model_root": str(models)}), folder, [])
        (tmp_path / "link").symlink_to(folder)
        server = start("--bundle", str(tmp_path / "link"))
    else:
        server = start(*of_models, *ways)
    server.wait()
    before, digest = content(folder), read_manifest(folder).digest
    train_again(models)
    capsys.readouterr()
    assert main([*of_models, "--port", "0", "--examples", "0"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: bundle {folder} is in use: running servers answer with model {digest}, the ")
    assert line.endswith("--publish makes these servers take up the checkpoint")
    assert content(folder) == before and [file.name for file in folder.parent.glob("*.bundle*")] == [folder.name]
    assert server.ask("GET", "/v1/model")[1]["model"] == digest
    server.process.terminate()
    assert server.end() == (0, "")


def test_publish_gives_running_servers_the_new_model(
    models: Path, start: Callable[..., Server], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, of_models = bundle_of(models), ("--model-root", str(models))
    first = start(*of_models)
    first.wait()
    before = read_manifest(folder).digest
    train_again(models)
    assert main([*of_models, "--publish"]) == 0
    digest = read_manifest(folder).digest
    assert capsys.readouterr().out.splitlines()[-1] == f"DIEN_amazon, model {digest}: {folder}"
    first.wait_for_reload("loaded")
    assert first.ask("GET", "/v1/model")[1]["model"] == digest != before
    second = start(*of_models)  # of the same model: nothing is written
    second.wait()
    first.process.terminate()
    code, errors = first.end()
    (line,) = errors.splitlines()
    assert code == 0 and line.startswith(
        f"WARNING:root:reloaded, model {digest} replaces model {before} (validation/AUC"
    )
    with unless_held(folder) as is_free:
        assert not is_free, "the second one serves it"


def test_equal_model_is_not_written_again(experiment: Experiment, bundle: Path) -> None:
    hold = Hold(bundle)
    hold.renew()
    before = written(bundle)
    assert write_bundle(experiment, bundle, []) == read_manifest(bundle).digest
    assert written(bundle) == before


def written(bundle: Path) -> tuple[int, int]:
    state = (bundle / "manifest.json").stat()
    return state.st_ino, state.st_mtime_ns


def test_a_damaged_bundle_is_written_again(experiment: Experiment, bundle: Path) -> None:
    digest = read_manifest(bundle).digest
    (bundle / "titles.json").write_text("[]")
    assert write_bundle(experiment, bundle, []) == digest == read_manifest(bundle).digest


def test_a_hold_is_of_what_the_link_leads_to(bundle: Path, tmp_path: Path) -> None:
    second = tmp_path / "second"
    other_bundle(bundle, second, 1)
    link = tmp_path / "link"
    link.symlink_to(bundle)
    hold = Hold(link)
    hold.renew()
    assert is_held(bundle) and not is_held(second)
    link.unlink()
    link.symlink_to(second)
    hold.renew()
    assert is_held(second) and not is_held(bundle)
    del hold
    assert not is_held(second)


def is_held(folder: Path) -> bool:
    with unless_held(folder) as is_free:
        return not is_free


def test_a_bundle_that_cannot_be_loaded_is_held_too(models: Path, start: Callable[..., Server]) -> None:
    server = start("--model-root", str(models))
    server.wait()
    folder = bundle_of(models)
    new = folder.with_suffix(".new")
    other_bundle(folder, new, 1)
    (new / "weights.safetensors").write_bytes(b"broken")
    folder.rename(folder.with_suffix(".old"))
    new.rename(folder)
    server.wait_for_reload("refused")
    assert is_held(folder)


@pytest.mark.parametrize("arguments", [["--bundle", "b"], ["--port", "1"], ["--export", "onnx", "x.onnx"]])
def test_publish_starts_no_server(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--publish", *arguments])
    assert end.value.code == 2 and "cannot be combined with --" in capsys.readouterr().err
