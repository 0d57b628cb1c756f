"""Only checkpoints of finished trainings are served and exported."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from dien_fuxictr.serving.cli import main

EXPORT = ("--expid", "WideDeep_amazon", "--export", "torch", "a.pt2")


@pytest.fixture(autouse=True)
def nothing_is_served(monkeypatch):
    def serve(*_):
        raise AssertionError("it serves")

    monkeypatch.setattr("dien_fuxictr.serving.run_serve.serve_alone", serve)


@pytest.fixture
def run(project: Path) -> Iterator[Path]:
    """Return the run's files without suffixes; restore them afterwards."""
    (model,) = project.glob("**/WideDeep_amazon.model")
    files = {file: file.read_bytes() for file in (model, model.with_suffix(".resume"))}
    yield model.with_suffix("")
    for file, content in files.items():
        file.write_bytes(content)
    (project / "a.pt2").unlink(missing_ok=True)


def change_mark(run: Path, **changes: bool) -> None:
    file = run.with_suffix(".resume")
    torch.save({**torch.load(file, weights_only=True), **changes}, file)


def test_a_finished_checkpoint_is_exported_without_a_word(run, capsys):
    assert main(EXPORT) == 0
    assert "WARNING" not in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [EXPORT, EXPORT[:2]], ids=["export", "serve"])
def test_an_unfinished_checkpoint_is_refused(run, capsys, arguments):
    change_mark(run, finished=False)
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "WideDeep_amazon.model has not finished" in line and "--allow-unfinished" in line
    assert not Path("a.pt2").exists() and not run.with_suffix(".bundle").exists()


def test_unfinished_checkpoint_is_exported_if_allowed(run, caplog):
    change_mark(run, finished=False)
    assert main([*EXPORT, "--allow-unfinished"]) == 0
    assert "WideDeep_amazon.model has not finished" in caplog.text


def test_a_checkpoint_without_a_mark_is_exported_with_a_warning(run, caplog):
    run.with_suffix(".resume").unlink()
    assert main(EXPORT) == 0
    assert caplog.text.count("WARNING") == 1 and "whether its training has finished is unknown" in caplog.text


@pytest.mark.parametrize("arguments", [EXPORT, EXPORT[:2]], ids=["export", "serve"])
def test_a_damaged_checkpoint_is_refused(run, capsys, arguments):
    content = bytearray(run.with_suffix(".model").read_bytes())
    content[len(content) // 2] ^= 0xFF
    run.with_suffix(".model").write_bytes(content)
    assert main(arguments) == 2
    assert "does not match the digest" in capsys.readouterr().err.splitlines()[-1]


def test_without_the_gpu_no_bundle_is_written(run, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main([*EXPORT[:2], "--gpu", "0"]) == 2
    assert "--gpu 0: no CUDA device is available" in capsys.readouterr().err
    assert not run.with_suffix(".bundle").exists()


def test_a_bundle_has_no_training_to_allow(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--bundle", "b", "--allow-unfinished"])
    assert end.value.code == 2 and "--allow-unfinished cannot be combined with --bundle" in capsys.readouterr().err
