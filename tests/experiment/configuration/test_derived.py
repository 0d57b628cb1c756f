"""Settings that begin with `build.` make a data set of its own."""

from pathlib import Path

import pytest
import yaml
from made_project import make_project

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.experiment.cli import main
from dien_fuxictr.experiment.configuration.config import load_config
from dien_fuxictr.experiment.configuration.derived import as_name

BUILD = {"source": "amazon", "reviews": "r.json", "meta": "m.json", "protocol": "last", "seed": 3}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    entry = {"data_root": "./data/", "data_format": "parquet", "train_data": "t", "test_data": "e", "build": BUILD}
    plain = {"data_root": "./data/", "data_format": "csv", "train_data": "t"}
    (tmp_path / "dataset_config.yaml").write_text(yaml.dump({"d": entry, "plain": plain}))
    (tmp_path / "model_config.yaml").write_text(yaml.dump({"Base": {}, "X": {"dataset_id": "d", "epochs": 2}}))
    return tmp_path


def test_derived_set_has_its_own_id_and_samples(config: Path) -> None:
    params = load_config(config, "X", {"build.fold": 2, "epochs": 5, "build.negatives": "uniform"}).params
    assert params["dataset_id"] == "d_fold_2_negatives_uniform" and params["epochs"] == 5
    assert params["build"] == {**BUILD, "fold": 2, "negatives": "uniform"}
    assert params["train_data"] == "data/d_fold_2_negatives_uniform/samples/train.parquet"
    assert "valid_data" not in params and "build.fold" not in params
    other_order = load_config(config, "X", {"build.negatives": "uniform", "build.fold": 2}).params
    assert other_order["dataset_id"] == params["dataset_id"]


def test_equal_options_derive_no_set(config: Path) -> None:
    settings = {"build.fold": 0, "build.seed": 3, "build.max_len": 100}
    assert load_config(config, "X", settings).params == load_config(config, "X").params


def test_it_is_derived_from_the_data_set_that_is_set(config: Path) -> None:
    with pytest.raises(UserError, match=r"build.fold cannot be set: data set plain has no build section"):
        load_config(config, "X", {"build.fold": 1, "dataset_id": "plain"})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"build.flod": 1}, "unknown key 'flod' in the build from source amazon; did you mean fold"),
        ({"build.fold": -1}, "fold = -1"),
        ({"build.target_days": 9}, "target_days in the build from source amazon cannot be combined with protocol last"),
    ],
)
def test_options_are_those_of_the_build(config: Path, settings: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_config(config, "X", settings)


@pytest.mark.parametrize(
    ("value", "name"), [(1e-3, "0.001"), ([200, 80], "200_80"), ("a/b", "a_b"), (None, "None"), ([], "none")]
)
def test_a_value_in_a_files_name(value: object, name: str) -> None:
    assert as_name(value) == name


def test_a_run_builds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(make_project(tmp_path / "project", epochs=1))
    assert main(["--expid", "EmbeddingMLP_amazon", "--set", "build.negatives=uniform", "build.max_len=3"]) == 0
    built = Path("data/amazon_max_len_3_negatives_uniform")
    assert (built / "feature_map.json").is_file() and not Path("data/amazon").exists()
    assert '"negatives": "uniform"' in (built / "samples" / "samples.json").read_text()
