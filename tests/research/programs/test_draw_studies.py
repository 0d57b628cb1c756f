"""Pictures of the studies: figures of the page, equal costs, completeness."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from pages import ROOT

from research.programs import draw, draw_studies
from research.programs.draw_studies import PICTURES, draw_study, read_points, read_tables

RESEARCH = ROOT / "research"
PAGE = (RESEARCH / "studies.md").read_text(encoding="utf-8")
SECTIONS = {
    name: text
    for text in re.split(r"^## ", PAGE, flags=re.MULTILINE)
    for name in re.findall(r"\(images/(\w+)\.png\)", text)
}
"""Name of a picture -> the section that shows it."""


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_has_the_figures_of_its_page(name: str) -> None:
    for points in read_points(name, PICTURES[name]):
        assert len(points) > 1
        for values in points.values():
            figure = f"{np.mean(values):.4f} ± {np.std(values, ddof=1):.4f}".replace("0.", ".")
            assert figure in SECTIONS[name] or figure in PAGE, figure


@pytest.mark.parametrize("name", PICTURES)
def test_line_names_are_apart_and_colors_are_the_models(name: str) -> None:
    picture = PICTURES[name]
    figure = draw_study(picture, read_points(name, picture))
    (axes,) = figure.axes
    assert axes.get_xlabel() == picture.axis and "1024" not in [tick.get_text() for tick in axes.get_xticklabels()]
    names = [text for text in axes.texts if text.get_text()]
    heights = sorted(text.get_position()[1] for text in names)
    assert {text.get_text() for text in names} == {line.name for line in picture.lines}
    assert all(np.diff(heights) > draw_studies.GAP - 1e-9)
    colors = {text.get_text().split(",")[0]: text.get_color() for text in names}
    assert all(colors.get(model, style.color) == style.color for model, style in draw.MODEL_STYLES.items())


def test_every_picture_is_drawn_and_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Figure, "savefig", lambda figure, file, **_: Path(file).touch())
    assert draw_studies.main(["--out", str(tmp_path)]) == 0
    drawn = {file.name for file in tmp_path.iterdir()}
    assert drawn == {file.name for file in (RESEARCH / "images").glob("*.png")}
    assert (
        drawn == {f"{name}.png" for name in [*SECTIONS, "pareto"]} == {f"{name}.png" for name in [*PICTURES, "pareto"]}
    )


def test_networks_of_equal_cost_have_one_cost() -> None:
    tables = read_tables(RESEARCH / "rocket_launching.md")
    figure = draw.draw_pareto(tables)
    for axes, rows in zip(figure.axes, tables.values(), strict=True):
        (times,) = (child for child in axes.child_axes)
        shown = [tick.get_text() for tick in times.get_yticklabels()]
        sizes: dict[int, list[Any]] = {}
        for row in rows:
            sizes.setdefault(row["parameters"], []).append(row["ms"])
        assert sorted(shown) == sorted(f"{min(ms):.3g} ms" for ms in sizes.values() for _ in ms)
