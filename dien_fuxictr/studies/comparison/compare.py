"""The finished runs of a study -> its table, report and results in files."""

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
from .plan import Study, System
from .report_page import as_html
from .report_pictures import Picture, choose_colors, draw_report
from .results_table import Row, as_csv, as_markdown, make_rows
from .slices import Slices, slices_of
from .statistics import users_of
from .suite_picture import draw_suite, panels_of

_TARGET = ("label", "user_id", "item_id")


def compare(study: Study, command: str) -> list[Row]:
    """The table and the report of the finished runs, written into the study's folder.

    Args:
        study: its runs may be unfinished.
        command: that ran them, for the report.

    Raises:
        UserError: no run of the base has finished; of a suite, no run at all.
    """
    results: dict[str, list[dict[str, Any]]] = {}
    predictions: dict[str, list[dict[str, np.ndarray]]] = {}
    test_rows: dict[str, list[int]] = {}
    numbers: dict[int, int] = {}
    for system in study.systems:
        for run in system.runs:
            if result := run.result:
                with np.load(run.report / "predictions.npz") as file:
                    scored = dict(file)
                results.setdefault(system.name, []).append(result)
                predictions.setdefault(system.name, []).append(scored)
                number = numbers.setdefault(rows_of(run, scored), len(numbers))
                test_rows.setdefault(system.name, []).append(number)
    finished = [system for system in study.systems if system.name in results]
    if not any(system.experiment == study.base for system in finished):
        missing = f"no run of {study.base}, the base, has finished"
        if not study.is_suite or not finished:
            raise UserError(f"{missing}: there is nothing to compare with")
        print(f"note: {missing}: no differences to it", file=sys.stderr)
    bases = stands_against(finished, study.base, test_rows)
    against = stands_against(finished, study.against, test_rows)
    if apart := [system.name for system in finished if system.name not in bases and bases]:
        print(f"note: on other test rows than {study.base}, no difference to it: {', '.join(apart)}", file=sys.stderr)
    rows = make_rows(results, predictions, bases, against, test_rows)
    is_one_set = len({number for numbers in test_rows.values() for number in numbers}) == 1
    slices = _slices(finished) if is_one_set else []
    colors = choose_colors(rows, results)
    pictures: list[Picture] | str
    try:
        pictures = draw_report(rows, colors, results, predictions, slices)
        if study.x:
            draw_suite(study, panels_of(study, rows, results), study.folder)
    except UserError as error:  # matplotlib is optional
        pictures = str(error)
        print(f"note: {error}", file=sys.stderr)
    page = as_html(rows, results, colors, pictures, _sizes(predictions, test_rows), command, study.title, study.against)
    texts = {
        "table.md": as_markdown(rows, study.against) + "\n",
        "table.csv": as_csv(rows),
        "report.html": page,
        "results.json": json.dumps({"base": study.base, "runs": results}, indent=2),
    }
    for name, text in texts.items():
        write_atomic(study.folder / name, lambda file, text=text: file.write(text.encode()))
    return rows


def stands_against(
    systems: Sequence[System], base: str | None, test_rows: Mapping[str, Sequence[int]]
) -> dict[str, str]:
    """System -> the one of the base's that it stands against: on the same test rows, of the most alike variation.

    Where there are variations of the base alone, all stand against the first.

    Args:
        systems: finished ones.
        base: an experiment.
        test_rows: of the runs of each system.
    """
    bases = [system for system in systems if system.experiment == base]
    if len(bases) == len(systems):
        bases = bases[:1]
    found = {}
    for system in systems:
        rows = set(test_rows[system.name])
        alike = [other for other in bases if rows & set(test_rows[other.name])]
        if alike:
            nearest = max(alike, key=lambda other: len(_alike(system, other)))
            found[system.name] = system.name if system in alike else nearest.name
    return found


def _alike(system: System, other: System) -> list[str]:
    return [key for key, value in other.variation.items() if key in system.variation and system.variation[key] == value]


def _sizes(
    predictions: Mapping[str, Sequence[Mapping[str, np.ndarray]]], test_rows: Mapping[str, Sequence[int]]
) -> dict[str, int]:
    """Rows and users of all test sets together."""
    sets = {
        number: run for name, runs in predictions.items() for number, run in zip(test_rows[name], runs, strict=True)
    }
    sizes = {"rows": sum(len(run["label"]) for run in sets.values())}
    if all("group" in run for run in sets.values()):
        sizes["users"] = sum(len(np.unique(run["group"])) for run in sets.values())
    return sizes | ({"test sets": len(sets)} if len(sets) > 1 else {})


def _slices(systems: Sequence[System]) -> list[Slices]:
    folder = data_dir(systems[0].runs[0])
    try:
        return slices_of(folder)
    except FileNotFoundError:
        print(f"note: {folder} was not encoded here: no AUC by history length and item popularity", file=sys.stderr)
        return []


def data_dir(run: Run) -> Path:
    """The folder of the built data set of a run."""
    folder = Path(run.params["data_root"], run.params["dataset_id"])
    places = (Path(), *run.config.absolute().parents)
    return next((place / folder for place in places if (place / folder).is_dir()), folder)


def rows_of(run: Run, predictions: Mapping[str, np.ndarray]) -> int:
    """A number that stands for the test rows: labels, users and items in their order.

    Histories do not count: systems that see more or less of them, or in another order, are asked the same. Of a data
    set that was not built from raw files the items are not known, so that its rows are its own.

    Args:
        predictions: predictions.npz of the run.
    """
    samples = data_dir(run) / "samples"
    if (samples / "test.parquet").is_file():
        rows = pl.read_parquet(samples / "test.parquet", columns=list(_TARGET))
        text = rows.select(_TARGET).write_csv()
    else:
        _, first, user = np.unique(users_of(predictions), return_index=True, return_inverse=True)
        users = first.argsort().argsort()[user]
        text = f"{run.params['dataset_id']} {predictions['label'].tolist()} {users.tolist()}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
