"""Predictions of any zoo model over a loader, and their metrics."""

import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from fuxictr.pytorch.models import BaseModel
from torch import Tensor

from dien_fuxictr.common.errors import TrainingError, UserError
from dien_fuxictr.common.progress import progress_bar

from ..process_group import SINGLE_PROCESS, ProcessGroup
from .metrics import evaluate_metrics

BAR_DELAY = 1.0
"""Seconds until an evaluation shows its own bar."""


@dataclass(frozen=True)
class Evaluation:
    """Metrics, and what they were taken of.

    Attributes:
        metrics: name -> value.
        label, score: (N,) float64, in the loader's order.
        group: (N,) where the data set has a `group_id`.
        milliseconds: duration of the forward pass, per batch on average.
    """

    metrics: dict[str, float]
    label: np.ndarray
    score: np.ndarray
    group: np.ndarray | None
    milliseconds: float


@torch.no_grad()
def predict(model: BaseModel, loader: Iterable[dict[str, Tensor]]) -> np.ndarray:
    """Return predictions in the loader's order, (N,) float64, in evaluation mode."""
    model.eval()
    with progress_bar(loader, model._verbose, desc="predicting", delay=BAR_DELAY) as batches:
        predictions = [model.forward(batch)["y_pred"].reshape(-1) for batch in batches]
    return _numpy(predictions)


@torch.no_grad()
def evaluate(
    model: BaseModel,
    loader: Iterable[dict[str, Tensor]],
    metrics: Sequence[str],
    group: ProcessGroup = SINGLE_PROCESS,
    is_collective: bool = False,
) -> Evaluation:
    """Return metrics of the model on a loader, logged as in the zoo.

    Args:
        model: put into evaluation mode.
        loader: batches with labels, and with `feature_map.group_id` where that is set.
        metrics: names, see `evaluate_metrics`.
        group: each process scores whole batches, in turn, so that a batch's scores are one process's.
        is_collective: whether a forward pass needs all processes at once, so that each has equally many.
    """
    model.eval()
    group_column = model.feature_map.group_id
    predictions, labels, groups, seconds = [], [], [], 0.0
    scored, batch = 0, {}
    with progress_bar(loader, model._verbose, desc="evaluating", delay=BAR_DELAY) as batches:
        for number, batch in enumerate(batches):
            labels.append(model.get_labels(batch).reshape(-1))
            if number % group.count == group.rank:
                start = time.perf_counter()
                predictions.append(model.forward(batch)["y_pred"].reshape(-1))
                if predictions[-1].is_cuda:
                    torch.cuda.synchronize()
                seconds += time.perf_counter() - start
                scored += 1
            else:
                predictions.append(torch.zeros_like(labels[-1]))
            if group_column is not None:
                groups.append(model.get_group_id(batch).reshape(-1))
    if is_collective and 0 < len(labels) % group.count <= group.rank:
        model.forward(batch)  # the other processes request rows of this one
    group_id = torch.cat(groups).cpu().numpy() if groups else None
    label, score = _numpy(labels), group.sum(torch.cat(predictions).double()).cpu().numpy()
    logs = evaluate_metrics(label, score, metrics, group_id)
    logging.info("[Metrics] " + " - ".join(f"{name}: {value:.6f}" for name, value in logs.items()))
    return Evaluation(logs, label, score, group_id, 1000 * seconds / max(scored, 1))


def require_finite(split: str, evaluation: Evaluation) -> None:
    """Check that every metric of a split is a finite number.

    Raises:
        UserError: no group of the split has both classes, so that a metric by group is undefined.
        TrainingError: a score is not finite.
    """
    wrong = [f"{name} = {value}" for name, value in evaluation.metrics.items() if not np.isfinite(value)]
    if not wrong:
        return
    found = f"metrics of {split} are not finite: {wrong[0]}"
    if count := int((~np.isfinite(evaluation.score)).sum()):
        raise TrainingError(f"{found}; {_not_finite(count, evaluation.score)}")
    raise UserError(f"{found}; the metric needs a group whose labels have both classes")


def require_finite_scores(scores: np.ndarray) -> None:
    """Raise TrainingError if one of the scores (N,) is not finite."""
    if count := int((~np.isfinite(scores)).sum()):
        raise TrainingError(f"{_not_finite(count, scores)}: the weights, or a number in the rows, are not finite")


def _not_finite(count: int, scores: np.ndarray) -> str:
    return f"{count} of {len(scores)} scores are not finite"


def _numpy(parts: list[Tensor]) -> np.ndarray:
    return torch.cat(parts).cpu().numpy().astype(np.float64)
