"""Models of other projects, trained on an experiment's samples."""

import json
from functools import partial
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from made_project import make_project

from benchmarks.entries import build_own
from benchmarks.synthetic_batches import NEGATIVES, Sizes
from benchmarks.systems import NET
from research.programs import auc_of_other_projects as program


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(make_project(tmp_path / "project", epochs=2, verbose=0))


def test_a_row_for_each_rate(monkeypatch):
    """With this project's DIEN in the place of the others', which need not be installed."""
    peers = {"torch": partial(build_own, work=NET, backend="torch"), "no-such-package": None}
    monkeypatch.setattr(program, "PEERS", peers)
    rates = ["--learning-rates", "0.01", "0.02"]
    assert program.main(["--config", "config", "--expid", "DIEN_amazon", *rates, "--json", "out.json"]) == 0
    report = json.loads(Path("out.json").read_text())
    (rows,) = report["tables"].values()
    assert [row["learning rate"] for row in rows] == [0.01, 0.02]
    for row in rows:
        assert row["system"] == f"torch {version('torch')}"
        assert row["validation AUC"] == f"{max(row['curve']):.4f}"
        assert row["epoch"] == f"{1 + row['curve'].index(max(row['curve']))} of 2"
        assert 0 < float(row["test AUC"]) < 1
    assert report["notes"] == ["no-such-package is left out: pip install -r requirements-bench.txt"]


def test_negatives_are_behaviours_of_the_batch():
    batch = {
        "item_id": torch.tensor([9, 8]),
        "cate_id": torch.tensor([2, 1]),
        "item_history": torch.tensor([[3, 4, 5], [6, 0, 0]]),
        "cate_history": torch.tensor([[13, 14, 15], [16, 0, 0]]),
        "label": torch.tensor([[1.0], [0.0]]),
    }
    made = program._prepared(batch, Sizes(max_len=4))
    assert made["item_history"].tolist() == [[3, 4, 5, 0], [6, 0, 0, 0]] and made["label"].tolist() == [1, 0]
    negatives, its = (made[name] for name in NEGATIVES)
    assert ((negatives > 0) == (made["item_history"] > 0)).all()
    drawn = negatives[negatives > 0]
    assert set(drawn.tolist()) <= {3, 4, 5, 6} and (its[its > 0] == drawn + 10).all()


def test_a_data_set_of_other_fields(capsys):
    entry = ["--set", "use_features=[user_id, item_id, cate_id, item_history]", "dien_target_field=item_id"]
    assert program.main(["--config", "config", *entry, "dien_sequence_field=item_history"]) == 2
    assert "the data set has not all of item_history, cate_history" in capsys.readouterr().err
