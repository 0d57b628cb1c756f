"""A model -> the program of its scores, by `torch.export`."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from fuxictr.pytorch.models import BaseModel
from torch import Tensor, nn
from torch.export import ExportedProgram

from dien_fuxictr.common.errors import UserError
from model_zoo.DIEN.src import DIEN

from .inputs import ROW, dynamic_shapes, examples, inputs_of
from .padded import PaddedDIEN, Recurrences

POOLED = ("DeepFM", "FM", "WideDeep")
"""Models of `model_zoo` in whose forward pass no size depends on values."""


class RepeatedRows(nn.Module):
    """The forward pass of such a model as it is, on one row a candidate.

    Args:
        model: in evaluation mode.
    """

    def __init__(self, model: BaseModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: dict[str, Tensor], row: Tensor) -> Tensor:
        """Arguments and result as of `PaddedDIEN`."""
        features = self.model.feature_map.features
        rows = {name: x[row] if features[name]["type"] == "sequence" else x for name, x in inputs.items()}
        return self.model.forward(rows)["y_pred"].squeeze(1)


def check_model(model: BaseModel) -> None:
    """Raises UserError for a model that cannot be exported; names those that can, or the feature that is in the way."""
    if not isinstance(model, DIEN) and type(model).__name__ not in POOLED:
        raise UserError(
            f"{type(model).__name__} cannot be exported, as sizes in its forward pass depend on the values of its "
            f"inputs; those that can: DIEN, DIENLight, {', '.join(POOLED)}"
        )
    if ROW in inputs_of(model):
        raise UserError(f"feature {ROW!r}: the input that says which user a candidate is of has this name; rename it")


def trace(model: BaseModel, recurrences: Recurrences) -> ExportedProgram:
    """The program of a model's scores, of any number of users, behaviours and candidates.

    Args:
        model: in evaluation mode, on the CPU.
        recurrences: what runs the layers of a DIEN.
    """
    module = PaddedDIEN(model, recurrences) if isinstance(model, DIEN) else RepeatedRows(model)
    inputs = inputs_of(model)
    with torch.no_grad(), quiet():
        return torch.export.export(module.eval(), examples(inputs), dynamic_shapes=dynamic_shapes(inputs))


@contextmanager
def quiet() -> Iterator[None]:
    """Without the notes of torch's exporters on their own parts."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
