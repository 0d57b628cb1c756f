"""Data sets and models of commit 49f06ef work unchanged.

project_of_49f06ef has the sample of 40 users with its built set, a DIEN of one epoch and the scores of its test rows.
"""

import shutil
from pathlib import Path

import polars as pl
import pytest

from dien_fuxictr.experiment.cli import main

PROJECT = Path(__file__).with_name("project_of_49f06ef")
CONFIG = Path(__file__).parents[2] / "config"
KEYS = (
    *("epochs=1", "embedding_dim=4", "dnn_hidden_units=[8]", "attention_hidden_units=[6]", "aux_hidden_units=[6]"),
    *("learning_rate=0.05", "batch_size=16", "verbose=0"),
)
COMMAND = ("--expid", "DIEN_amazon", *(word for key in KEYS for word in ("--set", key)))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = shutil.copytree(PROJECT, tmp_path / "project")
    shutil.copytree(CONFIG, folder / "config")
    monkeypatch.chdir(folder)
    return folder


def test_its_checkpoint_scores_as_it_did(project: Path) -> None:
    samples = "data/amazon/samples/test.parquet"
    assert main([*COMMAND, "--predict", samples, "--out", "now.csv"]) == 0
    now, then = (pl.read_csv(project / name) for name in ("now.csv", "scores.csv"))
    assert now.drop("score").equals(then.drop("score"))
    assert now["score"].to_list() == pytest.approx(then["score"].to_list(), abs=1e-5) and then["score"].std() > 0.01


def test_its_data_set_is_not_built_again(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {file: file.stat().st_mtime_ns for file in (project / "data" / "amazon").rglob("*.*")}
    assert main([*COMMAND, "--eval-only", "--verbose"]) == 0
    after = {file: file.stat().st_mtime_ns for file in before}
    changed = {file.name for file in before if after[file] != before[file]}
    assert len(before) > 10 and changed <= {"fingerprint.json"}, "it has the path of the raw files"
    assert "[Metrics] AUC: 0.514375 - gAUC: 0.475000 - logloss: 0.705040" in capsys.readouterr().err
