"""`embedding_sharding: rows` for users: one process, torchrun, and bad input."""

import pytest
import torch
from made_workers import as_torchrun, signalled

ROWS = {"embedding_updates": "sparse", "embedding_sharding": "rows"}
SHORT = {"epochs": 2, "eval_steps": 3}


def test_the_checkpoint_is_the_one_that_any_run_reads(workspace, tmp_path, capfd):
    """Trained by two workers, evaluated by them, by one process, and without the key."""
    workspace.write_configs({"X": {**SHORT, **ROWS}})

    def metrics() -> list[str]:
        said = capfd.readouterr().err
        return [line.split("INFO ")[1] for line in said.splitlines() if "[Metrics]" in line]

    def run(*arguments: str) -> list[str]:
        assert as_torchrun(2, tmp_path, lambda: workspace.run("--verbose", *arguments, expid="X")) == [0, 0]
        return metrics()[-2:]

    trained = run()
    files = sorted(path.name for path in workspace.file(".model").parent.iterdir() if path.name[0] != ".")
    assert files == ["X.log", "X.model", "X.resume"]
    assert torch.load(workspace.file(".model", "X"), weights_only=True).keys() > {"dnn.mlp.0.weight"}
    assert run("--eval-only") == trained
    for sharding in ("rows", "none"):
        assert workspace.run("--verbose", "--eval-only", "--set", f"embedding_sharding={sharding}", expid="X") == 0
        assert metrics() == trained


def test_signal_ends_all_and_another_number_resumes(workspace, tmp_path, capfd):
    workspace.write_configs({"X": {**SHORT, **ROWS}})
    assert signalled(workspace, tmp_path) == [143, 143]
    assert capfd.readouterr().err.endswith("error: interrupted; the state is saved, --resume continues it\n")
    assert workspace.run("--resume", expid="X") == 0
    assert "Resume training @epoch 1 - batch 1" in workspace.file(".log", "X").read_text()


def test_several_workers_have_no_tensorboard(workspace, tmp_path, capfd):
    workspace.write_configs({"X": ROWS})
    assert as_torchrun(2, tmp_path, lambda: workspace.run("--tensorboard", expid="X")) == [2, 2]
    refused = "--tensorboard cannot be combined with embedding_sharding = rows and several processes"
    assert refused in capfd.readouterr().err


def test_one_process_trains_in_blocks_too(workspace):
    workspace.write_configs({"X": {**SHORT, **ROWS}, "Y": {**SHORT, **ROWS, "embedding_sharding": "none"}})
    for expid in ("X", "Y"):
        assert workspace.run(expid=expid) == 0
    mine, other = (torch.load(workspace.file(".model", expid), weights_only=True) for expid in ("X", "Y"))
    assert {name: value.shape for name, value in mine.items()} == {name: value.shape for name, value in other.items()}


@pytest.mark.parametrize(
    ("settings", "arguments", "said"),
    [
        ({**ROWS, "embedding_sharding": "columns"}, [], "embedding_sharding = 'columns'"),
        ({"embedding_sharding": "rows"}, [], "rows needs embedding_updates = sparse"),
        (ROWS, ["--resume"], "nothing to resume"),
    ],
)
def test_bad_input(workspace, bad, settings, arguments, said):
    workspace.write_configs({"X": settings})
    assert said in bad(*arguments, expid="X")


def test_a_missing_package_is_named(workspace, bad, monkeypatch):
    workspace.write_configs({"X": ROWS})
    monkeypatch.setitem(__import__("sys").modules, "safetensors", None)
    assert "pip install safetensors" in bad(expid="X")
