"""A model with its best weights, and what may be asked of it."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from fuxictr.pytorch.models import BaseModel

from .evaluation.evaluate import Evaluation, evaluate, require_finite, require_finite_scores
from .evaluation.new_rows import predict_rows
from .prepared_data import PreparedData
from .training.resume import Progress
from .training.untrained import nothing_learnt
from .training.weight_store import WeightStore


class TrainedModel:
    """The model of a training, or of a checkpoint.

    Args:
        store: store of its weights.
        params: settings of the experiment.
        progress: progress of the training; by default nothing is known of it.
        valid_loader: validation loader of the training, for another evaluation.

    Attributes:
        model: the model.
        progress: as given.
    """

    def __init__(
        self,
        store: WeightStore,
        params: Mapping[str, Any],
        progress: Progress | None = None,
        valid_loader: Any = None,
    ) -> None:
        self.model: BaseModel = store.model
        self.progress = progress or Progress()
        self._store, self._params, self._valid_loader = store, params, valid_loader

    def evaluate(self, data: PreparedData) -> dict[str, Evaluation]:
        """Return the metrics of `valid` and `test`, of those that the data set has.

        Raises:
            UserError: a metric by group that the labels do not have.
            TrainingError: a score is not finite.
        """
        evaluations, feature_map = {}, self.model.feature_map
        if self._valid_loader is None:
            self._valid_loader = data.valid_loader(feature_map)
        if self._valid_loader is not None:
            logging.info("****** Validation evaluation ******")
            evaluations["valid"] = self._evaluate("valid", self._valid_loader)
        if data.has_test:
            logging.info("******** Test evaluation ********")
            evaluations["test"] = self._evaluate("test", data.test_loader(feature_map))
        return evaluations

    def nothing_learnt(self, valid: Evaluation, config: Mapping[str, Any]) -> str:
        """Return why the model is no better than the base rate, and a likely cause.

        The result is empty if the model is better.

        Args:
            valid: result of `evaluate`.
            config: configuration of the experiment.
        """
        return nothing_learnt(valid, self._store, self.progress, config)

    def predict(self, rows: Any) -> np.ndarray:
        """Return scores (N,) float64 of new rows in their order; labels are not needed.

        Args:
            rows: a pandas or polars frame, or the path of a CSV or Parquet file, in the form of the training data.

        Raises:
            UserError: there is no such file, a column is missing, or the data set has no fitted encoder.
            TrainingError: a score is not finite.
        """
        if isinstance(rows, (str, Path)):
            rows = Path(rows)
        elif not isinstance(rows, pl.DataFrame):
            rows = pl.from_pandas(rows)
        scores = predict_rows(self.model, rows, dict(self._params))
        require_finite_scores(scores)
        return scores

    def _evaluate(self, split: str, loader: Any) -> Evaluation:
        store = self._store
        evaluation = evaluate(self.model, loader, self._params["metrics"], store.group, store.is_collective)
        require_finite(split, evaluation)
        return evaluation
