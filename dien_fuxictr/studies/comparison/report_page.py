"""A comparison as one HTML file that needs nothing beside it: what was run, the table, the pictures."""

import re
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from .report_pictures import Picture
from .results_table import Row, cells, header
from .statistics import METHOD

MOST = 8
"""Systems that the pictures show at a time; page.css has a colour for each."""
BEST_IS_LEAST = ("place", "test rows", "experiment", "logloss", "against base", "parameters", "s/epoch", "ms/batch")
"""Columns; of the others the best is the greatest."""
VERDICTS = ("better", "base", "not ranked", "too few runs", "too few users", "one run", "worse", "-")

Results = dict[str, list[dict[str, Any]]]


def as_html(
    rows: Sequence[Row],
    results: Results,
    marks: Sequence[str],
    pictures: Sequence[Picture],
    test: dict[str, int],
    command: str,
    title: str = "",
    against: str | None = None,
) -> str:
    """The page.

    Args:
        rows: of the table.
        results: expid -> result.json of each of its runs.
        marks: of `marks_of`.
        pictures: drawn with them.
        test: number of its rows, of users, ...
        command: that ran the comparison.
        title: heading; by default the data set's.
        against: what the second difference is to.
    """
    names = header(rows, against)
    runs = [run for of_one in results.values() for run in of_one]
    marked = list(zip(rows, marks, strict=True))
    return Template(_text("page.html")).substitute(
        title=escape(title or f"Comparison on {runs[0]['dataset_id']}"),
        style=_text("page.css"),
        script=_text("page.js"),
        facts="\n".join(
            f"<div><dt>{name}</dt><dd>{escape(fact)}</dd></div>" for name, fact in _facts(runs, test) if fact
        ),
        method=METHOD,
        versions=escape(_distinct(", ".join(map(" ".join, run["versions"].items())) for run in runs)),
        command=escape(command),
        head="\n".join(_head(name) for name in _name_first(names)),
        body="\n".join(_row(number, row, mark, names) for number, (row, mark) in enumerate(marked)),
        most=MOST,
        legend="\n".join(f'<button class="named" {mark}>{_named(row)}</button>' for row, mark in marked),
        pictures="\n".join(map(_figure, pictures)),
    )


def marks_of(rows: Sequence[Row], results: Results) -> list[str]:
    """Attributes by which the page finds what belongs to a row; one that is shown at first has a slot, its colour."""
    slots = {expid: slot for slot, expid in enumerate(first_choice(rows, results))}
    return [
        f'data-row="{number}"' + (f' data-slot="{slots[row.expid]}"' if row.expid in slots else "")
        for number, row in enumerate(rows)
    ]


def first_choice(rows: Sequence[Row], results: Results) -> list[str]:
    """At most `MOST` experiments: the base, of each model the best by validation, then the best of the rest.

    By validation, not by test: the best of many by the test set is also one that was lucky there.
    """

    def validation(row: Row) -> float:
        return float(np.mean([run["valid"]["AUC"] for run in results[row.expid]]))

    best = [row.expid for row in sorted(rows, key=validation, reverse=True)]
    of_model: dict[str, str] = {}
    for expid in best:
        of_model.setdefault(results[expid][0]["model"], expid)
    base = [row.expid for row in rows if row.verdict == "base"]
    return list(dict.fromkeys([*base, *of_model.values(), *best]))[:MOST]


def _text(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def _facts(runs: Sequence[dict[str, Any]], test: dict[str, int]) -> list[tuple[str, str]]:
    """What the runs are of; where they differ, all that there is."""
    seeds = sorted({run["seed"] for run in runs})
    dates = sorted({run["date"] for run in runs if "date" in run})
    return [
        ("test set", ", ".join(f"{number:,} {what}" for what, number in test.items())),
        ("runs", f"{len(runs)}, seed" + "s" * (len(seeds) > 1) + " " + ", ".join(map(str, seeds))),
        ("date", " to ".join(dict.fromkeys([*dates[:1], *dates[-1:]]))),
        ("commit", _distinct(_short(run.get("commit")) for run in runs)),
        ("commit of the zoo", _distinct(_short(run.get("zoo_commit")) for run in runs)),
        ("hardware", _distinct(_hardware(run["hardware"]) for run in runs)),
    ]


def _short(commit: str | None) -> str:
    number, sign, changes = (commit or "").partition("+")
    return number[:12] + sign + changes


def _distinct(texts: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(text for text in texts if text))


def _hardware(of_run: dict[str, Any]) -> str:
    device, cpus, threads = (of_run[what] for what in ("device", "cpus", "threads"))
    return f"{device}, {cpus} CPUs, {threads} thread{'s' * (threads > 1)} a run"


def _name_first(texts: Sequence[str]) -> list[str]:
    place, name, *others = texts
    return [name, place, *others]


def _head(name: str) -> str:
    best = "ascending" if name in BEST_IS_LEAST else "descending"
    order = ' aria-sort="ascending"' if name == "place" else ""
    return f'<th scope="col" data-best="{best}"{order}><button>{escape(name)}</button></th>'


def _row(number: int, row: Row, mark: str, names: Sequence[str]) -> str:
    texts = _name_first([_small_noise(escape(cell)) for cell in cells(row, names)])
    values = _name_first(_values(number, row, names))
    pressed = "true" if "data-slot" in mark else "false"
    body = "".join(f'<td data-value="{value}">{text}</td>' for text, value in zip(texts[1:], values[1:], strict=True))
    return (
        f'<tr class="{row.verdict}" {mark}><th scope="row" data-value="{escape(row.expid)}">'
        f'<button class="named" aria-pressed="{pressed}">{_named(row)}</button></th>{body}</tr>'
    )


def _values(number: int, row: Row, names: Sequence[str]) -> list[str]:
    """What each column sorts by; empty where the row has no value."""
    known = {
        "place": number,
        "experiment": row.expid,
        "test rows": row.test_set,
        "AUC": row.auc,
        "gAUC": row.gauc,
        "logloss": row.logloss,
        "RI": row.improvement,
        "AUC - base, 95 %": 0 if row.is_base else row.difference,
        "against base": VERDICTS.index(row.verdict),
        "parameters": row.parameters,
        "s/epoch": row.epoch_seconds,
        "samples/s": row.samples_per_second,
        "ms/batch": row.inference_ms,
    }
    values = [known.get(name, row.against) for name in names]
    return ["" if value is None else str(value) for value in values]


def _named(row: Row) -> str:
    name = escape(row.expid).replace("_", "_<wbr>")  # a narrow screen breaks it there
    return f"<span>{name}{row.caution}</span>"


def _small_noise(cell: str) -> str:
    """A deviation or an interval is smaller than what it belongs to."""
    return re.sub(r" (± .+|\[.+\]|too few .+)$", r" <small>\1</small>", cell)


def _figure(picture: Picture) -> str:
    note = f"<small>{escape(picture.note)}</small>" if picture.note else ""
    return f"<figure><figcaption>{escape(picture.title)}{note}</figcaption>\n{picture.svg}\n</figure>"
