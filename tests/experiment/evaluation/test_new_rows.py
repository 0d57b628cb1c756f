"""Scores of new rows, on a data set encoded in-process from CSV files."""

import gzip
import re

import polars as pl
import pytest
import torch

from dien_fuxictr.experiment.evaluation.metrics import evaluate_metrics
from dien_fuxictr.experiment.training.checkpoint import load


@pytest.fixture
def trained(workspace, capsys):
    workspace.use_csv()
    assert workspace.run() == 0
    return workspace


def test_scores_are_those_of_the_test_evaluation_bit_for_bit(trained, capsys, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "dien_fuxictr.experiment.evaluation.evaluate.evaluate_metrics",
        lambda *arguments: seen.append(arguments[1]) or evaluate_metrics(*arguments),
    )
    assert trained.run("--eval-only") == 0
    test = pl.read_csv(trained.folder / "test.csv")
    test.drop("label").write_csv(trained.folder / "new.csv")
    assert trained.run("--predict", "new.csv", "--out", "scores.csv") == 0
    scores = pl.read_csv(trained.folder / "scores.csv")
    assert scores.columns == ["user", "score"]
    assert scores["user"].to_list() == test["user"].to_list()
    assert scores["score"].to_list() == seen[-1].tolist()


def test_prediction_logs_warnings_and_keeps_row_order(trained, capsys):
    rows = pl.read_csv(trained.folder / "test.csv").reverse()
    rows.write_csv(trained.folder / "new.csv")
    assert trained.run("--predict", "new.csv") == 0
    forward = pl.read_csv(trained.folder / "Tiny_test_predictions.csv")
    assert forward["user"].to_list() == rows["user"].to_list()
    assert "Predictions: 60 rows" in trained.file(".log").read_text()


def test_empty_lines_are_no_rows(trained):
    lines = (trained.folder / "test.csv").read_text().splitlines()
    (trained.folder / "new.csv").write_text("\n".join([*lines[:9], "", *lines[9:], "", ""]))
    for file in ("test.csv", "new.csv"):
        assert trained.run("--predict", file, "--out", f"scores_of_{file}") == 0
    assert (trained.folder / "scores_of_new.csv").read_bytes() == (trained.folder / "scores_of_test.csv").read_bytes()


def test_unseen_ids_are_counted(trained, capsys):
    (trained.folder / "new.csv").write_text("user,item,history\nu1,brand_new,i1^other\nnobody,i1,\n")
    assert trained.run("--predict", "new.csv") == 0
    text = capsys.readouterr().err
    assert re.search(r"warning: item: 1 unseen ids", text) and re.search(r"warning: history: 1 unseen ids", text)


def test_parquet_and_gzipped_csv_files(trained):
    test = pl.read_csv(trained.folder / "test.csv", infer_schema=False)
    test.write_parquet(trained.folder / "new.parquet")
    (trained.folder / "new.csv.gz").write_bytes(gzip.compress((trained.folder / "test.csv").read_bytes()))
    for file in ("test.csv", "new.parquet", "new.csv.gz"):
        assert trained.run("--predict", file, "--out", f"scores_of_{file}") == 0
    scores = [(trained.folder / f"scores_of_{file}").read_bytes() for file in ("test.csv", "new.parquet", "new.csv.gz")]
    assert scores[0] == scores[1] == scores[2] and len(scores[0].splitlines()) == 61


def failure(workspace, capsys, *arguments: str) -> str:
    capsys.readouterr()
    assert workspace.run(*arguments) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    return error.splitlines()[-1]


def test_only_the_file_that_out_names_is_overwritten(trained, capsys):
    default = trained.folder / "Tiny_test_predictions.csv"
    default.write_text("mine")
    assert "already exists; --out" in failure(trained, capsys, "--predict", "test.csv")
    assert default.read_text() == "mine"
    assert trained.run("--predict", "test.csv", "--out", str(default)) == 0
    assert pl.read_csv(default).height == 60


def test_bad_input_leaves_the_old_scores(trained, capsys):
    out = trained.folder / "scores.csv"
    out.write_text("old")
    (trained.folder / "no_item.csv").write_text("user,label\nu1,1\n")
    (trained.folder / "cut.csv").write_text("user,item,history\nu1,i1,i2\nu1,i1")
    (trained.folder / "new.tsv").write_text("user\titem\thistory\nu1\ti1\ti1\n")
    for file, message in (
        ("none.csv", "--predict none.csv does not exist"),
        ("no_item.csv", "no_item.csv: columns item, history are missing; it needs item, history and has user, label"),
        ("cut.csv", "cut.csv: line 3 has 2 fields where the header has 3"),
        ("new.tsv", "new.tsv must end in .csv, .csv.gz, .parquet"),
    ):
        assert message in failure(trained, capsys, "--predict", file, "--out", str(out))
    trained.file(".model").unlink()
    assert "does not exist" in failure(trained, capsys, "--predict", "test.csv", "--out", str(out))
    assert out.read_text() == "old"


def test_data_set_of_the_zoos_loader_has_no_encoder(workspace, capsys):
    assert workspace.run() == 0
    (workspace.folder / "new.csv").write_text("user,item\n1,2\n")
    assert "encoder.json does not exist" in failure(workspace, capsys, "--predict", "new.csv")


def test_resume_refuses_other_data(trained, capsys):
    state = load(trained.file(".resume"))
    torch.save({**state, "config": {**state["config"], "content of the data set": "'other'"}}, trained.file(".resume"))
    assert "differs in the content of the data set" in failure(trained, capsys, "--resume")
