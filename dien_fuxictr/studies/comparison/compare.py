"""Write table, report and results of the finished runs of a comparison."""

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.common.files import write_atomic

from ..runs.run import Run
from .plan import ComparedModel, Comparison
from .report_page import as_html
from .report_pictures import Picture, choose_styles, draw_report
from .results_table import Row, as_csv, as_markdown, make_rows
from .slices import Slices, slice_test_rows
from .statistics import users_of
from .suite_picture import build_panels, draw_suite

_TARGET = ("label", "user_id", "item_id")


def compare(comparison: Comparison, command: str) -> list[Row]:
    """Write table, report and pictures of the finished runs; return the rows.

    Args:
        comparison: its runs may be unfinished.
        command: that ran them, for the report.

    Raises:
        UserError: no run of the base has finished; of a suite, no run at all.
    """
    results: dict[str, list[dict[str, Any]]] = {}
    predictions: dict[str, list[dict[str, np.ndarray]]] = {}
    test_rows: dict[str, list[int]] = {}
    numbers: dict[int, int] = {}
    for model in comparison.models:
        for run in model.runs:
            if result := run.result:
                with np.load(run.report / "predictions.npz") as file:
                    scored = dict(file)
                results.setdefault(model.name, []).append(result)
                predictions.setdefault(model.name, []).append(scored)
                number = numbers.setdefault(fingerprint_test_rows(run, scored), len(numbers))
                test_rows.setdefault(model.name, []).append(number)
    finished = [model for model in comparison.models if model.name in results]
    if not any(model.experiment == comparison.base for model in finished):
        missing = f"no run of {comparison.base}, the base, has finished"
        if not comparison.is_suite or not finished:
            raise UserError(f"{missing}; a comparison needs a finished base")
        print(f"note: {missing}; differences to the base are left out", file=sys.stderr)
    bases = match_bases(finished, comparison.base, test_rows)
    against = match_bases(finished, comparison.against, test_rows)
    if apart := [model.name for model in finished if model.name not in bases and bases]:
        print(
            f"note: test rows differ from those of {comparison.base}; no difference for {', '.join(apart)}",
            file=sys.stderr,
        )
    rows = make_rows(results, predictions, bases, against, test_rows)
    is_one_set = len({number for numbers in test_rows.values() for number in numbers}) == 1
    slices = _slices(finished) if is_one_set else []
    styles = choose_styles(rows, results)
    pictures: list[Picture] | str
    try:
        pictures = draw_report(rows, styles, results, predictions, slices)
        if comparison.x:
            draw_suite(comparison, build_panels(comparison, rows, results), comparison.folder)
    except UserError as error:  # matplotlib is optional
        pictures = str(error)
        print(f"note: {error}", file=sys.stderr)
    page = as_html(
        rows, results, styles, pictures, _sizes(predictions, test_rows), command, comparison.title, comparison.against
    )
    texts = {
        "table.md": as_markdown(rows, comparison.against) + "\n",
        "table.csv": as_csv(rows),
        "report.html": page,
        "results.json": json.dumps({"base": comparison.base, "runs": results}, indent=2),
    }
    for name, text in texts.items():
        write_atomic(comparison.folder / name, lambda file, text=text: file.write(text.encode()))
    return rows


def match_bases(
    compared: Sequence[ComparedModel], base: str | None, test_rows: Mapping[str, Sequence[int]]
) -> dict[str, str]:
    """Return for each model the name of the base model that it is compared with.

    That is the base on equal test rows with the most similar variation. If all models are variations of the base, they
    are compared with the first. A model without a base on its test rows is left out.

    Args:
        compared: the finished models.
        base: id of the experiment.
        test_rows: name of a model -> a number for the test rows of each of its runs.
    """
    bases = [model for model in compared if model.experiment == base]
    if len(bases) == len(compared):
        bases = bases[:1]
    found = {}
    for model in compared:
        rows = set(test_rows[model.name])
        alike = [other for other in bases if rows & set(test_rows[other.name])]
        if alike:
            nearest = max(alike, key=lambda other: len(_alike(model, other)))
            found[model.name] = model.name if model in alike else nearest.name
    return found


def _alike(model: ComparedModel, other: ComparedModel) -> list[str]:
    return [key for key, value in other.variation.items() if key in model.variation and model.variation[key] == value]


def _sizes(
    predictions: Mapping[str, Sequence[Mapping[str, np.ndarray]]], test_rows: Mapping[str, Sequence[int]]
) -> dict[str, int]:
    """Return the numbers of rows and users of all test sets together."""
    sets = {
        number: run for name, runs in predictions.items() for number, run in zip(test_rows[name], runs, strict=True)
    }
    sizes = {"rows": sum(len(run["label"]) for run in sets.values())}
    if all("group" in run for run in sets.values()):
        sizes["users"] = sum(len(np.unique(run["group"])) for run in sets.values())
    return sizes | ({"test sets": len(sets)} if len(sets) > 1 else {})


def _slices(compared: Sequence[ComparedModel]) -> list[Slices]:
    folder = find_data_set(compared[0].runs[0])
    try:
        return slice_test_rows(folder)
    except FileNotFoundError:
        print(f"note: {folder} was not encoded here: no AUC by history length and item popularity", file=sys.stderr)
        return []


def find_data_set(run: Run) -> Path:
    """Return the folder of the built data set of a run."""
    folder = Path(run.params["data_root"], run.params["dataset_id"])
    places = (Path(), *run.config.absolute().parents)
    return next((place / folder for place in places if (place / folder).is_dir()), folder)


def fingerprint_test_rows(run: Run, predictions: Mapping[str, np.ndarray]) -> int:
    """Return a number that identifies the test rows: labels, users, items, in order.

    Histories do not count: models that see different parts or orders of them score equal rows. The items of a data set
    that was not built from raw files are unknown; its rows equal those of no other data set.

    Args:
        run: a finished run.
        predictions: predictions.npz of the run.
    """
    samples = find_data_set(run) / "samples"
    if (samples / "test.parquet").is_file():
        rows = pl.read_parquet(samples / "test.parquet", columns=list(_TARGET))
        text = rows.select(_TARGET).write_csv()
    else:
        _, first, user = np.unique(users_of(predictions), return_index=True, return_inverse=True)
        users = first.argsort().argsort()[user]
        text = f"{run.params['dataset_id']} {predictions['label'].tolist()} {users.tolist()}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
