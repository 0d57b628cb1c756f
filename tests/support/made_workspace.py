"""A tiny zoo model on a tiny npz data set, in a folder like the project."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from dien_fuxictr.distributed import run_pool
from dien_fuxictr.experiment.cli import main

TINY_MODEL = """
import os
import pathlib
import signal
import time
import torch
from fuxictr.pytorch.layers import FeatureEmbedding, MLP_Block
from fuxictr.pytorch.models import BaseModel


class Tiny(BaseModel):
    def __init__(self, feature_map, model_id="Tiny", gpu=-1, learning_rate=1e-3, embedding_dim=4, net_dropout=0,
                 hidden_units=[8], fault=None, embedding_regularizer=None, net_regularizer=None, **kwargs):
        super().__init__(feature_map, model_id=model_id, gpu=gpu, embedding_regularizer=embedding_regularizer,
                         net_regularizer=net_regularizer, **kwargs)
        if fault == "value":
            raise ValueError("fault must not be 'value'")
        self.fault, self.steps = fault, 0
        self.embedding_layer = FeatureEmbedding(feature_map, embedding_dim)
        self.dnn = MLP_Block(input_dim=feature_map.sum_emb_out_dim(), output_dim=1, hidden_units=hidden_units,
                             dropout_rates=net_dropout, batch_norm=True)
        if fault != "no_optimizer":
            self.compile(kwargs["optimizer"], kwargs["loss"], learning_rate)
        if fault == "late_layer":
            self.late = torch.nn.Linear(2, 1)
        self.reset_parameters()
        self.model_to_device()

    def forward(self, inputs):
        logits = self.dnn(self.embedding_layer(self.get_inputs(inputs), flatten_emb=True))
        self.steps += self.training
        if self.fault in ("slow", "held") and self.training:
            while self.fault == "held" and self.steps == 3 and not pathlib.Path("go").exists():
                time.sleep(0.01)
            time.sleep(0.1)
        if self.fault == "killed" and self.steps == 9 and os.environ.get("RANK") in (None, "1"):
            killed = pathlib.Path("killed")
            if not killed.exists():
                killed.touch()
                os.kill(os.getpid() if "RANK" in os.environ else os.getppid(), signal.SIGKILL)
                time.sleep(60)
        if self.fault == "nan_prediction" and self.steps == 3:
            logits = logits * float("nan")
        if self.fault == "nan_evaluation" and not self.training:
            logits = logits * float("nan")
        if self.fault == "tensor":
            return logits
        if self.fault == "no_prediction":
            return {"logits": logits}
        if self.fault == "flat_prediction":
            logits = logits.flatten()
        return_dict = {"y_pred": self.output_activation(logits)}
        if self.fault == "nan_auxiliary":
            return_dict["aux_loss"] = logits.detach().mean() * float("nan")
        if self.fault == "auxiliary_off":
            return_dict["aux_loss"] = 0
        return return_dict

    def add_loss(self, return_dict, y_true):
        loss = super().add_loss(return_dict, y_true)
        if self.fault == "nan_auxiliary":
            loss = loss + return_dict["aux_loss"]
        if self.fault == "inf_loss":
            loss = loss * float("inf")
        if self.fault == "nan_gradient" and self.training and self.steps == 2:
            self.dnn.mlp[0].weight.register_hook(lambda gradient: gradient * float("nan"))
        return loss

    def diagnostics(self, batch):
        return {"attention/item": torch.rand(len(batch["item"]))}
"""


def base_settings() -> dict:
    return {
        "model": "Tiny",
        "dataset_id": "tiny",
        "loss": "binary_crossentropy",
        "metrics": ["AUC", "gAUC", "logloss"],
        "task": "binary_classification",
        "optimizer": "adam",
        "learning_rate": 1e-2,
        "batch_size": 32,
        "epochs": 3,
        "shuffle": True,
        "seed": 7,
        "monitor": "AUC",
        "monitor_mode": "max",
        "net_dropout": 0.2,
        "verbose": 0,
        "embedding_dim": 4,
        "num_workers": 0,
        "group_id": "user",
        "early_stop_patience": 9,
    }


def write_split(path: Path, rows: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    user, item = rng.integers(1, 20, rows), rng.integers(1, 30, rows)
    label = (rng.random(rows) < 0.1 + 0.8 * (item % 2)).astype(float)
    np.savez(path, user=user, item=item, label=label)


class Workspace:
    """Folder with config/, model_zoo/Tiny and the data set, and ways to run them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        source = folder / "model_zoo" / "Tiny" / "src"
        source.mkdir(parents=True)
        (source / "__init__.py").write_text("from .Tiny import Tiny\n")
        (source / "Tiny.py").write_text(TINY_MODEL)
        data = folder / "data" / "tiny"
        data.mkdir(parents=True)
        for seed, (split, rows) in enumerate({"train": 200, "valid": 80, "test": 70}.items()):
            write_split(data / f"{split}.npz", rows, seed)
        features = [
            {"user": {"type": "meta"}},
            {"item": {"source": "", "type": "categorical", "padding_idx": 0, "vocab_size": 32}},
        ]
        feature_map = {
            "dataset_id": "tiny",
            "num_fields": 1,
            "total_features": 32,
            "input_length": 2,
            "labels": ["label"],
            "features": features,
        }
        (data / "feature_map.json").write_text(json.dumps(feature_map))
        self.write_configs({"Tiny_test": {}})

    def write_configs(self, experiments: dict[str, dict], dataset: dict | None = None) -> None:
        config = self.folder / "config"
        config.mkdir(exist_ok=True)
        (config / "model_config.yaml").write_text(yaml.dump({"Base": base_settings(), **experiments}))
        entry = {
            "data_root": "./data/",
            "data_format": "npz",
            **{f"{s}_data": f"./data/tiny/{s}.npz" for s in ("train", "valid", "test")},
        }
        (config / "dataset_config.yaml").write_text(yaml.dump({"tiny": {**entry, **(dataset or {})}}))

    def use_csv(self, rows: int = 60) -> None:
        """Use raw CSV files with a sequence as the data set, encoded in-process."""
        rng = np.random.default_rng(0)
        for split in ("train", "valid", "test"):
            lines = ["label,user,item,history"]
            for _ in range(rows):
                item, length = rng.integers(0, 12), rng.integers(0, 6)
                history = "^".join(f"i{i}" for i in rng.integers(0, 12, length))
                label = int(rng.random() < 0.2 + 0.6 * (item % 2))
                lines.append(f"{label},u{rng.integers(0, 9)},i{item},{history}")
            (self.folder / f"{split}.csv").write_text("\n".join(lines) + "\n")
        item = {"active": True, "dtype": "str"}
        self.write_configs(
            {"Tiny_test": {}},
            {
                "data_format": "csv",
                **{f"{split}_data": f"{split}.csv" for split in ("train", "valid", "test")},
                "label_col": {"name": "label", "dtype": "float"},
                "feature_cols": [
                    {"name": "user", **item, "type": "meta"},
                    {"name": ["item"], **item, "type": "categorical"},
                    {"name": "unused", "active": False, "dtype": "str", "type": "categorical"},
                    {
                        "name": "history",
                        **item,
                        "type": "sequence",
                        "splitter": "^",
                        "max_len": 5,
                        "padding": "post",
                        "share_embedding": "item",
                    },
                ],
                "data_root": "./built/",
            },
        )
        (self.folder / "built").mkdir()

    def run(self, *arguments: str, expid: str = "Tiny_test") -> int:
        """`run_expid.py` in this process; its exit code."""
        return main(["--config", "config", "--expid", expid, *arguments])

    def file(self, suffix: str, expid: str = "Tiny_test") -> Path:
        return self.folder / "checkpoints" / "tiny" / f"{expid}{suffix}"


@pytest.fixture
def settings_of_tiny() -> dict:
    return base_settings()


@pytest.fixture
def bad(workspace, capsys):
    """Run with bad input, and return the line of the error.

    The exit code is 2, there is one line on stderr, all files are unchanged, and new ones are only in data roots.
    """

    def contents() -> dict[Path, bytes]:
        files = [path for path in workspace.folder.rglob("*") if path.is_file()]
        return {path: path.read_bytes() for path in files if path.suffix not in (".pyc", ".lock")}

    def run(*arguments: str, expid: str = "Tiny_test") -> str:
        before = contents()
        capsys.readouterr()
        assert workspace.run(*arguments, expid=expid) == 2
        error = capsys.readouterr().err
        assert "Traceback" not in error
        last = error.splitlines()[-1]
        assert last.startswith("error: ") and error.count("error: ") == 1
        after = contents()
        assert {path: after[path] for path in before} == before
        assert all("built2" in path.parts for path in after.keys() - before.keys())
        return last

    return run


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    workspace = Workspace(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [name for name in sys.modules if name.startswith("model_zoo.Tiny")]:
        monkeypatch.delitem(sys.modules, name)
    return workspace


@pytest.fixture
def trained(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> Workspace:
    """After a run of its experiment, whose output is captured."""
    assert workspace.run() == 0
    return workspace


@pytest.fixture
def script(workspace, monkeypatch):
    """Replace `run_expid.py` by other code."""

    def put(code: str) -> Path:
        file = workspace.folder / "a script.py"
        file.write_text(code)
        monkeypatch.setattr(run_pool, "COMMAND", (sys.executable, "-u", str(file)))
        return file

    return put
