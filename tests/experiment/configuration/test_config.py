"""Merging of configuration files like the zoo, with its mistakes corrected."""

import argparse
from itertools import pairwise
from pathlib import Path

import fuxictr.utils
import pytest
import yaml

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.experiment.configuration.config import load_config
from dien_fuxictr.experiment.configuration.overrides import setting
from dien_fuxictr.experiment.configuration.yaml_files import ConfigLoader

BOMB = "a: &a [1,1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"{new}: &{new} [{','.join([f'*{old}'] * 10)}]\n" for old, new in pairwise("abcdefghij")
)
DATASETS = "amazon:\n  data_root: ./data/\n  data_format: csv\n  batch_size: 7\n"


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/')}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_data_set_overrides_expid_overrides_base(tmp_path):
    write(
        tmp_path,
        dataset_config=DATASETS,
        model_config="Base: {a: 1, b: 1, batch_size: 1}\nX: {b: 2, batch_size: 2, dataset_id: amazon}",
    )
    config = load_config(tmp_path, "X")
    assert (config.params["a"], config.params["b"], config.params["batch_size"]) == (1, 2, 7)
    assert config.params["model_id"] == "X" and config.params["dataset_id"] == "amazon"
    assert config.origin["a"].endswith("model_config.yaml [Base]")
    assert config.origin["b"].endswith("model_config.yaml [X]")
    assert config.origin["batch_size"].endswith("dataset_config.yaml [amazon]")


def test_equals_the_zoos_merge_but_for_coerced_numbers(tmp_path):
    write(
        tmp_path,
        dataset_config=DATASETS,
        model_config="Base: {a: [1, x], seed: 3, model_root: m, verbose: 0}\nX: {dataset_id: amazon, b: {c: d}}",
    )
    assert load_config(tmp_path, "X").params == fuxictr.utils.load_config(str(tmp_path), "X")


def test_each_file_has_its_own_base(tmp_path):
    write(
        tmp_path,
        dataset_config=DATASETS,
        model_config__A="Base: {depth: 1}\nA: {dataset_id: amazon}",
        model_config__B="Base: {depth: 2}\nB: {dataset_id: amazon}",
    )
    assert load_config(tmp_path, "A").params["depth"] == 1
    assert load_config(tmp_path, "B").params["depth"] == 2
    assert load_config(tmp_path, "B").warnings == []


def test_file_without_base_takes_the_first_other_with_a_warning(tmp_path):
    write(
        tmp_path,
        dataset_config=DATASETS,
        model_config__A="A: {dataset_id: amazon}",
        model_config__B="Base: {depth: 2}\nB: {}",
        model_config__C="Base: {depth: 3}",
    )
    config = load_config(tmp_path, "A")
    assert config.params["depth"] == 2
    (warning,) = config.warnings
    assert "A.yaml has no Base; " in warning and "B.yaml" in warning


def test_a_base_of_another_data_set_is_never_taken(tmp_path):
    write(
        tmp_path,
        dataset_config=DATASETS + "mine: {data_root: ./data/}\nother: {}\n",
        model_config__amazon="Base: {dataset_id: amazon, depth: 2, metrics: [AUC]}",
        model_config__a_file_of_mine="A: {dataset_id: mine, model: DIEN}\nB: {dataset_id: amazon}\nC: {}",
    )
    config = load_config(tmp_path, "A")
    assert "depth" not in config.params and config.params["seed"] == 1029
    (warning,) = config.warnings
    assert "a_file_of_mine.yaml has no Base; no Base is used" in warning
    for expid in ("B", "C"):
        config = load_config(tmp_path, expid)
        assert config.params["depth"] == 2 and config.params["dataset_id"] == "amazon"
        assert config.warnings[0].endswith("amazon.yaml is used")
    write(tmp_path, model_config__mine="Base: {dataset_id: mine, depth: 5}", model_config__z="Base: {depth: 7}")
    assert load_config(tmp_path, "A").params["depth"] == 5
    write(tmp_path, model_config__mine="D: {dataset_id: other}")
    assert load_config(tmp_path, "D").params["depth"] == 7


def test_folder_without_any_base(tmp_path):
    write(tmp_path, dataset_config=DATASETS, model_config="X: {dataset_id: amazon}")
    assert load_config(tmp_path, "X").warnings == []


@pytest.mark.parametrize("base", ["Base: {dataset_id: amazon}", "Base: {a: 1}"])
def test_unknown_expid_names_the_nearest(tmp_path, base):
    write(tmp_path, dataset_config=DATASETS, model_config=f"{base}\nDIEN_amazon: {{}}\nDIN_books: {{}}\nLR: {{}}")
    with pytest.raises(UserError, match=r"'DIEN_amazn' is not in .*nearest: DIEN_amazon"):
        load_config(tmp_path, "DIEN_amazn")
    with pytest.raises(UserError, match="'Base' is not in"):
        load_config(tmp_path, "Base")


def test_expid_in_two_files_warns(tmp_path):
    write(
        tmp_path,
        dataset_config=DATASETS,
        model_config__A="X: {dataset_id: amazon, a: 1}",
        model_config__B="X: {dataset_id: amazon, a: 2}",
    )
    config = load_config(tmp_path, "X")
    assert config.params["a"] == 1 and "the first is used" in config.warnings[0]


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ("X: {dataset_id: TBD}", "template .*TBD.*amazon"),
        ("X: {dataset_id: amazn}", "dataset_id 'amazn' is not in .*nearest: amazon"),
        ("X: {model: DIEN}", "dataset_id of expid X in .* is missing"),
        ("X: [1, 2]", "must map keys to values"),
        ("[1, 2]", "must map names to settings"),
        ("X: {a: [}", "not readable YAML"),
        ("X: !!python/object/apply:os.getcwd []", "not readable YAML"),
        ("X: {a: 1, b: 2, a: 3}", "'a' occurs twice in .* line 1, column 17"),
        ("X: {a: 1}\nX: {b: 1}", "'X' occurs twice in .* line 2"),
        ("X: {5: 1}", r"the key 5 of X in .*model_config.yaml must be text"),
        ("X: &a {b: *a}", "not readable YAML: its aliases expand to inf values"),
        ("X: &a [*a]", "not readable YAML: its aliases expand to inf values"),
        (f"X: {'[' * 20_000}{']' * 20_000}", "not readable YAML: it is nested too deeply"),
        (BOMB, "not readable YAML: its aliases expand to 1.2e[+]10 values"),
        ("X: 2024-13-45", "not readable YAML: month must be in 1..12"),
    ],
)
def test_bad_files(tmp_path, models, message):
    write(tmp_path, dataset_config=DATASETS, model_config=models)
    with pytest.raises(UserError, match=message):
        load_config(tmp_path, "X")


def test_merged_keys_are_overridden_and_do_not_stand_twice(tmp_path):
    models = "A: &a {x: 1, y: 2}\nX: {<<: [*a, {z: 3}], x: 4, dataset_id: amazon}"
    params = load_config(write(tmp_path, dataset_config=DATASETS, model_config=models), "X").params
    assert (params["x"], params["y"], params["z"]) == (4, 2, 3)


@pytest.mark.parametrize("text", ["a=[", "a=&b [*b]", "a={b: 1, b: 2}", f"a={'[' * 20_000}"], ids=lambda text: text[:9])
def test_settings_that_are_no_yaml(text):
    with pytest.raises(argparse.ArgumentTypeError, match="the value is not readable YAML"):
        setting(text)


def test_missing_folder_and_files(tmp_path):
    with pytest.raises(UserError, match="does not exist; it must be a folder with"):
        load_config(tmp_path / "nowhere", "X")
    missing = r"^model_config is missing in --config \S+: it must have model_config.yaml or model_config/\*.yaml$"
    with pytest.raises(UserError, match=missing):
        load_config(tmp_path, "X")


def test_numbers_that_yaml_reads_as_text():
    text = "{a: 1e-3, b: {c: [2E5, -1.e-4, +1.5e3]}, quoted: '1e-3', name: 1e-3x, int: 3, hash: 1252b14c, word: e5}"
    assert yaml.load(text, ConfigLoader) == {
        "a": 1e-3,
        "b": {"c": [2e5, -1e-4, 1500.0]},
        "quoted": "1e-3",
        "name": "1e-3x",
        "int": 3,
        "hash": "1252b14c",
        "word": "e5",
    }


def test_int_regularizer_becomes_a_float(tmp_path):
    write(
        tmp_path,
        dataset_config=DATASETS,
        model_config="X: {dataset_id: amazon, embedding_regularizer: 1, net_regularizer: l2(1e-3), regularizer: 2}",
    )
    params = load_config(tmp_path, "X").params
    assert isinstance(params["embedding_regularizer"], float) and isinstance(params["regularizer"], float)
    assert params["net_regularizer"] == "l2(1e-3)"


def test_rendered_configuration_reads_back_with_each_keys_file(tmp_path):
    write(
        tmp_path,
        dataset_config=DATASETS,
        model_config="""
Base: {verbose: 0}
X:
  dataset_id: amazon
  dien_target_field: !!python/tuple [item_id, cate_id]
  learning_rate: 1e-3
  feature_cols: [{name: a, active: True}, {name: [b, c], max_len: 3}]
  monitor: {AUC: 1, logloss: -1}
  hint: "two\\n\\nlines # no comment"
  nothing: null
""",
    )
    config = load_config(tmp_path, "X")
    text = config.render()
    assert yaml.load(text, ConfigLoader) == config.params
    assert f"learning_rate: 0.001  # {tmp_path / 'model_config.yaml'} [X]" in text.splitlines()
    assert f"verbose: 0  # {tmp_path / 'model_config.yaml'} [Base]" in text.splitlines()
    assert f"data_format: csv  # {tmp_path / 'dataset_config.yaml'} [amazon]" in text.splitlines()
    assert "model_root: ./checkpoints/  # default" in text.splitlines()
