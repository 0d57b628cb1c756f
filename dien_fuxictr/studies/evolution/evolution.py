"""Page of one user: a row of test data, candidates, trace and readable names."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from torch import Tensor

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.common.files import write_atomic
from dien_fuxictr.dataset.encoding.encoder import Encoder
from dien_fuxictr.dataset.item_names import readable, titles_of
from dien_fuxictr.experiment.experiment import Experiment
from dien_fuxictr.experiment.explanation_page import read_page
from dien_fuxictr.experiment.model_methods import ExplainingModel, describe_paths, require_method

from .candidates import Candidate, Fields, known_items, named, same_ids, telling
from .sample import choose_sample
from .words import rows_of_words

PAGE, NUMBERS = "evolution.html", "evolution.json"


def draw_evolution(
    experiment: Experiment, out: Path, user: str | None = None, items: Sequence[str] = ()
) -> dict[str, Any]:
    """Write a page that draws one user of the test data, and the numbers in it.

    Args:
        experiment: with a checkpoint, of a DIEN with attention.
        out: folder of evolution.html and evolution.json.
        user: None: one with about twenty behaviours.
        items: candidates; none: the row's own target and items that are near to the history and far from it.

    Returns:
        The numbers: `user`, `behaviours`, and of each candidate a path with `prediction` and `attention`; the last path
        is that without a target.

    Raises:
        UserError: the checkpoint is missing, another model, an unknown user or item.
    """
    model, params = load_trained(experiment), experiment.params
    feature_map, fields = experiment.model.feature_map, Fields(*map(tuple, model.explained_fields[0]))
    encoder = Encoder.load(feature_map.data_dir, params)
    sample = choose_sample(feature_map, encoder, params, fields.behaviours, user)
    known = known_items(feature_map, fields)
    own = Candidate(
        tuple(sample.batch[name].tolist()[0] for name in fields.target),
        "clicked in the test" if sample.clicked else "not clicked in the test",
    )
    if items:
        candidates = named(known, encoder, items)
    else:
        candidates = telling(known, own, sample.history if same_ids(feature_map, fields) else sample.history[:, :0])
    ids = [candidate.ids for candidate in candidates]
    traced = trace(model, experiment.model.get_inputs(sample.batch), ids)
    drawn = describe_paths(traced.attention, traced.states)

    behaviours = rows_of_words(encoder, fields.behaviours[:2], sample.history[:2].T)
    targets = rows_of_words(encoder, fields.target[:2], np.array(ids)[:, :2])
    shown = {words[0] for words in behaviours + targets}
    titles = titles_of(experiment.entry.options, shown, experiment.options.verbose > 0)
    steps = [{"item": words[0], "name": readable(words, titles)} for words in behaviours]
    paths = [
        {"item": words[0], "name": readable(words, titles), "why": candidate.why, "prediction": float(prediction)}
        for words, candidate, prediction in zip(targets, candidates, traced.predictions, strict=True)
    ]
    numbers = {
        "expid": experiment.expid,
        "user": sample.user,
        "explained_variance": drawn["explained_variance"].tolist(),
        "behaviours": steps,
        "paths": [
            path
            | {
                "attention": drawn["attention"][place].tolist(),
                "movement": drawn["movement"][place].tolist(),
                "states_in_two_dimensions": drawn["path"][place].tolist(),
            }
            for place, path in enumerate([*paths, {"item": None, "name": "no target"}])
        ],
    }
    text = json.dumps(numbers, indent=2)
    page = read_page(Path(__file__).parent).fill(numbers=text.replace("<", r"\u003c"))  # a name may contain an HTML tag
    write_atomic(out / PAGE, lambda file: file.write(page.encode()))
    write_atomic(out / NUMBERS, lambda file: file.write(text.encode()))
    return numbers


def load_trained(experiment: Experiment) -> ExplainingModel:
    """Load the experiment's trained model, in evaluation mode.

    Raises:
        UserError: there is no data set or checkpoint, or the model has no `explain` or no attention.
    """
    require_method(experiment.model_class, "explain", "has no interests to draw")
    if experiment.params.get("gru_type") == "GRU":
        raise UserError(
            f"gru_type = GRU of {experiment.expid} has states that do not depend on the candidate; gru_type must be "
            "AIGRU, AGRU or AUGRU"
        )
    experiment.load()
    return cast(ExplainingModel, experiment.model)


@dataclass(frozen=True)
class Trace:
    """Trace of T behaviours of one user for P candidates, and without a candidate.

    The oldest behaviour comes first.

    Attributes:
        attention: (P + 1, T); the last row is without a target, equal for all behaviours.
        states: (P + 1, T, H), after each behaviour.
        predictions: (P,) predictions of the model.
    """

    attention: np.ndarray
    states: np.ndarray
    predictions: np.ndarray


def trace(model: ExplainingModel, X: dict[str, Tensor], candidates: Sequence[Sequence[float]]) -> Trace:
    """Trace the first sequence that a model explains.

    All inputs except the target are those of the row, for every candidate.

    Args:
        model: a model in evaluation mode.
        X: its inputs of one row, with behaviours.
        candidates: ids of the target's features.

    Raises:
        UserError: the model's explanation lacks attention or states, with or without a candidate.
    """
    target, _ = model.explained_fields[0]
    user = {name: values.cpu().numpy() for name, values in X.items()}
    ids = zip(target, zip(*candidates, strict=True), strict=True)
    chosen = {name: np.array(values, dtype=user.pop(name).dtype) for name, values in ids}
    predictions, (first, *_) = model.explain(user, chosen, len(candidates))
    attention, states, untargeted = (first.get(name) for name in ("attention", "states", "untargeted"))
    if attention is None or states is None or untargeted is None:
        raise UserError(f"attention, states or untargeted is missing in the explanation of {type(model).__name__}")
    return Trace(
        attention=np.concatenate([attention, untargeted[0][None]]),
        states=np.concatenate([states, untargeted[1][None]]),
        predictions=predictions,
    )
