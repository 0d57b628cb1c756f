"""`zoo`: the class comes from a FuxiCTR checkout, by its path."""

import json
from pathlib import Path

import pytest
import yaml

from dien_fuxictr.experiment.checkout import Checkout
from dien_fuxictr.experiment.configuration.yaml_files import read_yaml
from dien_fuxictr.studies.sweep.grid import read_tuner, write_grid


@pytest.fixture
def zoo(workspace) -> Path:
    """Return a checkout whose Tiny has a wider MLP and a keyword of its own.

    Its fuxictr must not be imported.
    """
    ours = (workspace.folder / "model_zoo" / "Tiny" / "src" / "Tiny.py").read_text()
    root = workspace.folder / "FuxiCTR"
    add_model(root, "Tiny", ours.replace("hidden_units=[8]", "hidden_units=[16], flavour=1"))
    (root / "fuxictr").mkdir()
    (root / "fuxictr" / "__init__.py").write_text("raise AssertionError('shadows the installed package')\n")
    workspace.write_configs({"Tiny_test": {"zoo": "FuxiCTR"}})
    return root


def add_model(root: Path, folder: str, text: str, entries: dict | None = None) -> None:
    source = root / "model_zoo" / folder / "src"
    source.mkdir(parents=True)
    (source / "__init__.py").write_text("from .Tiny import *\n")
    (source / "Tiny.py").write_text(text)
    if entries:
        (source.parent / "config").mkdir()
        (source.parent / "config" / "model_config.yaml").write_text(yaml.dump(entries))


def test_the_class_is_the_checkouts(workspace, zoo):
    assert workspace.run("--report", "report", "--strict") == 0
    result = json.loads((workspace.folder / "report" / "result.json").read_text())
    assert result["parameters"] == 32 * 4 + 4 * 16 + 16 + 2 * 16 + 16 + 1
    assert {"commit", "zoo_commit"} < result.keys()
    assert workspace.run("--eval-only") == 0


def test_sweep_over_a_keyword_of_the_checkout_only(workspace, zoo):
    content = {
        "base_config": "config",
        "base_expid": "Tiny_test",
        "dataset_id": "tiny",
        "tuner_space": {"flavour": [1, 2]},
    }
    (workspace.folder / "tuner.yaml").write_text(yaml.dump(content))
    tuner = read_tuner(Path("tuner.yaml"))
    write_grid(tuner)
    runs = [entry for entry in read_yaml(tuner.folder / "model_config.yaml").values() if entry]
    assert [(run["flavour"], run["zoo"]) for run in runs] == [(1, "FuxiCTR"), (2, "FuxiCTR")]


def test_two_checkouts_of_one_process_do_not_mix(zoo, tmp_path):
    text = (zoo / "model_zoo" / "Tiny" / "src" / "Tiny.py").read_text()
    add_model(tmp_path / "second", "Tiny", text.replace("flavour=1", "flavour=2"))
    first, second = (Checkout(root).model_class("Tiny") for root in (zoo, tmp_path / "second"))
    assert first is not second and first is Checkout(zoo).model_class("Tiny")


def test_entry_is_the_default_one_or_the_first_or_nothing(tmp_path):
    entries = {"Base": {"verbose": 1}, "Other": {"model": "Other"}, "first": {"model": "Tiny", "net_regularizer": 1}}
    text = "class Tiny(BaseModel):\n"
    add_model(tmp_path / "a", "Tiny", text, {**entries, "Tiny_default": {"model": "Tiny"}})
    add_model(tmp_path / "b", "Tiny", text, entries)
    add_model(tmp_path / "c", "Tiny", text)
    ids = [Checkout(tmp_path / root).entry("Tiny").get("model_id") for root in "abc"]
    assert ids == ["Tiny_default", "first", None]
    assert Checkout(tmp_path / "b").entry("Tiny")["net_regularizer"] == 1.0


def test_only_pytorch_models_are_found(tmp_path):
    add_model(tmp_path, "DCN/DCN_torch", "class DCN(BaseModel):\n\nclass Layer(nn.Module):\n")
    add_model(tmp_path, "DCN/DCN_tf", "class TF(BaseModel):\n")
    add_model(tmp_path, "multitask/PLE", "class PLE(MultiTaskModel):\n")
    assert Checkout(tmp_path).sources == {"DCN": tmp_path / "model_zoo" / "DCN" / "DCN_torch" / "src"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"zoo": "nowhere"}, "FuxiCTR checkout nowhere does not exist"),
        ({"zoo": "config"}, "config is not a FuxiCTR checkout"),
        ({"zoo": 3}, "zoo = 3 in config/model_config.yaml [Tiny_test] must be the folder of a FuxiCTR checkout"),
        ({"zoo": "FuxiCTR", "model": "Tyni"}, "has no model 'Tyni'; nearest: Tiny"),
        ({"zoo": "FuxiCTR", "model": "Zzz"}, "has no model 'Zzz'; known: PLE_less, Tiny"),
        ({"zoo": "FuxiCTR", "model": "PLE"}, "has several tasks"),
        ({"zoo": "FuxiCTR", "model": "PLE_less"}, "ModuleNotFoundError: No module named 'no_such_package'"),
    ],
)
def test_bad_input(workspace, zoo, bad, settings, message):
    add_model(zoo, "multitask/PLE", "class PLE(MultiTaskModel):\n")
    add_model(zoo, "PLE_less", "import no_such_package\n\nclass PLE_less(BaseModel):\n    pass\n")
    workspace.write_configs({"Tiny_test": settings})
    assert message in bad()
