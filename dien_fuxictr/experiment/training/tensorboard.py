"""`--tensorboard`: curves of losses, metrics and learning rate, and histograms.

Histograms show attention and update gates.
"""

from collections.abc import Iterable
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from fuxictr.pytorch.models import BaseModel

from dien_fuxictr.common.errors import UserError

from .observer import Observer


class TensorBoard(Observer):
    """Observer of a training run that writes TensorBoard events.

    Args:
        folder: folder of the event files.

    Raises:
        UserError: tensorboard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise UserError("--tensorboard needs a package that is not installed: pip install tensorboard") from error
        self._make_writer = partial(SummaryWriter, str(folder))

    @cached_property
    def _writer(self) -> Any:
        """Return the writer, created on first use: a run that never starts has no files."""
        return self._make_writer()

    def step(self, step: int, losses: dict[str, float], learning_rate: float) -> None:
        """Write losses, norm of the gradient and learning rate of one step."""
        for name, value in losses.items():
            self._writer.add_scalar(f"loss/{name}" if name != "gradient_norm" else name, value, step)
        self._writer.add_scalar("learning_rate", learning_rate, step)

    @torch.no_grad()
    def evaluation(
        self, step: int, epoch: int, metrics: dict[str, float], model: BaseModel, loader: Iterable[Any]
    ) -> None:
        """Write validation metrics, and histograms of `model.diagnostics(batch)`.

        The histograms are of one validation batch, if the model has the method.
        """
        for name, value in metrics.items():
            self._writer.add_scalar(f"validation/{name}", value, step)
        diagnostics = getattr(model, "diagnostics", None)
        if diagnostics is not None:
            model.eval()
            with torch.random.fork_rng():
                histograms = diagnostics(next(iter(loader)))
            for name, values in histograms.items():
                if (finite := values[torch.isfinite(values)]).numel():
                    self._writer.add_histogram(name, finite.float().cpu(), step)
        self._writer.flush()

    def close(self) -> None:
        """Write what is left."""
        if "_writer" in vars(self):
            self._writer.close()
