"""Figures of research/results.md and research/studies.md match their rows."""

import csv
import re
from collections import defaultdict
from itertools import product

import numpy as np
import pytest
from pages import ROOT, tables

RESEARCH = ROOT / "research"
FIGURE = re.compile(r"\.\d{4} ± \.\d{4}")
DIFFERENCE = re.compile(r"([+-]\.\d{4}) \[([+-]\.\d{4}), ([+-]\.\d{4})\]")
METRICS = {"test_AUC", "test_gAUC", "test_logloss", "monitor"}
SECTIONS = dict(
    section.split("\n", 1)
    for page in ("results.md", "studies.md")
    for section in re.split(r"^## ", (RESEARCH / page).read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
)
"""Heading -> text."""
PLACED = {
    heading: [dict(zip(head, row, strict=True)) for row in rows if FIGURE.fullmatch(row[2])]
    for heading, text in SECTIONS.items()
    for head, *rows in tables(text.replace("\N{MINUS SIGN}", "-"))
    if head[0] == "place" and "AUC - DIN, 95 %" in head
}
"""Heading -> the systems in its table of places, compared with DIN."""
WITHOUT_ROWS = {"The embedded sample": "its report is docs/amazon/report.html"}

Rows = list[dict[str, str]]


def lines_of_figures(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("|") and FIGURE.search(line)]


def named_files(text: str) -> set[str]:
    return set(re.findall(r"\(results/(\w+\.csv)\)", text))


def rows_of(text: str) -> Rows:
    rows = []
    for name in sorted(named_files(text)):
        with open(RESEARCH / "results" / name, encoding="utf-8", newline="") as file:
            rows += csv.DictReader(file)
    return rows


def figures_of(rows: Rows) -> dict[str, set[str]]:
    """Return the figures of experiments: mean ± standard deviation per metric.

    A mean is over the first two or more runs of a variation. A run, a seed or fold, may have rows of several commits or
    settings; the text of a page says which of them it shows.
    """
    variations: dict[tuple[str, ...], dict[tuple[str, ...], Rows]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        runs = variations[row["suite"], row["experiment"], row["variation"]]
        runs[row["seed"], row["fold"]].append(row)
    figures: dict[str, set[str]] = defaultdict(set)
    for (_, experiment, _), runs in variations.items():
        metrics = METRICS & next(iter(runs.values()))[0].keys()
        for count, metric in product(range(2, len(runs) + 1), metrics):
            repeats = [{float(row[metric]) for row in runs[run]} for run in sorted(runs)[:count]]
            figures[experiment] |= {
                f"{np.mean(values):.4f} ± {np.std(values, ddof=1):.4f}".replace("0.", ".")
                for values in product(*repeats)
            }
    return figures


@pytest.mark.parametrize("heading", sorted(SECTIONS.keys() - WITHOUT_ROWS.keys()))
def test_tables_are_of_the_rows(heading: str) -> None:
    figures = figures_of(rows_of(SECTIONS[heading]))
    for line in lines_of_figures(SECTIONS[heading]):
        named = [name for name in figures if re.search(rf"\b{re.escape(name)}\b", line)]
        assert set(FIGURE.findall(line)) <= set().union(*(figures[name] for name in named or figures)), line


@pytest.mark.parametrize("heading", PLACED)
def test_differences_are_of_the_means(heading: str) -> None:
    """Derive RI and paired differences from the AUCs, up to rounding."""
    systems = PLACED[heading]
    means = {system["experiment"]: float(system["AUC"].split(" ± ")[0]) for system in systems}
    base = next(system["experiment"] for system in systems if system["AUC - base, 95 %"] == "base")
    din = next(system["experiment"] for system in systems if system["AUC - DIN, 95 %"] == "")
    for system in systems:
        mean = means[system["experiment"]]
        gain = (mean - 0.5) / (means[base] - 0.5) - 1
        assert float(system["RI"].rstrip("%")) / 100 == pytest.approx(gain, abs=6e-5 * (2 + gain) / (means[base] - 0.5))
        for column, other in (("AUC - base, 95 %", base), ("AUC - DIN, 95 %", din)):
            if system["experiment"] != other:
                centre, low, high = map(float, DIFFERENCE.fullmatch(system[column]).groups())
                assert centre == pytest.approx(mean - means[other], abs=1.6e-4), (system["experiment"], column)
                assert (low + high) / 2 == pytest.approx(centre, abs=1.1e-4), (system["experiment"], column)


def test_what_has_no_rows_has_figures() -> None:
    assert all(FIGURE.search(SECTIONS[heading]) and not rows_of(SECTIONS[heading]) for heading in WITHOUT_ROWS)


def test_the_readme_shows_results() -> None:
    results = (ROOT / "README.md").read_text(encoding="utf-8").split("\n## When does DIEN pay?\n")[1].split("\n## ")[0]
    shown = {figure for line in lines_of_figures(results) for figure in FIGURE.findall(line)}
    assert shown and shown <= {figure for text in SECTIONS.values() for figure in FIGURE.findall(text)}


def test_each_file_of_rows_is_on_a_page() -> None:
    assert set().union(*map(named_files, SECTIONS.values())) == {
        file.name for file in (RESEARCH / "results").glob("*.csv")
    }
