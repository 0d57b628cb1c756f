"""Metrics of the zoo, vectorised over groups, without processes or eval.

AUC, logloss, gAUC and avgAUC equal the zoo's (`fuxictr.metrics`). MRR and NDCG are equal if no scores tie inside a
group. With ties the zoo's value depends on the order of the rows; here it is the expectation over all orders of the
tied rows, so that a constant score gets the value of a random order. MSE, RMSE and MAE are for `task: regression`.
"""

import re
from collections.abc import Callable, Sequence
from functools import cached_property, partial

import numpy as np

from dien_fuxictr.common.errors import UserError

_NDCG = re.compile(r"NDCG\((?:k\s*=\s*)?(\d+)?\)")
_ALLOWED = "AUC, logloss, gAUC, avgAUC, MRR, NDCG(k=5), MSE, RMSE, MAE"


class _Ranking:
    """Rows sorted by group and falling score, cut into blocks of tied scores.

    Args:
        y_true: (N,) labels or graded relevances.
        y_pred: (N,) scores.
        group: (N,) group of each row.
    """

    def __init__(self, y_true: np.ndarray, y_pred: np.ndarray, group: np.ndarray) -> None:
        codes = np.unique(group, return_inverse=True)[1]
        order = np.argsort(-y_pred, kind="stable")
        order = order[np.argsort(codes[order], kind="stable")]
        self.codes, self.labels, scores = codes[order], y_true[order], y_pred[order]
        new_group = np.ones(len(order), bool)
        new_group[1:] = self.codes[1:] != self.codes[:-1]
        new_block = new_group.copy()
        new_block[1:] |= scores[1:] != scores[:-1]
        self.group_start = np.flatnonzero(new_group)
        self.group_size = np.diff(self.group_start, append=len(order))
        self.block_start = np.flatnonzero(new_block)
        self.block_size = np.diff(self.block_start, append=len(order))
        self.block_group = self.codes[self.block_start]
        # Rank (from 0) inside its group at which each block starts.
        self.block_rank = self.block_start - self.group_start[self.block_group]

    def block_sum(self, values: np.ndarray) -> np.ndarray:
        """Sum of a row's values over each block of ties."""
        return np.add.reduceat(values, self.block_start)

    def group_sum(self, values: np.ndarray) -> np.ndarray:
        """Sum of a row's values over each group."""
        return np.add.reduceat(values, self.group_start)

    def expected_sum(self, gains: np.ndarray, discount: np.ndarray) -> np.ndarray:
        """Return per group the expected sum(gain * discount[rank]) over orders of ties.

        Args:
            gains: (N,) gain of each sorted row.
            discount: (longest group,) weight of each rank.
        """
        until = np.concatenate([[0.0], np.cumsum(discount)])
        mean_discount = (until[self.block_rank + self.block_size] - until[self.block_rank]) / self.block_size
        return np.bincount(self.block_group, self.block_sum(gains) * mean_discount, minlength=len(self.group_start))

    @cached_property
    def auc(self) -> np.ndarray:
        """AUC of each group, NaN for a group of one class; a tied pair counts one half."""
        positive = self.block_sum(self.labels)
        negative = self.block_size - positive
        negatives_above = np.cumsum(negative) - negative
        first_block = np.searchsorted(self.block_start, self.group_start)
        negatives_above -= negatives_above[first_block][self.block_group]
        n_groups = len(self.group_start)
        n_positive = np.bincount(self.block_group, positive, minlength=n_groups)
        n_negative = self.group_size - n_positive
        lost = np.bincount(self.block_group, positive * (negatives_above + negative / 2), minlength=n_groups)
        pairs = n_positive * n_negative
        return 1 - np.divide(lost, pairs, out=np.full(n_groups, np.nan), where=pairs > 0)


def _group_auc(ranking: _Ranking, weighted: bool) -> float:
    valid = ~np.isnan(ranking.auc)
    if not valid.any():
        return float("nan")
    return float(np.average(ranking.auc[valid], weights=ranking.group_size[valid] if weighted else None))


def _mrr(ranking: _Ranking) -> float:
    discount = 1 / np.arange(1, ranking.group_size.max() + 1)
    reciprocal_ranks = ranking.expected_sum(ranking.labels, discount)
    return float(np.mean(reciprocal_ranks / (ranking.group_sum(ranking.labels) + 1e-12)))


def _ndcg(ranking: _Ranking, k: int) -> float:
    discount = 1 / np.log2(np.arange(2, ranking.group_size.max() + 2))
    discount[k:] = 0
    dcg = ranking.expected_sum(2**ranking.labels - 1, discount)
    until = np.concatenate([[0.0], np.cumsum(discount)])
    ideal, rank = np.zeros(len(dcg)), np.zeros(len(dcg), int)
    for relevance in np.unique(ranking.labels)[::-1]:
        last = rank + ranking.group_sum((ranking.labels == relevance).astype(int))
        ideal += (2**relevance - 1) * (until[last] - until[rank])
        rank = last
    return float(np.mean(dcg / (ideal + 1e-12)))


def _logloss(y_true: np.ndarray, y_pred: np.ndarray) -> float:
    epsilon = np.finfo(np.float64).eps
    p = np.clip(y_pred, epsilon, 1 - epsilon)
    return float(-np.mean(y_true * np.log(p) + (1 - y_true) * np.log1p(-p)))


_OF_ROWS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "AUC": lambda y_true, y_pred: float(_Ranking(y_true, y_pred, np.zeros(len(y_true), int)).auc[0]),
    "logloss": _logloss,
    "binary_crossentropy": _logloss,
    "MSE": lambda y_true, y_pred: float(np.mean((y_true - y_pred) ** 2)),
    "RMSE": lambda y_true, y_pred: float(np.sqrt(np.mean((y_true - y_pred) ** 2))),
    "MAE": lambda y_true, y_pred: float(np.mean(np.abs(y_true - y_pred))),
}
_OF_GROUPS: dict[str, Callable[[_Ranking], float]] = {
    "gAUC": partial(_group_auc, weighted=True),
    "avgAUC": partial(_group_auc, weighted=False),
    "MRR": _mrr,
}
REGRESSION_METRICS = ("MSE", "RMSE", "MAE")


def _group_metric(name: str) -> Callable[[_Ranking], float] | None:
    match = _NDCG.fullmatch(name)
    if match and match[1] != "0":
        return partial(_ndcg, k=int(match[1] or 1))
    return _OF_GROUPS.get(name)


def check_metric(name: object) -> None:
    """Refuse a metric that `evaluate_metrics` does not know.

    Raises:
        UserError: the name is unknown; lists what is allowed.
    """
    if not isinstance(name, str) or (name not in _OF_ROWS and _group_metric(name) is None):
        raise UserError(f"metric {name!r} is unknown; allowed: {_ALLOWED} (any k >= 1)")


def needs_groups(name: str) -> bool:
    """Return whether the metric is computed per group (`group_id`)."""
    return name not in _OF_ROWS


def missing_group(name: str) -> str:
    """Return the message for a metric per group without groups."""
    return f"metric {name} needs group_id: name the column that groups the rows, e.g. group_id: user_id"


def evaluate_metrics(
    y_true: np.ndarray, y_pred: np.ndarray, metrics: Sequence[str], group_id: np.ndarray | None = None
) -> dict[str, float]:
    """Return metrics of predictions, in the requested order.

    Args:
        y_true: (N,) labels.
        y_pred: (N,) predictions.
        metrics: names as the zoo spells them, e.g. `["AUC", "gAUC", "logloss", "NDCG(k=5)"]`.
        group_id: (N,) group of each row, for metrics per group.

    Returns:
        name -> value. NaN where a metric is undefined: one class only, or a prediction that is NaN.

    Raises:
        UserError: an unknown metric, or a metric per group without `group_id`.
    """
    for name in metrics:
        check_metric(name)
        if needs_groups(name) and group_id is None:
            raise UserError(missing_group(name))
    if np.isnan(y_pred).any():
        return {name: float("nan") for name in metrics}
    y_true, y_pred = np.asarray(y_true, np.float64), np.asarray(y_pred, np.float64)
    values = {name: _OF_ROWS[name](y_true, y_pred) for name in metrics if name in _OF_ROWS}
    of_groups = {name: metric for name in metrics if name not in values and (metric := _group_metric(name))}
    if of_groups and group_id is not None:
        ranking = _Ranking(y_true, y_pred, group_id)
        values |= {name: metric(ranking) for name, metric in of_groups.items()}
    return {name: values[name] for name in metrics}
