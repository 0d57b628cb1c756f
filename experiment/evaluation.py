"""Predictions of any zoo model over a loader, and their metrics."""

import logging
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from fuxictr.pytorch.models import BaseModel
from torch import Tensor
from tqdm import tqdm

from .metrics import evaluate_metrics


def progress_bar(loader: Iterable[Any], verbose: int, **options: Any) -> Iterable[Any]:
    """The loader with the zoo's progress bar; bare with `verbose: 0`."""
    return tqdm(loader, file=sys.stdout, **options) if verbose > 0 else loader


@torch.no_grad()
def predict(model: BaseModel, loader: Iterable[dict[str, Tensor]]) -> np.ndarray:
    """Predictions in the loader's order, (N,) float64, in evaluation mode."""
    model.eval()
    predictions = [model.forward(batch)["y_pred"].reshape(-1) for batch in progress_bar(loader, model._verbose)]
    return _numpy(predictions)


@torch.no_grad()
def evaluate(model: BaseModel, loader: Iterable[dict[str, Tensor]], metrics: Sequence[str]) -> dict[str, float]:
    """Metrics of the model on a loader, logged as in the zoo.

    Args:
        model: put into evaluation mode.
        loader: batches with labels, and with `feature_map.group_id` where that is set.
        metrics: names, see `evaluate_metrics`.
    """
    model.eval()
    group = model.feature_map.group_id
    predictions, labels, groups = [], [], []
    for batch in progress_bar(loader, model._verbose):
        predictions.append(model.forward(batch)["y_pred"].reshape(-1))
        labels.append(model.get_labels(batch).reshape(-1))
        if group is not None:
            groups.append(model.get_group_id(batch).reshape(-1))
    group_id = torch.cat(groups).cpu().numpy() if groups else None
    logs = evaluate_metrics(_numpy(labels), _numpy(predictions), metrics, group_id)
    logging.info("[Metrics] " + " - ".join(f"{name}: {value:.6f}" for name, value in logs.items()))
    return logs


def _numpy(parts: list[Tensor]) -> np.ndarray:
    return torch.cat(parts).cpu().numpy().astype(np.float64)
