import re

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from dien_fuxictr.studies.comparison.report_pictures import (
    BINS,
    Picture,
    calibration,
    draw_all,
    draw_curve,
    draw_slices,
    slice_aucs,
)
from dien_fuxictr.studies.comparison.results_table import make_rows
from dien_fuxictr.studies.comparison.slices import Slices
from dien_fuxictr.studies.comparison.statistics import mean_auc, score_runs


def made() -> tuple[list, list[str], dict, dict]:
    rng = np.random.default_rng(0)
    label = np.tile([1.0, 0.0], 100)
    results, predictions = {}, {}
    for expid, epochs in (("a", (2, 3)), ("b", (1,))):
        results[expid] = [
            {
                "test": {"AUC": 0.7},
                "parameters": 1,
                "epochs": n,
                "train_seconds": 1.0,
                "train_rows": 1,
                "inference_ms": 1.0,
                "curve": [{"step": k, "loss/train": 9.0, "loss/target": 0.5 + n * k} for k in range(n)],
            }
            for n in epochs
        ]
        predictions[expid] = [{"label": label, "score": rng.random(200)} for _ in epochs]
    rows = make_rows(results, predictions, "a")
    return rows, [f'data-row="{number}"' for number in range(len(rows))], results, predictions


def texts(picture: Picture | None) -> list[str]:
    """What the mouse finds."""
    assert picture
    return re.findall(r"<title>(.*?)</title>", picture.svg)


def test_every_picture_is_drawn_and_those_without_values_are_left_out() -> None:
    halves = Slices("history length", ["1", "2-9"], np.arange(200) // 100)
    pictures = draw_all(*made(), [halves])
    assert [picture.title for picture in pictures] == [
        "Test AUC",
        "Test AUC by history length",
        "Training loss",
        "Calibration",
    ]
    for picture in pictures:
        assert re.findall(r'data-row="(\d)"', picture.svg) == ["0", "1"]


def test_the_learning_curve_is_without_auxiliary_loss_and_the_mean_over_the_seeds_that_got_as_far() -> None:
    _, marks, results, _ = made()
    picture = draw_curve({"a": marks[0]}, results, "loss/target")
    assert texts(picture) == ["a, evaluation 1: 0.5000", "a, evaluation 2: 3.0000", "a, evaluation 3: 6.5000"]
    assert draw_curve({"a": marks[0]}, results, "loss/auxiliary") is None


def test_auc_of_each_part_is_the_mean_over_the_seeds() -> None:
    label = np.array([1.0, 0, 1, 0, 1])
    runs = [
        {"label": label, "score": np.array([0.9, 0.1, 0.2, 0.8, 0.5])},
        {"label": label, "score": np.array([0.9, 0.1, 0.8, 0.2, 0.5])},
    ]
    assert [auc.mean for auc in slice_aucs(runs, Slices("", ["a", "b"], np.array([0, 0, 1, 1, 1])))] == [1.0, 0.5]
    assert np.isnan(slice_aucs(runs, Slices("", ["a", "b"], np.array([0, 0, 0, 0, 1])))[1].mean)


def test_intervals_of_a_part_are_those_of_the_table_on_its_rows() -> None:
    rng = np.random.default_rng(0)
    label, group = np.tile([1.0, 0.0], 200), np.repeat(np.arange(100), 4)
    runs = [{"label": label, "group": group, "score": rng.normal(label)} for _ in range(3)]
    rows = np.arange(400) < 320
    picked = slice_aucs(runs, Slices("", ["a", "b"], np.where(rows, 0, 1)))
    first = picked[0]
    assert first.mean == pytest.approx(np.mean([roc_auc_score(label[rows], run["score"][rows]) for run in runs]))
    of_rows = [{"label": label[rows], "group": group[rows], "score": run["score"][rows]} for run in runs]
    assert first == mean_auc(score_runs(of_rows)) and first.low is not None and first.high is not None
    picture = draw_slices({"a": ""}, {"a": runs}, Slices("length", ["1", "2"], np.where(rows, 0, 1)))
    assert texts(picture)[0] == f"a, 1: {first.mean:.4f} [{first.low:.4f}, {first.high:.4f}]"
    assert picture.svg.count('class="interval"') == picture.svg.count('class="line apart"') == 1


def test_a_part_with_too_few_runs_has_no_bar() -> None:
    label = np.tile([1.0, 0.0], 100)
    runs = [{"label": label, "score": label}, {"label": label, "score": -label}]
    picture = draw_slices({"a": ""}, {"a": runs}, Slices("length", ["1"], np.zeros(200, int)))
    assert texts(picture) == ["a, 1: 0.5000 too few runs"] and 'class="interval"' not in picture.svg


def test_calibration_of_perfectly_calibrated_predictions() -> None:
    rng = np.random.default_rng(0)
    score = rng.random(50_000)
    label = (rng.random(50_000) < score).astype(float)
    predicted, observed = calibration(label, score)
    assert len(predicted) == BINS and (np.diff(predicted) > 0).all()
    np.testing.assert_allclose(observed, predicted, atol=0.02)  # 3 standard errors of a bin's share
