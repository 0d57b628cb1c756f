"""`--set` of sweeps and comparisons: each run trains with it.

The key may be in any file.
"""

import json
from pathlib import Path

import pytest
import yaml

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.experiment.configuration.overrides import as_arguments, setting
from dien_fuxictr.studies.comparison.cli import main as compare
from dien_fuxictr.studies.runs.run import load_runs
from dien_fuxictr.studies.sweep.cli import main as sweep
from dien_fuxictr.studies.sweep.grid import read_tuner, write_grid

BUILD = {"source": "amazon", "reviews": "r.json", "meta": "m.json", "protocol": "last"}


@pytest.mark.parametrize(
    "value", [1, 1e-3, "yes", "1e-3", "a b", None, True, [64, 32], {"AUC": 1}, ("item_id", "cate_id"), [("a", "b")], ""]
)
def test_an_argument_is_read_back(value):
    _, text = as_arguments({"key": value})
    assert setting(text) == ("key", value)


def test_a_mapping_keeps_its_order():
    """A finished run is found again by the text of its values."""
    _, text = as_arguments({"key": [{"name": "item_id", "feature_encoder": None}]})
    assert [*setting(text)[1][0]] == ["name", "feature_encoder"]


def configs(folder: Path) -> list[dict]:
    return [json.loads(file.read_text())["config"] for file in sorted(folder.rglob("result.json"))]


def test_a_comparison_over_seeds(workspace, monkeypatch):
    workspace.write_configs({"Tiny_test": {"epochs": 1}}, {"batch_size": 20})
    monkeypatch.setenv("PYTHONPATH", str(workspace.folder))
    command = ["--expids", "Tiny_test", "--seeds", "2", "--workers", "2", "--out", "out"]
    assert compare([*command, "--set", "batch_size=50", "seed=30", "hidden_units=[3, 4]"]) == 0
    found = [(config["batch_size"], config["seed"], config["hidden_units"]) for config in configs(Path("out/runs"))]
    assert found == [("50", "30", "[3, 4]"), ("50", "31", "[3, 4]")]


def test_a_sweep_of_a_tuner_file(write_tuner, workspace):
    workspace.write_configs({"Tiny_test": {"epochs": 9}}, {"batch_size": 20})
    file = write_tuner({"embedding_dim": [2, 3]})
    write_grid(read_tuner(file, {"epochs": 1, "batch_size": 50}))
    runs = load_runs(Path("tuner"))
    assert [(run.params["embedding_dim"], run.params["epochs"], run.params["batch_size"]) for run in runs] == [
        (2, 1, 50),
        (3, 1, 50),
    ]
    write_grid(read_tuner(file))
    assert not {run.expid for run in runs} & {run.expid for run in load_runs(Path("tuner"))}
    with pytest.raises(
        UserError, match=r"--set model_id=mine is not allowed: the files of a run have the experiment id, Tiny_test"
    ):
        read_tuner(file, {"model_id": "mine"})
    with pytest.raises(UserError, match=r"--set embedding_dim cannot be combined with tuner_space of tuner.yaml"):
        read_tuner(file, {"embedding_dim": 4})


def test_a_sweep_on_a_derived_data_set(write_tuner, workspace):
    workspace.write_configs({"Tiny_test": {"epochs": 9}}, {"build": BUILD})
    write_grid(read_tuner(write_tuner({"embedding_dim": [2, 3]}), {"build.fold": 1}))
    runs = load_runs(Path("tuner"))
    assert [run.params["dataset_id"] for run in runs] == ["tiny_fold_1", "tiny_fold_1"]
    assert {run.params["build"]["fold"] for run in runs} == {1}


def test_a_sweep_of_a_folder(workspace, monkeypatch, capsys):
    workspace.write_configs({"Tiny_test": {"epochs": 9}}, {"batch_size": 20})
    monkeypatch.setenv("PYTHONPATH", str(workspace.folder))
    command = ["--config", "config", "--set", "epochs=1", "batch_size=50"]
    assert sweep(command) == 0
    (config,) = configs(Path("config/runs"))
    assert (config["epochs"], config["batch_size"]) == ("1", "50")
    assert yaml.safe_load(Path("config/model_config.yaml").read_text())["Tiny_test"] == {"epochs": 9}
    capsys.readouterr()
    assert sweep(command) == 0
    assert "1 runs, 1 finished already" in capsys.readouterr().out


def test_folders_of_a_sweep(write_tuner, fast, workspace):
    file = write_tuner({"embedding_dim": [1]})
    assert sweep(["--config", str(file), "--model-root", "models", "--data-root", "sets"]) == 0
    (entry,) = yaml.safe_load(Path("tuner/model_config.yaml").read_text()).values()
    assert entry["model_root"] == str(workspace.folder / "models")
    (data,) = yaml.safe_load(Path("tuner/dataset_config.yaml").read_text()).values()
    assert data["data_root"] == str(workspace.folder / "sets")


def test_folders_of_a_comparison(workspace, monkeypatch):
    workspace.use_csv()
    monkeypatch.setenv("PYTHONPATH", str(workspace.folder))
    command = ["--expids", "Tiny_test", "--set", "epochs=1", "--model-root", "models", "--data-root", "sets"]
    assert compare([*command, "--out", "out"]) == 0
    assert Path("models/tiny/Tiny_test_seed7.model").is_file() and not Path("out/checkpoints").exists()
    assert Path("sets/tiny/feature_map.json").is_file() and not list(Path("built").iterdir())
