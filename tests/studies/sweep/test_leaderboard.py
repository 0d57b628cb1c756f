"""Table: order, columns, what goes to the terminal."""

import csv
from pathlib import Path

import pytest

from dien_fuxictr.studies.runs.run import Run
from dien_fuxictr.studies.sweep.leaderboard import build_leaderboard, render_table, write_csv


def made_run(expid: str, params: dict) -> Run:
    return Run(expid, params, Path("sweep"), Path("sweep"))


def result(valid: dict[str, float], test: dict[str, float]) -> dict:
    return {"valid": valid, "test": test}


def board(values: dict[str, float], metric: str = "AUC", **params: object) -> list[dict[str, str]]:
    runs = [
        made_run(expid, {"model_id": expid, "dim": i, "monitor": metric, **params}) for i, expid in enumerate(values)
    ]
    return build_leaderboard(runs, {expid: result({metric: value}, {}) for expid, value in values.items()})


@pytest.mark.parametrize(("mode", "order"), [("max", ["b", "a", "c"]), ("min", ["a", "b", "c"])])
def test_best_first_and_nan_last(mode, order):
    rows = board({"c": float("nan"), "a": 0.2, "b": 0.7}, monitor_mode=mode)
    assert [row["expid"] for row in rows] == order and [row["rank"] for row in rows] == ["1", "2", "3"]


def test_sum_of_metrics_is_a_column():
    runs = [made_run(expid, {"monitor": {"AUC": 1, "logloss": -1}}) for expid in "ab"]
    results = {"a": result({"AUC": 0.8, "logloss": 0.5}, {"AUC": 0.1}), "b": result({"AUC": 0.7, "logloss": 0.1}, {})}
    rows = build_leaderboard(runs, results)
    assert [(row["expid"], row["monitor"]) for row in rows] == [("b", "0.600000"), ("a", "0.300000")]
    assert list(rows[0]) == ["rank", "expid", "monitor", "val AUC", "val logloss", "test AUC"]
    assert [row["test AUC"] for row in rows] == ["", "0.100000"]


def test_columns_are_what_differs_among_finished_runs():
    runs = [
        made_run("a", {"x": 1, "y": [1], "z": 0}),
        made_run("b", {"x": 1, "y": [2]}),
        made_run("c", {"x": 1, "y": [2], "z": 0}),
    ]
    rows = build_leaderboard(runs, {"a": result({"AUC": 0.5}, {}), "b": result({"AUC": 0.6}, {})})
    assert rows == [
        {"rank": "1", "expid": "b", "y": "[2]", "z": "", "val AUC": "0.600000"},
        {"rank": "2", "expid": "a", "y": "[1]", "z": "0", "val AUC": "0.500000"},
    ]
    assert build_leaderboard(runs, {}) == []


def test_text_has_numbers_with_six_digits_and_the_csv_all():
    values = [0.0005175628135512181, 2e-05 / 3, 12.5, "a.b.c.d.e.f.g", 20222023123]
    rows = build_leaderboard(
        [made_run(str(i), {"x": value}) for i, value in enumerate(values)],
        {str(i): result({"AUC": 0.5}, {}) for i in range(5)},
    )
    assert [row["x"] for row in rows] == [str(value) for value in values]
    shown = [line.split()[2] for line in render_table(rows).splitlines()[1:]]
    assert shown == ["0.000517563", "6.66667e-06", "12.5", "a.b.c.d.e.f.g", "20222023123"]


def test_text_leaves_out_long_values_and_the_csv_does_not(tmp_path):
    runs = [made_run("a" * 40, {"x": "long" * 20, "y": 1}), made_run("b", {"x": "", "y": 10})]
    rows = build_leaderboard(runs, {run.expid: result({"AUC": 0.5}, {}) for run in runs})
    assert render_table(rows).splitlines() == [
        f"rank  expid{' ' * 35}  y   val AUC",
        f"1     {'a' * 40}  1   0.500000",
        f"2     b{' ' * 39}  10  0.500000",
    ]
    write_csv(rows, tmp_path / "a folder" / "board.csv")
    with open(Path(tmp_path, "a folder", "board.csv"), newline="") as file:
        assert list(csv.DictReader(file)) == rows
