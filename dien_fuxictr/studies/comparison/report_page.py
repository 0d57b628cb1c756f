"""Report of a comparison: one HTML file that needs no network."""

import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from dien_fuxictr.common.pictures import LineStyle

from .report_pictures import SHOWN, Picture
from .results_table import Row, cells, header
from .statistics import METHOD

BEST_IS_LEAST = ("place", "test rows", "experiment", "logloss", "against base", "parameters", "s/epoch", "ms/batch")
"""Columns whose smallest value is the best; in the others the greatest is."""
VERDICTS = ("better", "base", "not ranked", "not enough", "one run", "worse", "-")
_CLASSES = {"against base": ' class="verdict"'}

Results = dict[str, list[dict[str, Any]]]


def as_html(
    rows: Sequence[Row],
    results: Results,
    styles: Mapping[str, LineStyle],
    pictures: Sequence[Picture] | str,
    test: dict[str, int],
    command: str,
    title: str = "",
    against: str | None = None,
) -> str:
    """Return the page.

    Args:
        rows: rows of the table.
        results: expid -> result.json of each of its runs.
        styles: of the rows that the pictures can show.
        pictures: drawn in them, or why there are none.
        test: number of its rows, of users, ...
        command: that ran the comparison.
        title: heading; by default the data set's.
        against: what the second difference is to.
    """
    names = header(rows, against)
    runs = [run for of_one in results.values() for run in of_one]
    return Template(_text("page.html")).substitute(
        title=escape(title or f"Comparison on {runs[0]['dataset_id']}"),
        style=_text("page.css"),
        script=_text("page.js"),
        facts="\n".join(
            f"<div><dt>{name}</dt><dd>{escape(fact)}</dd></div>" for name, fact in _facts(runs, test) if fact
        ),
        method=METHOD,
        count=len(rows),
        versions=escape(_distinct(", ".join(map(" ".join, run["versions"].items())) for run in runs)),
        command=escape(command),
        head="\n".join(_head(name) for name in _name_first(names)),
        body="\n".join(_row(number, row, names, styles) for number, row in enumerate(rows)),
        pictures=_pictures(len(rows), styles, pictures),
    )


def _text(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def _facts(runs: Sequence[dict[str, Any]], test: dict[str, int]) -> list[tuple[str, str]]:
    """Return names and values of the header; where runs differ, all their values."""
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


def _row(number: int, row: Row, names: Sequence[str], styles: Mapping[str, LineStyle]) -> str:
    texts = _name_first([_small_noise(escape(cell)) for cell in cells(row, names)])
    values = _name_first(_values(number, row, names))
    shown = _swatch(row.expid, styles) + f"<span>{_breakable(row.expid)}{row.caution}</span>"
    name = f'<th scope="row" data-value="{escape(row.expid)}"><span class="named">{shown}</span></th>'
    others = zip(_name_first(names)[1:], texts[1:], values[1:], strict=True)
    body = "".join(f'<td{_CLASSES.get(column, "")} data-value="{value}">{text}</td>' for column, text, value in others)
    return f'<tr class="{row.verdict}">{name}{body}</tr>'


def _values(number: int, row: Row, names: Sequence[str]) -> list[str]:
    """Return what each column sorts by; empty where the row has no value."""
    known = {
        "place": number,
        "experiment": row.expid,
        "test rows": row.test_set,
        "AUC": row.auc,
        "gAUC": row.gauc,
        "logloss": row.logloss,
        "RI": row.improvement,
        "AUC - base, 95 %": 0 if row.is_base else row.difference,
        "against base": next(place for place, verdict in enumerate(VERDICTS) if row.verdict.startswith(verdict)),
        "parameters": row.parameters,
        "s/epoch": row.epoch_seconds,
        "samples/s": row.samples_per_second,
        "ms/batch": row.inference_ms,
    }
    values = [known.get(name, row.against) for name in names]
    return ["" if value is None else str(value) for value in values]


def _swatch(expid: str, styles: Mapping[str, LineStyle]) -> str:
    if expid not in styles:
        return '<i class="swatch"></i>'
    return f'<i class="swatch" style="--color: {styles[expid].color}; --dash: {styles[expid].dash}"></i>'


def _breakable(expid: str) -> str:
    return escape(expid).replace("_", "_<wbr>")  # narrow screens break the line here


def _small_noise(cell: str) -> str:
    """Make a deviation or an interval smaller than the value before it."""
    return re.sub(r" (± .+|\[.+\].*|not enough .+)$", r" <small>\1</small>", cell)


def _pictures(rows: int, styles: Mapping[str, LineStyle], pictures: Sequence[Picture] | str) -> str:
    if isinstance(pictures, str):
        return f"<p>{escape(pictures)}</p>"
    choices = "\n".join(_choice(number, expid, styles) for number, expid in enumerate(styles))
    figures = "\n".join(map(_figure, pictures))
    left = rows - len(styles)
    others = f" The other {left} rows are in the table and in the first picture only." if left else ""
    first = min(SHOWN, len(styles))
    return f"""<p>The first picture has all rows, the others those that are ticked here. At first {first} are: the base,
the best DIEN, the best DIN and the best of other models, by validation. Tick as many as you like: each row keeps its
line.{others}</p>
<fieldset>
<legend>Rows in the pictures</legend>
{choices}
</fieldset>
<div class="pictures">
{figures}
</div>"""


def _choice(number: int, expid: str, styles: Mapping[str, LineStyle]) -> str:
    ticked = " checked" if number < SHOWN else ""
    box = f'<input type="checkbox" value="{number}"{ticked}>'
    name = escape(expid)
    return f'<label class="named" data-name="{name}">{box}{_swatch(expid, styles)}<span>{name}</span></label>'


def _figure(picture: Picture) -> str:
    note = f"<small>{escape(picture.note)}</small>" if picture.note else ""
    return f"<figure><figcaption>{escape(picture.title)}{note}</figcaption>\n{picture.svg}\n</figure>"
