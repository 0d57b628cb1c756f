"""Optional methods of a model beyond those of the zoo.

Other code asks a model for these methods, never for its class.

- `scorer()` returns a function that scores one user's candidates, `score(user, candidates, count)`. It takes encoded
  features by name as NumPy arrays, the user's (1,) or for sequences (1, T), the candidates' (N,), and N. It returns
  (N,) float32. Without this method, a server uses the model's forward pass.
- `explain(user, candidates, count)` returns the scores and, for each sequence in `explained_fields`, a
  `SequenceExplanation`. A model without it has no explanation to draw.
- `export_module(form)` returns a module for `torch.export`, for a file of that form, `onnx` or `torch`. The module has
  `forward(inputs, row)`. `inputs` has the features of B users and N candidates by name, and `row`, (N,) int64, the user
  of each candidate; the result is the scores, (N,). The module may have an attribute `features`, the features that it
  reads, and `aligned`, the sequences of equal length. A model without it cannot be exported.
- `for_serving(params)` returns what a bundle contains instead of the model: a class, weights and keywords. A model
  without it is served as it was trained.
"""

from collections.abc import Sequence
from typing import Any, Protocol, TypedDict

import numpy as np
from fuxictr.pytorch.models import BaseModel

from dien_fuxictr.common.errors import UserError

from .models import find_model, own_models


class SequenceExplanation(TypedDict, total=False):
    """Explanation of one sequence: T behaviours, the oldest first, and N candidates.

    Attributes:
        attention: (N, T); None, or missing, without attention.
        states: (N, T, H), states of a recurrence after each behaviour, starting from zeros.
        untargeted: attention (T,) and states (T, H) of the recurrence without a candidate.
    """

    attention: np.ndarray | None
    states: np.ndarray
    untargeted: tuple[np.ndarray, np.ndarray]


class ExplainingModel(Protocol):
    """A model that offers `explain`.

    Attributes:
        explained_fields: the features of the target, and those of a behaviour, of each sequence.
    """

    @property
    def explained_fields(self) -> Sequence[tuple[Sequence[str], Sequence[str]]]:
        """Return the target features and behaviour features of each explained sequence."""
        ...

    def explain(
        self, user: dict[str, np.ndarray], candidates: dict[str, np.ndarray], count: int
    ) -> tuple[np.ndarray, Sequence[SequenceExplanation]]:
        """Return the scores (N,), and one explanation per sequence."""
        ...


def require_method(model_class: type[BaseModel], name: str, lack: str) -> None:
    """Check that a model offers a method.

    Args:
        model_class: class of the model.
        name: name of the method.
        lack: what a model without it cannot do, for the message.

    Raises:
        UserError: it does not; names the models of `model_zoo/` that do.
    """
    if not hasattr(model_class, name):
        having = [model for model in own_models() if hasattr(find_model(model), name)]
        raise UserError(f"{model_class.__name__} {lack}: it offers no {name}(); models that do: {', '.join(having)}")


def describe_paths(attention: np.ndarray | None, states: np.ndarray | None) -> dict[str, Any]:
    """Return the data of a drawn explanation, for the server and `run_evolution.py`.

    Args:
        attention: (P, T), for P paths.
        states: (P, T, H), for P paths.

    Returns:
        `attention`, if known; `movement`, (P, T), how far each behaviour moves the state; `path`, (P, T + 1, 2), the
        states from the zeros before the first behaviour on, in two principal components of all paths together;
        `explained_variance`, (2,), of these components.
    """
    if states is None:
        return {"attention": attention}
    states = np.pad(states, ((0, 0), (1, 0), (0, 0)))
    points, shares = principal_components(states)
    return {
        "attention": attention,
        "movement": np.linalg.norm(np.diff(states, axis=1), axis=2),
        "path": points,
        "explained_variance": shares,
    }


def principal_components(states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Project states to two dimensions by a PCA of all paths together.

    Args:
        states: (P, S, H).

    Returns:
        Coordinates (P, S, 2), and the shares (2,) of the variance that they explain. Of an axis and its opposite that
        counts whose largest weight is positive.
    """
    flat = states.reshape(-1, states.shape[-1]).astype(np.float64)
    centred = flat - flat.mean(axis=0)
    _, sizes, weights = np.linalg.svd(centred, full_matrices=False)
    axes, variances = np.zeros((2, flat.shape[1])), np.zeros(2)  # H may be 1
    axes[: len(weights)], variances[: len(weights)] = weights[:2], sizes[:2] ** 2
    axes *= np.where(np.take_along_axis(axes, abs(axes).argmax(axis=1)[:, None], axis=1) < 0, -1, 1)
    total = (sizes**2).sum()
    return (centred @ axes.T).reshape(*states.shape[:2], 2), variances / total if total else variances
