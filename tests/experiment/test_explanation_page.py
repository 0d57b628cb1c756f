"""Drawings of explanations, by the script of the server's and other pages.

`run_evolution.py` writes such a page, too.
"""

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np
import pytest
from made_browser import run_page, text_of, with_class

from dien_fuxictr.experiment import explanation_page
from dien_fuxictr.experiment.explanation_page import read_page
from dien_fuxictr.experiment.model_methods import describe_paths

FOLDER = Path(explanation_page.__file__).parent
SCRIPT, STYLE = ((FOLDER / f"explanation.{kind}").read_text() for kind in ("js", "css"))
LETTERS = "ABCDEFGHIJ"
CLEARANCE = 15


def explained(steps: int, candidates: int, seed: int = 0) -> dict[str, Any]:
    """Return an explanation of random states, with a path without a target.

    It has the form of `run_evolution.py`.
    """
    rng = np.random.default_rng(seed)
    attention = rng.dirichlet(np.ones(steps), candidates + 1)
    drawn = describe_paths(attention, rng.normal(size=(candidates + 1, steps, 4)).cumsum(axis=1))
    lists = {name: np.asarray(values).tolist() for name, values in drawn.items()}
    paths = {name: lists[name][:-1] for name in ("attention", "movement", "path")}
    return lists | paths | {"untargeted": lists["path"][-1], "seen": list(range(steps))}


def draw(sequence: dict[str, Any], name: str = "a name", width: int = 800, then: str = "") -> Element:
    """Return the body of a page with one sequence's explanation."""
    values = sequence.get("attention") or sequence.get("movement") or []
    given = json.dumps({"slots": list(range(len(values))), "compared": [name] * len(values)})
    options = f"{{...{given}, count: {len(sequence['seen'])}, name: (place) => `{name} ${{place}}`}}"
    script = f"{SCRIPT}\ndocument.body.append(...explanation({json.dumps(sequence)}, {options}));"
    return run_page(f"<script>{script}</script>", width, then)


def short(value: float) -> str:
    """Return a number of usual size as the script writes it."""
    return f"{value:.3f}" if abs(value) >= 0.01 or abs(value) < 1e-6 else f"{value:#.2g}"


def picture(body: Element, title: str) -> Element:
    (svg,) = (svg for svg in body.iter("svg") if svg.get("aria-label") == title)
    return svg


def spot(element: Element, names: str = "x y") -> np.ndarray:
    return np.array([float(element.attrib[name]) for name in names.split()])


def places(group: Element) -> list[np.ndarray]:
    """Return the places of the states on a path."""
    return [spot(dot, "cx cy") for dot in with_class(group, "dot") if dot.get("r") == "2"]


@pytest.mark.parametrize(("steps", "candidates"), [(1, 1), (5, 3), (50, 3), (20, len(LETTERS))])
def test_a_path_per_candidate_and_one_without_target(steps: int, candidates: int) -> None:
    sequence = explained(steps, candidates)
    svg = picture(draw(sequence), "Path of the state")
    without, *others = svg.findall("g")
    assert without.get("class") == "untargeted" and without.get("data-slot") is None
    assert [group.get("data-slot") for group in others] == list(map(str, range(candidates)))
    assert [text_of(name) for name in with_class(svg, "name")] == list(LETTERS[:candidates])
    (begin,) = with_class(svg, "begin")
    given = np.array([sequence["untargeted"], *sequence["path"]])
    shown = np.array([places(group) for group in (without, *others)])
    np.testing.assert_allclose(shown[:, 0], np.tile(spot(begin) + 4, (candidates + 1, 1)))
    zoom = np.linalg.norm(np.diff(shown, axis=1), axis=2) / np.linalg.norm(np.diff(given, axis=1), axis=2)
    np.testing.assert_allclose(zoom, zoom[0, 0], err_msg="both axes have one scale")
    width, height = map(float, svg.attrib["viewBox"].split()[2:])
    assert width == 800 and height <= 440
    assert (shown > 0).all() and (shown < [width, height]).all()


@pytest.mark.parametrize("width", [343, 800])
@pytest.mark.parametrize(("steps", "candidates"), [(5, 3), (50, 3), (20, len(LETTERS))])
def test_labels_keep_their_distance(steps: int, candidates: int, width: int) -> None:
    svg = picture(draw(explained(steps, candidates), width=width), "Path of the state")
    numbers = with_class(svg, "step")
    assert 3 <= len(numbers) <= steps * (candidates + 1)
    ends = {group.get("data-slot"): places(group)[-1] for group in svg.findall("g")}
    for number in numbers:
        (group,) = (group for group in svg.findall("g") if group.get("data-slot") == number.get("data-slot"))
        assert np.linalg.norm(spot(number) - places(group)[int(text_of(number))]) == pytest.approx(11)
        assert min(np.linalg.norm(spot(number) - end) for end in ends.values()) >= CLEARANCE
    height = float(svg.attrib["height"])
    spots = [spot(label) for label in numbers]
    assert min(np.linalg.norm(a - b) for a, b in combinations(spots, 2)) >= CLEARANCE
    assert all(6 <= x <= width - 6 and 6 <= y <= height - 6 for x, y in spots)


def test_names_of_ends_at_one_place_stand_apart() -> None:
    sequence = explained(4, 6)
    sequence["path"] = [sequence["path"][0]] * 6
    svg = picture(draw(sequence), "Path of the state")
    spots = [spot(name) for name in with_class(svg, "name")]
    assert min(np.linalg.norm(a - b) for a, b in combinations(spots, 2)) >= CLEARANCE


def test_without_room_there_is_no_label() -> None:
    then = """
    const taken = [[50, 50]];
    const spots = [];
    for (let spot; (spot = freeSpot([50, 50], taken, [18, 33, 48], [100, 100])); taken.push(spot)) spots.push(spot);
    document.body.append(make("p", { text: JSON.stringify([spots, freeSpot([50, 50], [], [11], [100, 100])]) }));"""
    body = draw(explained(2, 1), then=then)
    spots, alone = json.loads(text_of(body.findall("p")[-1]))
    assert len(spots) > 10 and alone == pytest.approx([50, 39])
    assert min(np.linalg.norm(np.subtract(a, b)) for a, b in combinations([*spots, [50, 50]], 2)) >= CLEARANCE
    assert np.min(spots) >= 6 and np.max(spots) <= 94


def test_what_has_not_moved_is_drawn() -> None:
    sequence = explained(3, 2)
    still = describe_paths(np.ones((3, 3)) / 3, np.zeros((3, 3, 4)))
    sequence["path"], sequence["untargeted"] = still["path"][:2].tolist(), still["path"][2].tolist()
    svg = picture(draw(sequence), "Path of the state")
    assert not with_class(svg, "step") and "NaN" not in " ".join(" ".join(e.attrib.values()) for e in svg.iter())


def test_attention_has_its_colours_in_the_table() -> None:
    sequence = explained(20, 2)
    attention = np.zeros((2, 20))
    attention[0, 3], attention[1, 4] = 0.8, -0.4
    sequence["attention"] = attention.tolist()
    cells = with_class(draw(sequence), "heat")
    shares = np.array([float(cell.attrib["style"].removeprefix("--share: ")) for cell in cells]).reshape(20, 2).T
    np.testing.assert_allclose(shares, abs(attention) / 0.8)
    assert [cell.get("data-slot") for cell in cells] == ["0", "1"] * 20
    assert [text_of(cell) for cell in cells[6:10]] == ["0.800", "0.000", "0.000", "-0.400"]


@pytest.mark.parametrize(("candidates", "kind", "each"), [(1, "value", 5), (3, "line", 1)])
def test_bars_of_one_candidate_lines_of_several(candidates: int, kind: str, each: int) -> None:
    body = draw(explained(5, candidates))
    for title in ("Attention", "Movement of the state"):
        svg = picture(body, title)
        assert [group.get("data-slot") for group in svg.findall("g")] == list(map(str, range(candidates)))
        assert all(len(with_class(group, kind)) == each for group in svg.findall("g"))


def test_names_may_hold_what_is_markup() -> None:
    body = draw(explained(3, 2), "<b>$_{$</b> 雨 &amp;")
    assert not list(body.iter("b"))
    assert text_of(body.find(".//tbody/tr/th")) == "<b>$_{$</b> 雨 &amp; 0"
    assert text_of(body.find(".//dl/div/dd")).startswith("<b>$_{$</b> 雨 &amp;attention 0.")


def test_the_slider_goes_through_the_behaviours() -> None:
    sequence = explained(7, 2)
    then = 'const slider = document.body.find("input"); slider.value = 3; slider.listeners.input();'
    for after, step in (("", 6), (then, 2)):
        body = draw(sequence, then=after)
        (readout,) = with_class(body, "readout")
        assert text_of(readout.find("strong")) == f"{step + 1} of 7: a name {step}"
        said = [
            f"attention {short(sequence['attention'][k][step])}, moves {short(sequence['movement'][k][step])}"
            for k in (0, 1)
        ]
        assert [text_of(each) for each in readout.iter("small")] == said
        (row,) = with_class(body, "chosen")
        assert text_of(row.find("td")) == str(step + 1)
        svg = picture(body, "Path of the state")
        rings = [spot(ring, "cx cy") for ring in with_class(svg, "ring")]
        np.testing.assert_allclose(rings, [places(group)[step + 1] for group in svg.findall("g")])


def test_without_an_explanation_there_is_the_history() -> None:
    body = draw({"seen": [0, 1, 2]})
    assert "does not explain its scores" in text_of(body.find("p")) and not list(body.iter("svg"))
    assert [text_of(row.find("th")) for row in body.findall(".//tbody/tr")] == [f"a name {k}" for k in range(3)]


def test_attention_alone_has_no_path() -> None:
    body = draw({"seen": [0, 1], "attention": [[0.5, 0.5]]})
    assert [svg.get("aria-label") for svg in body.iter("svg")] == ["Attention"]


def test_each_letter_has_a_colour_of_its_own_on_light_and_dark() -> None:
    assert f'const LETTERS = "{LETTERS}";' in SCRIPT
    assert f"const CLEARANCE = {CLEARANCE};" in SCRIPT
    for slot in range(len(LETTERS)):
        assert f'[data-slot="{slot}"] {{ --color: var(--{slot}); }}' in STYLE
    colors = re.findall(r"--\d: (#\w{6})", STYLE)
    assert len(colors) == len(set(colors)) == 2 * len(LETTERS)


def luminance(color: str) -> float:
    parts = [int(color[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return float(np.dot([0.2126, 0.7152, 0.0722], linear))


def contrast(color: str, other: str) -> float:
    low, high = sorted((luminance(color), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_colours_have_the_contrast_of_wcag_aa(scheme: int) -> None:
    colors = dict(re.findall(r"--(\w+): (#\w{6})", re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)[scheme]))
    assert len(colors) == 8 + len(LETTERS)
    for ground in ("page", "raised"):
        for name in ("text", "muted", "wrong", *map(str, range(len(LETTERS)))):
            assert contrast(colors[name], colors[ground]) >= 4.5, (name, ground)
        for name in ("control", "focus"):
            assert contrast(colors[name], colors[ground]) >= 3, (name, ground)


def test_a_page_is_filled_with_style_script_and_texts(tmp_path: Path) -> None:
    for kind, text in (("html", "$style|$script|$more"), ("css", "é {}"), ("js", "own($more);")):
        (tmp_path / f"page.{kind}").write_text(text, encoding="utf-8")
    page = read_page(tmp_path)
    assert (page.style, page.script) == (f"{STYLE}é {{}}", f"{SCRIPT}own($more);")
    assert page.fill(more="$style") == f"{page.style}|{page.script}|$style"
