"""Enumeration: the zoo's combinations in its order, with distinct names."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from fuxictr.autotuner import enumerate_params

from dien_fuxictr.common import package_data
from dien_fuxictr.common.errors import UserError
from dien_fuxictr.experiment.configuration.yaml_files import read_yaml
from dien_fuxictr.studies.sweep.grid import read_tuner
from dien_fuxictr.studies.sweep.grid import write_grid as write

# The shapes of values in the zoo's example: scalars, lists as values, a mapping, 5.e-4.
SPACE = yaml.safe_load("""
model_root: ./elsewhere/
embedding_dim: 16
hidden_units: [[32, 16]]
net_dropout: [0.2, 0.1, 0]
embedding_regularizer: [1.e-4, 5.e-4]
learning_rate: 5.e-4
seed: 20222023
metrics: [[gAUC, AUC]]
monitor: {gAUC: 1, AUC: 1}
""")
BASE = {"debug_mode": False, "model_root": "./checkpoints/", "hidden_units": [8], "embedding_regularizer": 0}


def write_grid(file: Path) -> Path:
    tuner = read_tuner(file)
    write(tuner)
    return tuner.folder


def experiments(folder: Path) -> dict[str, dict]:
    return read_yaml(folder / "model_config.yaml")


def data_sets(folder: Path) -> dict[str, dict]:
    return read_yaml(folder / "dataset_config.yaml")


def numbers(folder: Path) -> dict[str, dict]:
    """Return the experiments by number, without hashes."""
    return {
        re.sub(r"_[0-9a-f]{8}$", "", expid): {key: value for key, value in params.items() if key != "dataset_id"}
        for expid, params in experiments(folder).items()
    }


@pytest.mark.parametrize("use", ["base_config", "sections of the file", "template"])
def test_combinations_equal_the_zoos(workspace, write_tuner, use):
    workspace.write_configs({"Tiny_test": {**BASE, "dataset_id": "TBD" if use == "template" else "tiny"}})
    keys = {"dataset_id": "tiny"}
    if use == "sections of the file":
        models, entries = (read_yaml(Path("config", f"{kind}_config.yaml")) for kind in ("model", "dataset"))
        keys |= {
            "base_config": None,
            "dataset_config": entries,
            "model_config": {"Tiny_test": {"model_id": "x", **models["Base"], **models["Tiny_test"]}},
        }
    ours = write_grid(write_tuner(SPACE, **keys))
    theirs = Path(enumerate_params(str(write_tuner(SPACE, path="theirs.yaml", **keys))))
    assert numbers(ours) == numbers(theirs) and len(numbers(ours)) == 6
    assert list(experiments(ours))[1].startswith("Tiny_tiny_002_" if use == "template" else "Tiny_test_002_")
    assert set(data_sets(ours)) == {"tiny"}


def test_tuned_data_set(workspace, write_tuner):
    """Enumerate experiments on data sets, where the zoo's own fails (KeyError)."""
    workspace.use_csv()
    workspace.write_configs({"Tiny_test": {}}, {**data_sets(Path("config"))["tiny"], "min_categr_count": 1})
    folder = write_grid(write_tuner({"min_categr_count": [1, 5], "net_dropout": [0, 0.1]}))
    entries = data_sets(folder)
    found = [(p["net_dropout"], entries[p["dataset_id"]]["min_categr_count"]) for p in experiments(folder).values()]
    assert found == [(0, 1), (0, 5), (0.1, 1), (0.1, 5)]
    assert next(iter(entries)) == "tiny", "the combination that is the entry itself shares its build"


def test_names_that_sorted_characters_confuse(workspace, write_tuner):
    workspace.use_csv()
    workspace.write_configs({"Tiny_test": {}}, {**data_sets(Path("config"))["tiny"], "min_categr_count": 1})
    folder = write_grid(write_tuner({"min_categr_count": [12, 21]}))
    assert [entry["min_categr_count"] for entry in data_sets(folder).values()] == [12, 21]
    twelve = set(experiments(write_grid(write_tuner({"embedding_dim": [12]}))))
    assert twelve.isdisjoint(experiments(write_grid(write_tuner({"embedding_dim": [21]}))))


def test_encoded_data_keep_their_name(workspace, write_tuner):
    folder = write_grid(write_tuner({"valid_data": ["a.npz", "b.npz"]}))
    assert list(data_sets(folder)) == ["tiny"] and "valid_data" not in data_sets(folder)["tiny"]
    assert [params["valid_data"] for params in experiments(folder).values()] == ["a.npz", "b.npz"]


def test_id_changes_with_the_configuration_and_only_with_it(workspace, write_tuner):
    file = write_tuner({"embedding_dim": [2, 3]})
    before = list(experiments(write_grid(file)))
    assert list(experiments(write_grid(file))) == before
    workspace.write_configs({"Tiny_test": {"epochs": 2}})
    assert set(before).isdisjoint(experiments(write_grid(file)))
    workspace.write_configs({"Tiny_test": {}}, {"test_data": "other.npz"})
    assert set(before).isdisjoint(experiments(write_grid(file)))


def test_defaults_of_what_the_zoo_needs(workspace, write_tuner):
    workspace.write_configs({"Tiny_test": {}}, {"data_format": "csv"})
    content = read_yaml(Path("config/dataset_config.yaml"))
    del content["tiny"]["data_format"]
    Path("config/dataset_config.yaml").write_text(yaml.dump(content))
    folder = write_grid(write_tuner({"embedding_dim": [2]}))
    assert data_sets(folder)["tiny"]["data_format"] == "csv"


def test_key_that_the_model_knows_but_the_base_does_not_set(workspace, write_tuner):
    folder = write_grid(write_tuner({"hidden_units": [[4], [5]], "num_threads": 1}))
    assert [params["hidden_units"] for params in experiments(folder).values()] == [[4], [5]]


def test_without_config_the_base_comes_with_the_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = Path("tuner.yaml")
    file.write_text("base_config: ./config/\nbase_expid: DIEN_amazon\ntuner_space: {gru_type: [GRU, AUGRU]}\n")
    folder = write_grid(file)
    assert [entry["gru_type"] for entry in experiments(folder).values()] == ["GRU", "AUGRU"]


def test_a_tuner_file_of_the_installed_package_is_to_be_copied(write_tuner, monkeypatch):
    file = write_tuner({"embedding_dim": [1]})
    monkeypatch.setattr(package_data, "IS_INSTALLED", True)
    monkeypatch.setattr(package_data, "_PACKAGE", file.resolve().parent)
    with pytest.raises(UserError, match="copy it out of the installed package"):
        read_tuner(file)


def test_base_config_is_found_from_another_working_directory(workspace, write_tuner, monkeypatch):
    file = write_tuner({"embedding_dim": [2]}, path="deep/below/tuner.yaml").absolute()
    (workspace.folder / "elsewhere").mkdir()
    monkeypatch.chdir(workspace.folder / "elsewhere")
    assert len(experiments(write_grid(file))) == 1


BAD: list[tuple[Callable[..., Path], str]] = [
    (lambda write: Path("none.yaml"), "--config none.yaml does not exist"),
    (lambda write: write({"embedding_dim": [1]}, "tuner.txt"), "--config tuner.txt must end in .yaml"),
    (
        lambda write: write({"embeding_dim": [1]}),
        "unknown key 'embeding_dim' in tuner_space of tuner.yaml; did you mean 'embedding_dim'?",
    ),
    (lambda write: write({"zzzz": [1]}), "unknown key 'zzzz' in tuner_space of tuner.yaml; Tiny_test has no such key"),
    (lambda write: write({"embedding_dim": []}), "embedding_dim in tuner_space has no value"),
    (lambda write: write({"dataset_id": ["a", "b"]}), "dataset_id cannot be in tuner_space"),
    (lambda write: write([1]), "tuner_space = [1] in tuner.yaml must be a mapping"),
    (
        lambda write: write(None, tuner_spce={"a": 1}),
        "unknown key 'tuner_spce' in tuner.yaml; did you mean 'tuner_space'?",
    ),
    (lambda write: write({"embedding_dim": [1]}, base_expid=None), "base_expid is missing"),
    (
        lambda write: write({"embedding_dim": [1]}, base_expid="Tiny_tset"),
        "expid 'Tiny_tset' is not in config; nearest: Tiny_test",
    ),
    (
        lambda write: write({"embedding_dim": [1]}, dataset_id="tinny"),
        "dataset_id 'tinny' is not in config; nearest: tiny",
    ),
    (lambda write: write({"embedding_dim": [1]}, base_config="./conf/"), "base_config = ./conf/ does not exist"),
    (
        lambda write: write({"embedding_dim": [1]}, model_config={"A": {}}),
        "expid 'Tiny_test' is not in tuner.yaml; known: A",
    ),
    (
        lambda write: write({"net_dropout": {"low": 0, "high": 1}}),
        "net_dropout in tuner_space is a range; a grid needs lists, ranges need --search tpe",
    ),
    (
        lambda write: write({"net_dropout": {"low": 0.5, "high": 0.5}}),
        "net_dropout in tuner_space is not a valid range, low must be less than high",
    ),
    (lambda write: write({"net_dropout": {"low": 0}}), "high must be a number"),
    (lambda write: write({"net_dropout": {"low": True, "high": 2}}), "low must be a number"),
    (lambda write: write({"net_dropout": {"low": 0, "high": float("nan")}}), "low must be less than high"),
    (lambda write: write({"net_dropout": {"low": 0, "high": 1, "log": True}}), "log needs a low above 0"),
    (lambda write: write({"net_dropout": {"low": 1, "high": 2, "log": "yes"}}), "log must be True or False"),
    (
        lambda write: write({"net_dropout": {"low": 0, "high": 1, "step": 1}}),
        "step is unknown; allowed are low, high and log",
    ),
]


@pytest.mark.parametrize(("file", "message"), BAD, ids=[message for _, message in BAD])
def test_bad_tuner_file(workspace, write_tuner, file, message):
    with pytest.raises(UserError, match=re.escape(message)):
        write_grid(file(write_tuner))
    assert not Path("tuner").exists()


def test_broken_yaml(workspace):
    Path("tuner.yaml").write_text("a: [")
    with pytest.raises(UserError, match="not readable YAML"):
        write_grid(Path("tuner.yaml"))


def test_a_key_that_nothing_reads_is_a_warning(write_tuner, caplog):
    assert read_tuner(write_tuner({"embedding_dim": [1]}, my_note="x")).space
    assert "tuner.yaml: unknown keys, without effect: my_note" in caplog.text
