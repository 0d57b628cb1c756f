"""One user's picture: a row of the test data, candidates, the trace of the model, names that a person can read."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dien_fuxictr.common.files import write_atomic
from dien_fuxictr.dataset.encoding.encoder import Encoder
from dien_fuxictr.dataset.item_names import readable, titles_of
from dien_fuxictr.experiment.experiment import Experiment
from dien_fuxictr.experiment.trace import principal_components, trace

from .candidates import Candidate, known_items, named, same_ids, telling
from .picture import draw, require_matplotlib
from .sample import choose_sample
from .trained import load_trained
from .words import rows_of_words

PICTURE, NUMBERS = "evolution.png", "evolution.json"


def draw_evolution(
    experiment: Experiment, out: Path, user: str | None = None, items: Sequence[str] = ()
) -> dict[str, Any]:
    """Write the picture of one user of the test data, and the numbers in it.

    Args:
        experiment: with a checkpoint, of a DIEN with attention.
        out: folder of evolution.png and evolution.json.
        user: None: one with about twenty behaviours.
        items: candidates; none: the row's own target and items that are near to the history and far from it.

    Returns:
        The numbers: `user`, `behaviours`, and of each candidate a path with `prediction` and `attention`.

    Raises:
        UserError: matplotlib or the checkpoint is missing, another model, an unknown user or item.
    """
    require_matplotlib()
    model, params = load_trained(experiment), experiment.params
    feature_map, fields = model.feature_map, model.sequences[0].fields
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
    traced = trace(model, sample.batch, ids)
    points, shares = principal_components(traced.states)

    behaviours = rows_of_words(encoder, fields.behaviours[:2], sample.history[:2].T)
    targets = rows_of_words(encoder, fields.target[:2], np.array(ids)[:, :2])
    titles = titles_of(params, {words[0] for words in behaviours + targets})
    steps = [{"item": words[0], "name": readable(words, titles)} for words in behaviours]
    paths = [
        {"item": words[0], "name": readable(words, titles), "why": candidate.why, "prediction": float(prediction)}
        for words, candidate, prediction in zip(targets, candidates, traced.predictions, strict=True)
    ]
    count = f"{len(steps)} behaviour{'s' * (len(steps) != 1)}"
    draw(
        traced.attention,
        points,
        shares,
        behaviours=[step["name"] for step in steps],
        candidates=[f"{path['name']}\n{path['why']}; predicted {path['prediction']:.3f}" for path in paths],
        title=f"{experiment.expid}: how the interest of user {sample.user} evolves over {count}",
        file=out / PICTURE,
    )
    numbers = {
        "expid": experiment.expid,
        "user": sample.user,
        "explained_variance": shares.tolist(),
        "behaviours": steps,
        "paths": [
            {**path, "attention": attention.tolist(), "states_in_two_dimensions": path_points.tolist()}
            for path, attention, path_points in zip(
                [*paths, {"item": None, "name": "no target"}], traced.attention, points, strict=True
            )
        ],
    }
    write_atomic(out / NUMBERS, lambda file: file.write(json.dumps(numbers, indent=2).encode()))
    return numbers
