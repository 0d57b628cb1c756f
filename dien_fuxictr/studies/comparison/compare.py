"""The finished runs of a study -> its table, report and results in files."""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.common.files import write_atomic

from .page import as_html, marks_of
from .pictures import draw_all
from .plan import Study, System
from .rows import data_dir, rows_of
from .slices import Slices, slices_of
from .study_panels import Panel, panels_of
from .study_picture import draw_study
from .table import Row, as_csv, as_markdown, make_rows


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
    marks = marks_of(rows, results)
    is_one_set = len({number for numbers in test_rows.values() for number in numbers}) == 1
    pictures = draw_all(rows, marks, results, predictions, _slices(finished) if is_one_set else [])
    texts = {
        "table.md": as_markdown(rows, study.against) + "\n",
        "table.csv": as_csv(rows),
        "report.html": as_html(
            rows, results, marks, pictures, _sizes(predictions, test_rows), command, study.title, study.against
        ),
        "results.json": json.dumps({"base": study.base, "runs": results}, indent=2),
    }
    for name, text in texts.items():
        write_atomic(study.folder / name, lambda file, text=text: file.write(text.encode()))
    if study.x:
        _draw(study, panels_of(study, rows, results))
    return rows


def _draw(study: Study, panels: Sequence[Panel]) -> None:
    try:
        draw_study(study, panels, study.folder)
    except UserError as error:  # matplotlib is optional
        print(f"note: {error}", file=sys.stderr)


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
