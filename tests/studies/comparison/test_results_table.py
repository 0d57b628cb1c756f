import csv

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from dien_fuxictr.studies.comparison.results_table import Row, as_csv, as_markdown, cells, make_rows


def runs(strengths: list[float], seed: int, rows: int = 800) -> tuple[list[dict], list[dict[str, np.ndarray]]]:
    rng = np.random.default_rng(seed)
    label, group = np.tile([1.0, 0.0], rows // 2), np.repeat(np.arange(rows // 2), 2)
    luck = rng.normal(size=rows)
    results, predictions = [], []
    for number, strength in enumerate(strengths):
        score = luck + rng.normal(strength * label, 0.1)
        auc = roc_auc_score(label, score)
        results.append(
            {
                "test": {"AUC": auc, "gAUC": auc - 0.01, "logloss": 0.5 + number / 10},
                "parameters": 1234,
                "epochs": 2 + number,
                "train_seconds": 10.0,
                "train_rows": 500,
                "inference_ms": 3.0,
            }
        )
        predictions.append({"label": label, "score": score, "group": group})
    return results, predictions


@pytest.fixture
def rows() -> list[Row]:
    results, predictions = zip(runs([1, 1], 0), runs([1, 1], 1), runs([2, 2], 2), runs([0.3, 0.3], 3), strict=True)
    names = ["base", "same", "better", "worse"]
    return make_rows(dict(zip(names, results, strict=True)), dict(zip(names, predictions, strict=True)), "base")


def test_rows_are_sorted_and_judged_by_the_interval(rows: list[Row]) -> None:
    assert (rows[0].expid, rows[-1].expid) == ("better", "worse")
    assert {row.expid: row.verdict for row in rows} == {
        "base": "base",
        "same": "not ranked",
        "better": "better",
        "worse": "worse",
    }
    for row in rows:
        if row.low is not None:
            base = next(other for other in rows if other.expid == "base")
            assert row.low < row.difference < row.high and row.difference == pytest.approx(row.auc - base.auc)


def test_rows_whose_intervals_overlap_share_their_places(rows: list[Row]) -> None:
    assert {row.expid: (row.first, row.last) for row in rows} == {
        "better": (1, 1),
        "base": (2, 3),
        "same": (2, 3),
        "worse": (4, 4),
    }
    assert [cells(row)[0] for row in rows] == ["1", "2-3", "2-3", "4"]


def test_with_one_run_nothing_is_ranked() -> None:
    results, predictions = zip(runs([1], 0), runs([3], 1), runs([1, 1], 2), strict=True)
    names = ["base", "far above", "many"]
    made = make_rows(dict(zip(names, results, strict=True)), dict(zip(names, predictions, strict=True)), "base")
    assert made[0].low and made[0].low > 0 and made[0].expid == "far above"
    assert {row.expid: (row.verdict, row.first, row.last) for row in made} == {
        "base": ("base", 1, 3),
        "far above": ("one run", 1, 3),
        "many": ("one run", 1, 3),
    }
    assert cells(made[0])[6].endswith("] of users alone")


def test_with_runs_too_far_apart_nothing_is_ranked() -> None:
    results, predictions = zip(runs([1, 1], 0), runs([3, -3], 1), strict=True)
    names = ["base", "apart"]
    made = make_rows(dict(zip(names, results, strict=True)), dict(zip(names, predictions, strict=True)), "base")
    row = next(row for row in made if row.expid == "apart")
    assert (row.verdict, row.first, row.last, row.low, row.auc_low) == ("not enough seeds", 1, 2, None, None)
    assert cells(row)[6] == f"{row.difference:+.4f} not enough seeds"
    (read,) = (row for row in csv.DictReader(as_csv(made).splitlines()) if row["expid"] == "apart")
    assert (read["low"], read["too_few"], read["verdict"]) == ("", "seeds", "not enough seeds")


def test_means_over_seeds_and_the_papers_improvement(rows: list[Row]) -> None:
    base, better, worse = ({row.expid: row for row in rows}[name] for name in ("base", "better", "worse"))
    assert base.logloss == pytest.approx(0.55) and base.logloss_std == pytest.approx(np.std([0.5, 0.6], ddof=1))
    assert (worse.runs, base.runs) == (2, 2)
    assert better.improvement == pytest.approx((better.auc - 0.5) / (base.auc - 0.5) - 1) and base.improvement == 0
    assert (base.epochs, base.epoch_seconds, base.samples_per_second) == (2.5, 20 / 5, 50)


def test_metrics_that_a_run_did_not_ask_for_are_left_out() -> None:
    results, predictions = runs([1, 1], 0)
    for result in results:
        del result["test"]["gAUC"]
    (row,) = make_rows({"base": results[:1]}, {"base": predictions[:1]}, "base")
    assert row.gauc is None and row.logloss is not None and row.auc_std is None


def test_written_forms(rows: list[Row]) -> None:
    lines = as_markdown(rows).splitlines()
    assert len(lines) == 6 and len({len(line) for line in lines}) == 1
    assert f"| {rows[-1].auc:.4f} " in lines[-1] and f"| {rows[0].auc:.4f} ± {rows[0].auc_std:.4f} " in lines[2]
    assert lines[2].startswith("| 1     | better") and "not ranked" in as_markdown(rows) and "1,234" in lines[2]
    read = list(csv.DictReader(as_csv(rows).splitlines()))
    assert [row["expid"] for row in read] == [row.expid for row in rows] and float(read[0]["auc"]) == rows[0].auc
