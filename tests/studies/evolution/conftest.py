"""A small DIEN on raw data whose items have titles, in a folder like the project."""

import json
from pathlib import Path

import pytest
import yaml

from dien_fuxictr.dataset.generate_sample import World, generate, write_lines
from dien_fuxictr.experiment.cli import main as train
from dien_fuxictr.experiment.configuration.config import load_config
from dien_fuxictr.experiment.configuration.yaml_files import ConfigDumper
from dien_fuxictr.experiment.models import build_model, find_model, load_feature_map
from dien_fuxictr.experiment.training import checkpoint

SETTINGS = {
    "model": "DIEN",
    "dataset_id": "tiny",
    "loss": "binary_crossentropy",
    "task": "binary_classification",
    "metrics": ["AUC", "logloss"],
    "monitor": "AUC",
    "monitor_mode": "max",
    "optimizer": "adam",
    "learning_rate": 1e-2,
    "batch_size": 64,
    "epochs": 1,
    "shuffle": True,
    "seed": 1,
    "verbose": 0,
    "num_workers": 1,
    "embedding_dim": 4,
    "dnn_hidden_units": [8],
    "attention_hidden_units": [6],
    "aux_hidden_units": [6],
    "group_id": "user_id",
    "dien_target_field": ("item_id", "cate_id"),
    "dien_sequence_field": ("item_history", "cate_history"),
    "dien_neg_seq_field": [],
}
EXPERIMENTS = {
    "trained": {},
    "untrained": {},
    "GRU": {"gru_type": "GRU"},
    "AGRU": {"gru_type": "AGRU"},
    "DIN": {"model": "DIN", "din_target_field": ("item_id",), "din_sequence_field": ("item_history",)},
    "userless": {"group_id": None, "use_features": ["item_id", "cate_id", "item_history", "cate_history"]},
}
SEQUENCE = {
    "active": True,
    "dtype": "str",
    "type": "sequence",
    "splitter": "^",
    "max_len": 30,
    "padding": "post",
    "feature_encoder": None,
}
ENTRY = {
    "data_root": "./data/",
    "data_format": "parquet",
    "min_categr_count": 1,
    "label_col": {"name": "label", "dtype": "float"},
    **{f"{split}_data": f"./data/tiny/samples/{split}.parquet" for split in ("train", "valid", "test")},
    "feature_cols": [
        {"name": "user_id", "active": True, "dtype": "str", "type": "meta"},
        {"name": ["item_id", "cate_id"], "active": True, "dtype": "str", "type": "categorical"},
        {"name": "item_history", "share_embedding": "item_id", **SEQUENCE},
        {"name": "cate_history", "share_embedding": "cate_id", **SEQUENCE},
    ],
    "build": {"source": "amazon", "reviews": "./raw/reviews.json.gz", "meta": "./raw/meta.json.gz", "max_len": 30},
}


@pytest.fixture(scope="session")
def trained_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evolution")
    for name in ("raw", "config", "data"):
        (folder / name).mkdir()
    reviews, items = generate(0, World(users=60))
    write_lines(folder / "raw" / "reviews.json.gz", [json.dumps(review) for review in reviews])
    write_lines(folder / "raw" / "meta.json.gz", [repr(item) for item in items])
    experiments = {name: {**SETTINGS, **changes} for name, changes in EXPERIMENTS.items()}
    experiments["DIN"] = {
        key: value for key, value in experiments["DIN"].items() if not key.startswith(("dien_", "aux_"))
    }
    for name, content in (("model", {"Base": {}, **experiments}), ("dataset", {"tiny": ENTRY})):
        text = yaml.dump(content, Dumper=ConfigDumper)
        (folder / "config" / f"{name}_config.yaml").write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert train(["--expid", "trained"]) == 0
        for name in ("AGRU", "userless"):
            params = load_config(Path("config"), name).params
            model = build_model(find_model("DIEN"), load_feature_map(params), params)
            checkpoint.save(model.state_dict(), Path(model.checkpoint))
    return folder


@pytest.fixture
def workspace(trained_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(trained_folder)
    return trained_folder
