"""Detect trainings that learn nothing, and name a likely cause."""

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..evaluation.evaluate import Evaluation
from ..evaluation.metrics import evaluate_metrics
from .optimizers import embedding_tables
from .resume import Progress
from .weight_store import WeightStore

_PATIENCE = 2
"""Evaluations in which a model may tell nothing before a warning; the first one may come early in the first epoch."""
_QUANTILE = 1.96
"""Quantile of the normal distribution for 95 % intervals."""
_NARROW = 0.02
"""Half an interval of AUC, below which an AUC of .5 says that there is nothing; wider ones hold AUCs of real models."""
_LEAST_GAIN = 1e-4
"""Log loss that the scores' spread must be able to win over the base rate's."""
_ROUNDING = 1e-6
"""Relative spread of scores that are one number: some units in the last place of float32."""
_STEPS = 100
"""A run of fewer steps, a trial say, leaves scores next to the base rate without anything wrong."""
_GROWN = 100
"""Times its initial norm, which is next to 0, that the embeddings of a model that learns reach by far."""


def nothing_learnt(evaluation: Evaluation, store: WeightStore, progress: Progress, config: Mapping[str, Any]) -> str:
    """Return that the scores carry no information, with a likely cause, or "".

    The scores carry none if they are constant, or if all of these conditions are true:

    - AUC is within the 95 % interval of random scores, .5 ± 1.96 sqrt((P + N + 1) / (12 P N)) for P positives and N
      negatives (Mann and Whitney), and this interval does not contain every AUC;
    - the log loss is not below that of the base rate by more than 1.96 standard errors of the rows' differences;
    - more information can be excluded: the interval is narrower than ± .02, or after 100 steps the scores vary too
      little to gain 1e-4 of log loss, even if they were calibrated: a spread s around the base rate p gains s² / (2 p
      (1 - p)).

    Args:
        evaluation: evaluation of the validation rows.
        store: store of the model that was evaluated.
        progress: progress of the training.
        config: configuration of the experiment.
    """
    found = _of_scores(evaluation.label, evaluation.score, progress.total_steps)
    if not found:
        return ""
    return f"{found}; {_cause(progress.embedding_norm, embedding_norm(store), config)}"


class LearningCheck:
    """Warns, once, if a model has learnt nothing.

    Args:
        store: store of the model.
        config: config of the experiment.
    """

    def __init__(self, store: WeightStore, config: Mapping[str, Any]) -> None:
        self._store, self._config = store, config
        self._has_learnt = False
        self._evaluations = 0

    def check(self, evaluation: Evaluation, progress: Progress) -> None:
        """Warn at the second evaluation without information, if there was none before."""
        if self._has_learnt:
            return
        found = nothing_learnt(evaluation, self._store, progress, self._config)
        self._has_learnt = not found
        self._evaluations += bool(found)
        if self._evaluations == _PATIENCE:
            logging.warning(f"The model has learnt nothing so far: {found}")


def embedding_norm(store: WeightStore) -> float:
    """Return the Frobenius norm of all trained tables; all processes call it."""
    return store.squared_norm(list(embedding_tables(store.model).values())) ** 0.5


def _of_scores(label: np.ndarray, score: np.ndarray, steps: int) -> str:
    if not len(score) or not np.isfinite(score).all():
        return ""
    if np.ptp(score) <= _ROUNDING * np.abs(score).max():
        return f"all {len(score):,} scores of the validation rows are {score[0]:.6g}"
    if not np.isin(label, (0, 1)).all() or np.ptp(label) == 0:
        return ""
    positives = float(label.sum())
    negatives = len(label) - positives
    half = _QUANTILE * ((positives + negatives + 1) / (12 * positives * negatives)) ** 0.5
    auc = evaluate_metrics(label, score, ["AUC"])["AUC"]
    if abs(auc - 0.5) > half or half >= 0.5:
        return ""
    rate = positives / len(label)
    losses, base = _losses(label, score), _losses(label, np.full(len(label), rate))
    gains = base - losses
    if gains.mean() > _QUANTILE * gains.std() / len(gains) ** 0.5:
        return ""
    is_flat = steps >= _STEPS and score.var() / (2 * rate * (1 - rate)) < _LEAST_GAIN
    if half > _NARROW and not is_flat:
        return ""
    return (
        f"AUC on validation is {auc:.4f}, within the interval of random scores, .5 ± {half:.4f}, and the log loss "
        f"{losses.mean():.4f} is not below {base.mean():.4f}, that of the base rate"
    )


def _losses(label: np.ndarray, score: np.ndarray) -> np.ndarray:
    epsilon = np.finfo(np.float64).eps
    right = np.clip(np.where(label == 1, score, 1 - score), epsilon, 1)
    return -np.log(right)


def _cause(before: float, now: float, config: Mapping[str, Any]) -> str:
    rate, regularizer = config.get("learning_rate"), config.get("embedding_regularizer")
    norms = f"the norm of the embeddings was {before:.3g} at the start and is {now:.3g} now"
    if before and abs(now / before - 1) < 0.01:
        return f"{norms}; likely cause: learning_rate = {rate} is too low, or the training too short"
    if regularizer and now < _GROWN * before:
        kind = config.get("embedding_regularization", "table")
        return (
            f"{norms}; likely cause: embedding_regularizer = {regularizer} (embedding_regularization: {kind}) holds "
            "them near 0; set a smaller one"
        )
    return (
        f"{norms}; likely cause: learning_rate = {rate} is too high, or the features say nothing of the label "
        "(audit_dataset.py tells what simple rules score)"
    )
