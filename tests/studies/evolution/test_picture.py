import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from matplotlib import colors, font_manager, style
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.text import Text

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.experiment.model_methods import principal_components
from dien_fuxictr.studies.evolution.picture import CLEARANCE, LETTERS, draw, free_spot, require_matplotlib


def drawn(file: Path, steps: int, candidates: int, name: str = "a name", seed: int = 0) -> np.ndarray:
    """The pixels (height, width, 3) of a picture of random states."""
    rng = np.random.default_rng(seed)
    attention = rng.dirichlet(np.ones(steps), candidates + 1)
    states = rng.normal(size=(candidates + 1, steps + 1, 4)).cumsum(axis=1)
    states[:, 0] = 0
    draw(attention, *principal_components(states), [name] * steps, [name] * candidates, "title", file)
    return np.round(imread(file)[..., :3] * 255)


def has(pixels: np.ndarray, color: str) -> bool:
    wanted = np.round(np.array(colors.to_rgb(color)) * 255)
    return int((abs(pixels - wanted).max(axis=-1) <= 1).sum()) > 50


@pytest.mark.parametrize(("steps", "candidates"), [(1, 1), (5, 3), (50, 3), (20, len(LETTERS))])
def test_a_path_a_candidate_and_no_more(steps: int, candidates: int, tmp_path: Path) -> None:
    pixels = drawn(tmp_path / "new" / "a.png", steps, candidates)
    colourful = [k for k in range(10) if k != 7]  # text has that grey, too
    assert [has(pixels, f"C{k}") for k in colourful] == [k < candidates for k in colourful]
    assert has(pixels, "0.55") and has(pixels, "black")
    assert 600 < pixels.shape[0] < 1400 and 1200 < pixels.shape[1] < 1800


def test_attention_has_its_colours(tmp_path: Path) -> None:
    def dark_cells(attention: np.ndarray) -> int:
        points = np.zeros((len(attention), attention.shape[1] + 1, 2))
        file = tmp_path / "a.png"
        draw(attention, points, np.ones(2) / 2, ["x"] * attention.shape[1], ["y"] * (len(attention) - 1), "t", file)
        return int((abs(imread(file)[..., :3] - np.array([8, 29, 88]) / 255).max(axis=-1) < 0.01).sum())

    one, two = np.zeros((3, 20)), np.zeros((3, 20))
    one[0, 3] = two[0, 3] = two[1, 4] = 1
    assert dark_cells(one) > 500
    assert dark_cells(two) == pytest.approx(2 * dark_cells(one), rel=0.2)


def test_names_may_hold_what_matplotlib_takes_for_markup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures = []
    savefig = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: figures.append(self) or savefig(self, *a, **k))
    drawn(tmp_path / "a.png", 3, 2, "$_{$")  # as markup it would be broken
    texts = {text.get_text(): text.get_parse_math() for text in figures[0].findobj(Text)}
    names = [*(f"{step}  $_{{$" for step in (1, 2, 3)), "A   $_{$", "B   $_{$"]
    assert [texts[name] for name in names] == [False] * 5


@pytest.mark.filterwarnings("error")
def test_characters_without_a_font_are_spelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures = []
    savefig = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: figures.append(self) or savefig(self, *a, **k))
    only_shipped = [font for font in font_manager.fontManager.ttflist if "matplotlib" in font.fname]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", only_shipped)
    drawn(tmp_path / "a.png", 2, 1, "雨 \uff21\uff22 か 한 é")
    texts = {text.get_text() for text in figures[0].findobj(Text)}
    assert {"1  \\u96e8 AB ka han é", "2  \\u96e8 AB ka han é", "A   \\u96e8 AB ka han é"} <= texts


@pytest.mark.filterwarnings("error")
def test_another_font_that_has_a_character_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures = []
    savefig = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: figures.append(self) or savefig(self, *a, **k))
    characters = {
        name: set(font_manager.get_font(font_manager.findfont(name)).get_charmap())
        for name in ("DejaVu Sans", "STIXGeneral")
    }
    lacking = map(chr, sorted(characters["STIXGeneral"] - characters["DejaVu Sans"]))
    other = next(character for character in lacking if unicodedata.category(character) in ("Lo", "So", "Sm"))
    drawn(tmp_path / "a.png", 2, 1, other)
    assert f"1  {other}" in {text.get_text() for text in figures[0].findobj(Text)}


def test_a_users_style_changes_nothing(tmp_path: Path) -> None:
    pixels = drawn(tmp_path / "a.png", 5, 2)
    with style.context("ggplot"):
        assert np.array_equal(drawn(tmp_path / "b.png", 5, 2), pixels)


def test_labels_keep_their_distance() -> None:
    anchor, taken = np.zeros(2), [np.zeros(2)]
    spots = []
    while (spot := free_spot(anchor, taken, far=True)) is not None and len(spots) < 20:
        spots.append(spot)
        taken.append(spot)
    apart = [np.linalg.norm(a - b) for k, a in enumerate(spots[:10]) for b in [*spots[:k], anchor]]
    assert min(apart) >= CLEARANCE
    assert free_spot(anchor, taken) is None
    beside = free_spot(anchor, [])
    assert 0 < np.linalg.norm(beside - anchor) < CLEARANCE


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UserError, match="pip install matplotlib"):
        require_matplotlib()
