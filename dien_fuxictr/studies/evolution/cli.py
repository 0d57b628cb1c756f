"""The command line of `run_evolution.py`."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dien_fuxictr.common.errors import exit_code
from dien_fuxictr.common.files import write_atomic
from dien_fuxictr.dataset.encoding.encoder import Encoder
from dien_fuxictr.experiment import open_experiment
from dien_fuxictr.experiment.options import add_experiment_options
from dien_fuxictr.experiment.trace import principal_components, trace

from .candidates import Candidate, known_items, named, same_ids, telling
from .names import readable, titles_of
from .picture import LETTERS, draw, require_matplotlib
from .sample import choose_sample
from .trained import load_trained
from .words import rows_of_words

EPILOG = """
examples:
  run_expid.py --expid DIEN_amazon                           first train: the data set and the checkpoint are used
  run_evolution.py --expid DIEN_amazon                       a user and candidates that show something
  run_evolution.py --expid DIEN_amazon --user A00040SYNTH    a user of the test data
  run_evolution.py --expid DIEN_amazon --user A00040SYNTH --items B3355SYNTH B9961SYNTH --out pictures

without --user: the clicked test row whose history is nearest to 20 behaviours, the first of them in the file; of a user
that is named, the clicked test row with the longest history.
without --items: the row's own target, the most frequent item of the category that dominates the history, and the most
frequent one of a category that is not in it.
Everything but the target is the row's for each candidate. Of several behaviour sequences the first is drawn.

files (OUT: --out, default <model_root>/<dataset_id>/ID.evolution beside the checkpoint):
  OUT/evolution.png      paths of the second layer's state in two principal components, and the attention
  OUT/evolution.json     the numbers in it, and the model's prediction for each candidate

exit code: 0 done; 2 bad input (one line on stderr, nothing overwritten); 130 interrupted
"""


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line; exits with code 2 on a wrong one."""
    parser = argparse.ArgumentParser(
        prog="run_evolution.py",
        description="Draws how a user's interest evolves towards candidate items in a trained DIEN, step by step.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_experiment_options(parser, "a trained DIEN")
    parser.add_argument("--user", metavar="ID", help="a user of the test data")
    parser.add_argument("--items", nargs="+", metavar="ID", help="candidates")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the picture")
    options = parser.parse_args(arguments)
    if len(options.items or []) > len(LETTERS):
        parser.error(f"--items: {len(options.items)} are too many for a picture; up to {len(LETTERS)}")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw one user.

    Args:
        arguments: the command line without the program's name; None: the process's.

    Returns:
        Exit code: 0, 2 for bad input, 130 when interrupted.
    """
    options = parse_arguments(arguments)
    return exit_code(lambda: _run(options), "interrupted; nothing was written")


def _run(options: argparse.Namespace) -> int:
    require_matplotlib()
    experiment = open_experiment(options.expid, options.config, options.gpu, dict(options.settings))
    model, params = load_trained(experiment), experiment.params
    feature_map, fields = model.feature_map, model.sequences[0].fields
    encoder = Encoder.load(feature_map.data_dir, params)
    sample = choose_sample(feature_map, encoder, params, fields.behaviours, options.user)
    items = known_items(feature_map, fields)
    own = Candidate(
        tuple(sample.batch[name].tolist()[0] for name in fields.target),
        "clicked in the test" if sample.clicked else "not clicked in the test",
    )
    if options.items:
        candidates = named(items, encoder, options.items)
    else:
        candidates = telling(items, own, sample.history if same_ids(feature_map, fields) else sample.history[:, :0])
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
    out = options.out or experiment.folder / f"{options.expid}.evolution"
    count = f"{len(steps)} behaviour{'s' * (len(steps) != 1)}"
    draw(
        traced.attention,
        points,
        shares,
        behaviours=[step["name"] for step in steps],
        candidates=[f"{path['name']}\n{path['why']}; predicted {path['prediction']:.3f}" for path in paths],
        title=f"{options.expid}: how the interest of user {sample.user} evolves over {count}",
        file=out / "evolution.png",
    )
    numbers = {
        "expid": options.expid,
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
    write_atomic(out / "evolution.json", lambda file: file.write(json.dumps(numbers, indent=2).encode()))
    print(f"user {sample.user}, {count}, {len(paths)} candidates: {out / 'evolution.png'}, {out / 'evolution.json'}")
    return 0
