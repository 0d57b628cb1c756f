"""research/own_log.md shows the runs of research/own_log.csv."""

import csv
from collections import defaultdict
from pathlib import Path
from statistics import mean

import pytest
from pages import ROOT, tables

from dien_fuxictr.experiment.configuration.new_entry import recommend
from research.programs.own_log import MODELS, SETS, main

PAGE = ROOT / "research" / "own_log.md"
NAMES = dict(zip(MODELS, ("DIEN with GRU", "DIEN", "DIN", "sum pooling"), strict=True))
with open(ROOT / "research" / "own_log.csv", encoding="utf-8", newline="") as file:
    ROWS = list(csv.DictReader(file))


def figure(value: float) -> str:
    return f"{value:.4f}".removeprefix("0")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: "-".join((row["data"], row["model"], row["seed"])))
def test_a_run_has_the_recommended_settings(row: dict[str, str]) -> None:
    train = {"rows": int(row["rows"]), "positives": int(row["positives"]), "mean_history": float(row["mean_history"])}
    settings = recommend({"users": int(row["users"]), "items": int(row["items"]), "train": train})
    has_loss = row["model"].startswith("DIEN")
    assert float(row["embedding_regularizer"]) == (settings.aux_regularizer if has_loss else settings.regularizer)
    assert int(row["batch_size"]) == settings.batch_size and int(row["epochs"]) <= settings.epochs
    assert row["aux_loss_alpha"] == (("3" if settings.has_few_labels else "0.3") if has_loss else "")


def test_every_run_has_learnt() -> None:
    assert min(float(row["test_AUC"]) for row in ROWS) > 0.55


def test_the_table_is_of_the_rows() -> None:
    runs = defaultdict(list)
    for row in ROWS:
        runs[row["data"], row["model"]].append(row)
    (shown,) = (rows for head, *rows in tables(PAGE.read_text(encoding="utf-8")) if len(head) == 9)
    assert [row[:-1] for row in shown] == [
        [
            data,
            NAMES[model],
            f"{float(rows[0]['embedding_regularizer']):g}",
            rows[0]["batch_size"],
            str(len(rows)),
            figure(mean(float(row["valid_AUC"]) for row in rows)),
            figure(mean(float(row["test_AUC"]) for row in rows)),
            figure(min(float(row["test_AUC"]) for row in rows)),
        ]
        for data in SETS
        for model in MODELS
        if (rows := runs[data, model])
    ]


def test_the_program_adds_a_row_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["clicks_2k", "--models", "EmbeddingMLP", "--epochs", "1", "--rows", "rows.csv"]
    assert main(arguments) == 0 and main(arguments) == 0
    with open("rows.csv", encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    assert row.keys() == ROWS[0].keys()
    assert (row["data"], row["seed"], row["rows"], row["batch_size"], row["epochs"]) == (
        "clicks_2k", "2019", "3850", "64", "1",
    )  # fmt: skip
