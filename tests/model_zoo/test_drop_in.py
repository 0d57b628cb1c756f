"""Model's folder in a checkout of the zoo, with the zoo's own loader."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from made import DEFAULTS, ZOO_BASE, features, make_feature_map

from dien_fuxictr.experiment.cli import main
from model_zoo.DIEN.src import DIEN

ROOT = Path(__file__).parents[2]
CHECKOUT_SCRIPT = """
import os, sys
os.chdir(os.path.dirname(os.path.realpath(__file__)))
from fuxictr.features import FeatureMap
from fuxictr.pytorch.dataloaders import RankDataLoader
from fuxictr.pytorch.torch_utils import seed_everything
from fuxictr.utils import load_config, set_logger
import {package}

params = load_config({config!r}, "DIEN_test")
params["gpu"] = -1
set_logger(params)
seed_everything(params["seed"])
data_dir = os.path.join(params["data_root"], params["dataset_id"])
feature_map = FeatureMap(params["dataset_id"], data_dir)
feature_map.load(os.path.join(data_dir, "feature_map.json"), params)
model = getattr({package}, params["model"])(feature_map, **params)
train, valid = RankDataLoader(feature_map, stage="train", **params)
model.fit(train, validation_data=valid, **params)
print(sys.modules[type(model).__module__].__file__, dict(model.evaluate(valid)))
"""
TINY_SEQ = {
    "dataset_id": "tiny_seq",
    "num_fields": 2,
    "total_features": 40,
    "input_length": 7,
    "labels": ["clk"],
    "features": [
        {"adgroup_id": {"source": "", "type": "categorical", "padding_idx": 0, "vocab_size": 20}},
        {
            "click_sequence": {
                "source": "",
                "type": "sequence",
                "padding_idx": 0,
                "vocab_size": 20,
                "max_len": 6,
                "share_embedding": "adgroup_id",
            }
        },
    ],
}
TINY_CONFIG = f"""{ZOO_BASE}
DIEN_test:
    model: DIEN
    dataset_id: tiny_seq
    loss: 'binary_crossentropy'
    metrics: ['logloss', 'AUC']
    task: binary_classification
    optimizer: adam
    learning_rate: 1.0e-3
    batch_size: 32
    embedding_dim: 4
    dnn_hidden_units: [8]
    dien_target_field: adgroup_id
    dien_sequence_field: click_sequence
    dien_neg_seq_field: []
    gru_type: AIGRU
    aux_loss_alpha: 0.5
    attention_activation: "ReLU"
    epochs: 1
    shuffle: True
    seed: 20222023
    monitor: {{'AUC': 1, 'logloss': -1}}
    monitor_mode: 'max'
"""


def write_tiny_seq(folder: Path) -> None:
    """Write encoded npz files with a feature map; 97 rows leave a batch of one."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    (folder / "feature_map.json").write_text(json.dumps(TINY_SEQ))
    for split in ("train", "valid", "test"):
        lengths = rng.integers(0, 7, 97)[:, None]
        np.savez(
            folder / f"{split}.npz",
            clk=rng.integers(0, 2, 97).astype(float),
            adgroup_id=rng.integers(1, 20, 97),
            click_sequence=rng.integers(1, 20, (97, 6)) * (np.arange(6) < lengths),
        )


def tiny_dataset_config(data_root: str) -> str:
    files = "".join(f"    {split}_data: {data_root}tiny_seq/{split}.npz\n" for split in ("train", "valid", "test"))
    return f"tiny_seq:\n    data_root: {data_root}\n    data_format: npz\n{files}"


@pytest.mark.parametrize("script,package", [("model_zoo/DIEN", "src"), ("experiment", "model_zoo")])
def test_dropped_into_a_checkout(tmp_path, script, package):
    checkout = tmp_path / "FuxiCTR"
    shutil.copytree(ROOT / "model_zoo" / "DIEN", checkout / "model_zoo" / "DIEN")
    (checkout / "model_zoo" / "__init__.py").write_text("from .DIEN.src import DIEN\n")
    config = checkout / "model_zoo" / "DIEN" / "config"
    config.mkdir(exist_ok=True)
    (config / "dataset_config.yaml").write_text(tiny_dataset_config(f"{checkout}/data/"))
    (config / "model_config.yaml").write_text(TINY_CONFIG)
    write_tiny_seq(checkout / "data" / "tiny_seq")
    (checkout / script).mkdir(exist_ok=True)
    (checkout / script / "run_expid.py").write_text(CHECKOUT_SCRIPT.format(package=package, config=str(config)))
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    done = subprocess.run(
        [sys.executable, f"{script}/run_expid.py"],
        cwd=checkout,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"{checkout}/model_zoo/DIEN/src/DIEN.py" in done.stdout and "'AUC': " in done.stdout


def test_a_gpu_that_is_not_there_is_the_cpu_with_one_line(monkeypatch, caplog):
    """Use the CPU as the zoo does, whose scripts pass `--gpu 0`, but with a log line."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    DIEN(make_feature_map(features()), **{**DEFAULTS, "gpu": -1})
    assert "CUDA" not in caplog.text
    DIEN(make_feature_map(features()), **{**DEFAULTS, "gpu": 0})
    assert caplog.text.count("gpu: 0: no CUDA device is available, running on the CPU") == 1


def test_encoded_npz_through_the_zoos_loader(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_tiny_seq(tmp_path / "data" / "tiny_seq")
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "dataset_config.yaml").write_text(tiny_dataset_config("./data/"))
    (tmp_path / "config" / "model_config.yaml").write_text(TINY_CONFIG)
    assert main(["--config", "config", "--expid", "DIEN_test"]) == 0
    assert (tmp_path / "checkpoints" / "tiny_seq" / "DIEN_test.model").exists()
