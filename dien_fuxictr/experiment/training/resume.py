"""Resume state next to the best weights, which continues a run exactly."""

import ast
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fuxictr.pytorch.models import BaseModel

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.common.files import digest
from dien_fuxictr.dataset.loading.fingerprint import KEYS
from model_zoo.DIEN.src.layers import dropout

from . import checkpoint
from .callbacks import Callback

# A resumed run may differ in these: they change where and how it runs, not what it computes.
FREE_KEYS = ("gpu", "verbose", "num_workers", "model_root")
_PARTS = ("config", "progress", "model", "optimizer", "rng", "epoch_rng")
_MASKS = "dropout masks"
"""Part of the states of models that have them: their generator."""
DATA_CONTENT = "content of the data set"
"""Entry of a run's configuration besides its keys: `Fingerprint.content_of`."""


def _has_masks(model: BaseModel) -> bool:
    return any(isinstance(layer, dropout.Dropout) and layer.p > 0 for layer in model.modules())


def as_text(config: dict[str, Any]) -> dict[str, str]:
    """Return a configuration as text for files, to be compared."""
    return {key: repr(value) for key, value in config.items()}


def is_same(saved: dict[str, str], config: dict[str, Any]) -> bool:
    """Return whether a result of `as_text` is this configuration.

    `FREE_KEYS` and the data's content may differ.
    """
    other, ignored = as_text(config), {*FREE_KEYS, DATA_CONTENT}
    return all(saved.get(key) == other.get(key) for key in (saved.keys() | other.keys()) - ignored)


@dataclass
class Progress:
    """Place in the training and state of early stopping.

    Attributes:
        epoch: current epoch, from 0.
        batches_done: batches of that epoch that are done.
        total_steps: optimizer steps so far.
        loss_sum, loss_steps: training loss since the last evaluation.
        train_seconds, train_rows: spent on and seen by optimizer steps, loading included.
        best_metric: best value of the monitor so far.
        stopping_steps: evaluations without improvement.
        saved_best: whether this run has written its best weights.
        weights: digest of their file; empty of runs that had none yet.
        saved_at: when they were written, UTC; empty of runs that had none yet.
        stop: whether early stopping has ended the training.
        embedding_norm: embedding norm of the initial weights.
    """

    epoch: int = 0
    batches_done: int = 0
    total_steps: int = 0
    loss_sum: float = 0.0
    loss_steps: int = 0
    train_seconds: float = 0.0
    train_rows: int = 0
    best_metric: float = -math.inf
    stopping_steps: int = 0
    saved_best: bool = False
    weights: str = ""
    saved_at: str = ""
    stop: bool = False
    embedding_norm: float = 0.0

    def take_step(self, loss: float, rows: int, seconds: float) -> None:
        """Count an optimizer step."""
        self.train_seconds += seconds
        self.train_rows += rows
        self.batches_done += 1
        self.total_steps += 1
        self.loss_sum += loss
        self.loss_steps += 1

    def next_epoch(self) -> None:
        """Go to the beginning of the next epoch."""
        self.epoch += 1
        self.batches_done = 0

    def evaluation_is_due(self, eval_steps: int) -> bool:
        """Return whether an evaluation is due every `eval_steps` steps and not done yet."""
        return self.loss_steps > 0 and self.total_steps % eval_steps == 0


@dataclass(frozen=True)
class Mark:
    """Content of the file next to a checkpoint, about the training that wrote it.

    Attributes:
        finished: whether the training has ended by itself.
        weights: digest of the checkpoint; empty before it is written.
        data: content of its data set, as of `Fingerprint.content_of`; empty if unknown.
    """

    finished: bool
    weights: str
    data: dict[str, str]


def read_mark(weights: Path) -> Mark | None:
    """Read the mark of a checkpoint.

    Args:
        weights: `<expid>.model`.

    Returns:
        None where there is no `<expid>.resume`.

    Raises:
        UserError: its resume file is broken.
    """
    file = weights.with_suffix(".resume")
    if not file.exists():
        return None
    state = checkpoint.load(file, mapped=True)
    progress = state.get("progress")
    written = progress.get("weights") if isinstance(progress, dict) else ""
    return Mark(
        finished=state.get("finished") is True,
        weights=written if isinstance(written, str) else "",
        data=_data_content(state.get("config")),
    )


def _data_content(config: object) -> dict[str, str]:
    """Return the content of the data set in a saved configuration."""
    try:
        content = ast.literal_eval(config[DATA_CONTENT]) if isinstance(config, dict) else {}
    except (KeyError, ValueError, SyntaxError, TypeError):
        return {}
    return content if isinstance(content, dict) else {}


def _is_same_data(saved: Mapping[str, str], data: Mapping[str, str]) -> bool:
    """Return whether two contents of a data set are equal; those of older runs lack the keys."""
    return {KEYS: data.get(KEYS), **saved} == {KEYS: None, **data}


def check_weights(weights: Path, data: Mapping[str, str]) -> None:
    """Compare a checkpoint with what `<expid>.resume` says of it, if there is one.

    Args:
        weights: `<expid>.model`.
        data: content of the data set that it is used with; empty if unknown.

    Raises:
        UserError: the checkpoint has changed, its data set has been built again from something else, or
            `<expid>.resume` is broken.
    """
    mark = read_mark(weights)
    if mark and mark.data and data and not _is_same_data(mark.data, data):
        raise UserError(
            f"checkpoint {weights} does not fit its data set, which has been built again from other files or keys "
            f"since: the ids have other meanings; train again (run_expid.py --expid {weights.stem})"
        )
    if not mark or not mark.weights or digest(weights) == mark.weights:
        return
    state = weights.with_suffix(".resume")
    if mark.finished:
        raise UserError(
            f"checkpoint {weights} does not match the digest in {state}: it is damaged, or something else has "
            f"overwritten it; train again, or delete {state} if the checkpoint is meant to be another one"
        )
    raise UserError(
        f"checkpoint {weights} does not match the digest in {state}, whose training has not finished; --resume "
        "continues the run"
    )


class ResumeFile:
    """`<expid>.resume` of one run.

    Args:
        path: the file.
        config: the configuration; a run is only resumed with an equal one, except `FREE_KEYS`.

    Attributes:
        data: content of the data set in the configuration.
    """

    def __init__(self, path: Path, config: dict[str, Any]) -> None:
        self.path = path
        self.data: dict[str, str] = config.get(DATA_CONTENT, {})
        self._config = as_text({key: value for key, value in config.items() if key not in FREE_KEYS})

    def save(
        self,
        model: BaseModel,
        progress: Progress,
        callback: Callback,
        epoch_rng: dict[str, Any],
        rng: dict[str, Any],
        tables: str = "",
    ) -> None:
        """Write the state atomically.

        Args:
            model: weights and optimizer.
            progress: place in the training.
            callback: its state.
            epoch_rng: the generators when the epoch's iterator was made; with them the epoch's order comes out again.
            rng: state of the generators at which the run continues.
            tables: by which name the weight store knows what it has written.
        """
        state = {
            "finished": False,
            "config": self._config,
            "progress": asdict(progress),
            "model": model.state_dict(),
            "optimizer": model.optimizer.state_dict(),
            "technique": callback.state_dict(),  # the callback's name in files
            "rng": rng,
            "epoch_rng": epoch_rng,
        }
        if _has_masks(model):
            state[_MASKS] = dropout.GENERATOR
        checkpoint.save({**state, "tables": tables} if tables else state, self.path)

    def restore(self, state: dict[str, Any], model: BaseModel, callback: Callback) -> None:
        """Give all their parts of a state.

        Args:
            state: result of `load`.
            model: weights and optimizer.
            callback: as when it was saved.

        Raises:
            UserError: the state is of another model, or its dropout has other masks.
        """
        if _has_masks(model) and state.get(_MASKS) != dropout.GENERATOR:
            raise UserError(
                f"cannot resume {self.path}: an earlier version wrote it, whose dropout has other masks; train without "
                "--resume"
            )
        checkpoint.fit_weights(model, state["model"], self.path)
        try:
            model.optimizer.load_state_dict(state["optimizer"])
            callback.load_state_dict(state.get("technique", {}))
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{self.path} does not match the optimizer: {checkpoint.first_line(error)}; train without --resume"
            ) from error

    def mark_finished(self, progress: Progress) -> None:
        """Replace the state by a small mark that the run has ended.

        Its best weights are in `<expid>.model`.
        """
        checkpoint.save({"finished": True, "config": self._config, "progress": asdict(progress)}, self.path)

    def load(self) -> dict[str, Any]:
        """Return the saved state, its progress as `Progress`.

        Raises:
            UserError: there is no state, or it is broken or belongs to another configuration (the message has the keys
                that differ).
        """
        if not self.path.exists():
            raise UserError(f"nothing to resume: {self.path} does not exist; train without --resume")
        checkpoint.require_intact(self.path)
        state = checkpoint.load(self.path)
        needed = ("config", "progress") if state.get("finished") else _PARTS
        if "finished" not in state or not all(isinstance(state.get(part), dict) for part in needed):
            raise UserError(f"{self.path} is not a resume state; train without --resume")
        try:
            state["progress"] = Progress(**state["progress"])
        except TypeError as error:
            raise UserError(
                f"{self.path} is not a resume state of this version: {error}; train without --resume"
            ) from error
        saved, own = state["config"], self._config
        changes = [
            f"{key} ({saved.get(key, 'absent')} -> {own.get(key, 'absent')})"
            for key in sorted((saved.keys() | own.keys()) - {DATA_CONTENT})
            if saved.get(key) != own.get(key)
        ]
        if not _is_same_data(_data_content(saved), _data_content(own)):
            changes.append(f"the {DATA_CONTENT}")
        if changes:
            raise UserError(
                f"cannot resume {self.path}: the configuration differs in {', '.join(changes)}; restore it, or "
                "train without --resume"
            )
        return state
