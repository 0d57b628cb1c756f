"""What a model may offer beyond the methods of the zoo. Other code asks a model for it, and never which class it is.

- `scorer()` returns what scores one user's candidates, `score(user, candidates, count)`. It takes encoded features by
  name as NumPy arrays, the user's (1,) or of sequences (1, T), the candidates' (N,), and N. It returns (N,) float32. A
  server uses the forward pass of a model without it.
- `explain(user, candidates, count)` says where these scores come from: it returns the scores and, of each sequence that
  `explained_fields` names, a `SequenceExplanation`. A model without it has nothing to draw.
- `export_module(form)` returns what `torch.export` takes, for a file of that form, `onnx` or `torch`: a module with
  `forward(inputs, row)`. `inputs` has the features of B users and N candidates by name, and `row`, (N,) int64, the user
  of each candidate; the result are the scores, (N,). The module may say which features it reads, `features`, and which
  sequences have one length, `aligned`. A model without it cannot be exported.
- `for_serving(params)` returns what a bundle holds in place of the model: a class, weights and keywords. A model
  without it is served as it was trained.
"""

from collections.abc import Sequence
from typing import Any, Protocol, TypedDict

import numpy as np
from fuxictr.pytorch.models import BaseModel

from dien_fuxictr.common.errors import UserError

from .models import find_model, own_models


class SequenceExplanation(TypedDict, total=False):
    """What a model does with the T behaviours of one sequence that it has read, the oldest first, for N candidates.

    attention: (N, T); None, or missing, where there is none.
    states: (N, T, H), of a recurrence after each behaviour, which starts from zeros.
    untargeted: attention (T,) and states (T, H) of the recurrence without any candidate.
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
    def explained_fields(self) -> Sequence[tuple[Sequence[str], Sequence[str]]]: ...

    def explain(
        self, user: dict[str, np.ndarray], candidates: dict[str, np.ndarray], count: int
    ) -> tuple[np.ndarray, Sequence[SequenceExplanation]]: ...


def require_method(model_class: type[BaseModel], name: str, lack: str) -> None:
    """Check that a model offers a method.

    Args:
        model_class: of the model.
        name: of the method.
        lack: what a model without it cannot do, for the message.

    Raises:
        UserError: it does not; names the models of `model_zoo/` that do.
    """
    if not hasattr(model_class, name):
        having = [model for model in own_models() if hasattr(find_model(model), name)]
        raise UserError(f"{model_class.__name__} {lack}: it offers no {name}(); models that do: {', '.join(having)}")


def describe_paths(attention: np.ndarray | None, states: np.ndarray | None) -> dict[str, Any]:
    """Return what is drawn of an explanation, on the page of the server and on that of `run_evolution.py`.

    Args:
        attention: (P, T). states: (P, T, H), of P paths.

    Returns:
        What is known of `attention`; `movement`, (P, T), how far each behaviour moves the state; `path`, (P, T + 1, 2),
        the states from the zeros before the first behaviour on, in two principal components of all paths together;
        `explained_variance`, (2,), of them.
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
