"""Metrics, compared with the zoo's and with the mean over orders of ties."""

from itertools import permutations

import fuxictr.metrics as zoo
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.experiment.evaluation.metrics import check_metric, evaluate_metrics

GROUPED = ["gAUC", "avgAUC", "MRR", "NDCG(k=1)", "NDCG(k=3)", "NDCG(5)"]
RANKS = [name for name in GROUPED if "AUC" not in name]
ZOO = {
    "gAUC": zoo.gAUC,
    "avgAUC": zoo.avgAUC,
    "MRR": zoo.MRR,
    "NDCG(k=1)": zoo.NDCG(1),
    "NDCG(k=3)": zoo.NDCG(3),
    "NDCG(5)": zoo.NDCG(5),
}


def zoo_value(name: str, y_true: np.ndarray, y_pred: np.ndarray, group: np.ndarray) -> float:
    values = [ZOO[name](y_true[group == g], y_pred[group == g]) for g in np.unique(group)]
    pairs = np.array([value if isinstance(value, tuple) else (value, 1) for value in values], float)
    with np.errstate(invalid="ignore"):
        return pairs[:, 0].sum() / pairs[:, 1].sum()


@st.composite
def rows(draw, scores) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    n = draw(st.integers(1, 40))
    labels = draw(st.lists(st.sampled_from([0.0, 1.0]), min_size=n, max_size=n))
    groups = draw(st.lists(st.integers(-3, 4), min_size=n, max_size=n))
    return np.array(labels), np.array(draw(scores(n))), np.array(groups)


def tied(n: int):
    return st.lists(st.sampled_from([0.1, 0.2, 0.5, 0.9]), min_size=n, max_size=n)


def distinct(n: int):
    return st.lists(st.floats(0, 1, width=32), min_size=n, max_size=n, unique=True)


@settings(max_examples=60, deadline=None)
@given(rows(tied))
def test_group_auc_equals_zoo_with_ties_and_one_class(data):
    result = evaluate_metrics(*data[:2], ["gAUC", "avgAUC"], data[2])
    for name, value in result.items():
        np.testing.assert_allclose(value, zoo_value(name, *data), atol=1e-9, rtol=0)


@settings(max_examples=60, deadline=None)
@given(rows(distinct))
def test_ranking_metrics_equal_the_zoo_without_ties(data):
    result = evaluate_metrics(*data[:2], RANKS, data[2])
    for name, value in result.items():
        np.testing.assert_allclose(value, zoo_value(name, *data), atol=1e-9, rtol=0)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([0.0, 1.0, 2.0]), st.sampled_from([0.2, 0.7])), min_size=1, max_size=6))
def test_ties_earn_the_mean_over_their_orders(pairs):
    y_true, y_pred = np.array(pairs).T
    orders = [list(order) for order in permutations(range(len(pairs)))]
    nudges = -1e-9 * np.arange(len(pairs))
    for name in RANKS:
        expected = np.mean([ZOO[name](y_true[order], y_pred[order] + nudges) for order in orders])
        value = evaluate_metrics(y_true, y_pred, [name], np.zeros(len(pairs)))[name]
        np.testing.assert_allclose(value, expected, atol=1e-9, rtol=0)


def test_constant_score_does_not_gain_from_row_order():
    first, last = np.array([1.0, 0, 0, 0]), np.array([0, 0, 0, 1.0])
    for name in RANKS:
        values = [evaluate_metrics(y, np.full(4, 0.5), [name], np.zeros(4))[name] for y in (first, last)]
        assert values[0] == values[1] < 1


@settings(max_examples=40, deadline=None)
@given(rows(tied))
def test_auc_and_logloss_equal_the_zoo(data):
    y_true, y_pred, _ = data
    result = evaluate_metrics(y_true, y_pred, ["AUC", "logloss", "binary_crossentropy"])
    assert list(result) == ["AUC", "logloss", "binary_crossentropy"]
    if 0 < y_true.sum() < len(y_true):
        expected = zoo.evaluate_metrics(y_true, y_pred, ["AUC", "logloss"])
        assert result["AUC"] == pytest.approx(expected["AUC"], abs=1e-12)
        assert result["logloss"] == pytest.approx(expected["logloss"], abs=1e-12)
    else:
        assert np.isnan(result["AUC"])


def test_logloss_of_saturated_predictions_is_finite():
    result = evaluate_metrics(np.array([1.0, 0.0]), np.array([0.0, 1.0]), ["logloss"])
    assert result["logloss"] == pytest.approx(-np.log(np.finfo(float).eps))


def test_regression_metrics():
    result = evaluate_metrics(np.array([1.0, 2, 4]), np.array([1.0, 4, 3]), ["MSE", "RMSE", "MAE"])
    assert result == pytest.approx({"MSE": 5 / 3, "RMSE": (5 / 3) ** 0.5, "MAE": 1.0})


def test_nan_prediction_makes_every_metric_nan():
    result = evaluate_metrics(np.array([1.0, 0]), np.array([0.3, np.nan]), ["AUC", "gAUC", "logloss"], np.zeros(2))
    assert all(np.isnan(value) for value in result.values())


@pytest.mark.parametrize("name", ["auc", "NDCG", "NDCG(k=0)", "NDCG(k=-1)", "NDCG(__import__('os'))", "", 3, None])
def test_unknown_metric_is_refused(name):
    with pytest.raises(UserError, match="allowed: AUC, logloss, gAUC"):
        check_metric(name)


def test_metric_per_group_needs_groups():
    with pytest.raises(UserError, match="gAUC needs group_id"):
        evaluate_metrics(np.array([0.0, 1]), np.array([0.0, 1]), ["gAUC"])
