"""Plots as SVG: where values land, what is left out, what a name may hold."""

import math
import re
import xml.etree.ElementTree as ElementTree

import pytest

from dien_fuxictr.studies.comparison.svg import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Point, Scale, column, lines


def points(*values: float, ends: float = 0) -> list[Point]:
    return [Point(x, y, f"{y}", (y - ends, y + ends) if ends else None) for x, y in enumerate(values)]


def test_a_scale_has_room_beyond_its_ends_and_keeps_order() -> None:
    scale = Scale([1, math.nan, 3], 10, 110)
    assert 10 < scale(1) < 20 and 100 < scale(3) < 110 and scale(2) == pytest.approx(60)


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ([0.62, 0.91], ["0.65", "0.70", "0.75", "0.80", "0.85", "0.90"]),
        ([0.8701, 0.8709], ["0.8702", "0.8704", "0.8706", "0.8708"]),
        ([0, 4000], ["0", "1000", "2000", "3000", "4000"]),
    ],
)
def test_round_ticks_inside_the_scale(values: list[float], names: list[str]) -> None:
    assert list(Scale(values, 0, 1).ticks.values()) == names


@pytest.mark.parametrize("values", [[0.5, 0.5], [math.nan], []])
def test_a_scale_of_one_value_or_none(values: list[float]) -> None:
    scale = Scale(values, 0, 100)
    assert math.isfinite(scale(0.5)) and len(scale.ticks) > 1


def test_lines_stay_inside_their_axes_with_their_intervals() -> None:
    root = ElementTree.fromstring(lines([('data-row="0"', points(1, 5, 2, ends=1))], "n", "x"))
    line, bars = (path.get("d") or "" for path in root.findall("g/path"))
    assert re.findall("[ML]", line) == ["M", "L", "L"] and bars.count("M") == bars.count("V") == 3
    dots = [(float(dot.get("cx", "")), float(dot.get("cy", ""))) for dot in root.findall("g/circle")]
    assert [x for x, _ in dots] == sorted(x for x, _ in dots) and dots[1][1] < dots[2][1] < dots[0][1]
    numbers = [[float(number) for number in pair] for pair in re.findall(r"M([\d.]+) ([\d.]+)V([\d.]+)", bars)]
    assert all(LEFT < x < WIDTH - RIGHT and TOP < high < low < HEIGHT - BOTTOM for x, low, high in numbers)


def test_a_value_that_is_not_finite_is_a_gap() -> None:
    root = ElementTree.fromstring(lines([("", points(1, 2, math.nan, 4, 5))], "n", "x"))
    assert re.findall("[ML]", root.find("g/path").get("d")) == ["M", "L", "M", "L"]
    assert len(root.findall("g/circle")) == 4 and "nan" not in ElementTree.tostring(root, "unicode")


def test_a_system_without_points_has_no_line() -> None:
    root = ElementTree.fromstring(lines([('data-row="0"', points(1, 2)), ('data-row="1"', [])], "n", "x"))
    assert [group.get("data-row") for group in root.findall("g")] == ["0"]


def test_named_ticks_and_the_diagonal() -> None:
    series = [("", [Point(0, 0.2, ""), Point(1, 0.9, "")])]
    root = ElementTree.fromstring(lines(series, "n", "history", {0.0: "1-3", 1.0: "4 < 5"}, diagonal=True))
    texts = [text.text for text in root.findall("text")]
    assert {"history", "1-3", "4 < 5"} <= set(texts)
    start, end = re.findall(r"[\d.]+ [\d.]+", root.find("path[@class='diagonal']").get("d"))
    assert float(start.split()[0]) < float(end.split()[0]) and float(start.split()[1]) > float(end.split()[1])


def test_a_column_names_its_systems_one_below_the_other() -> None:
    series = [('data-row="0"', "a & b", Point(2, 0, "<1>", (1, 3))), ('data-row="1"', "c", Point(1, 0, "2"))]
    root = ElementTree.fromstring(column(series, "all", "AUC"))
    first, second = root.findall("g")
    assert [first.find("text").text, second.find("text").text] == ["a & b", "c"]
    assert first.find("circle/title").text == "<1>" and first.find("path") is not None and second.find("path") is None
    below = [float(group.find("circle").get("cy")) for group in (first, second)]
    across = [float(group.find("circle").get("cx")) for group in (first, second)]
    assert below[0] < below[1] and across[0] > across[1]


def test_names_fit_beside_the_values() -> None:
    name = "DIEN_amazon_beauty_with_a_long_name"
    root = ElementTree.fromstring(column([("", name, Point(1, 0, ""))], "n", "x"))
    assert float(root.find("g/text").get("x")) > 6.5 * len(name)
