"""Plots as SVG inside a page: their colours, fonts and which systems show are the page's CSS.

Whatever belongs to a system has its mark, `data-row="3"` for the fourth row of the table, by which the page finds it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

WIDTH, HEIGHT = 420, 260
LEFT, RIGHT, TOP, BOTTOM = 44, 12, 8, 38
LINE = 18
"""Of a column of values: from one to the next."""
MOST_TICKS = 7
LETTER = 7.2
"""Width that a letter of a name takes, on average."""


@dataclass(frozen=True)
class Point:
    """A value, with what the mouse finds there.

    Attributes:
        x, y: of the value; one that is not finite is a gap.
        text: shown with it.
        ends: of its interval, if it has one.
    """

    x: float
    y: float
    text: str
    ends: tuple[float, float] | None = None


class Scale:
    """Values to places, linear, with round values to name.

    Args:
        values: that must fit in; those that are not finite don't count.
        start, end: places of the least and the greatest value, with some room beyond them.
        ticks: values to name, each with its name; None: some round ones.
    """

    def __init__(
        self, values: Sequence[float], start: float, end: float, ticks: dict[float, str] | None = None
    ) -> None:
        finite = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
        room = 0.04 * (max(finite) - min(finite)) or 1e-3
        self._low, self._span = min(finite) - room, max(finite) - min(finite) + 2 * room
        self._start, self._length = start, end - start
        self.ticks = self._round_ticks() if ticks is None else ticks

    def __call__(self, value: float) -> float:
        return round(self._start + (value - self._low) / self._span * self._length, 1)

    def _round_ticks(self) -> dict[float, str]:
        power = 10 ** math.floor(math.log10(self._span / MOST_TICKS))
        step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= self._span / MOST_TICKS)
        first, last = math.ceil(self._low / step), math.floor((self._low + self._span) / step)
        digits = max(0, -math.floor(math.log10(step) + 1e-9))
        return {number * step: f"{number * step:.{digits}f}" for number in range(first, last + 1)}


def lines(
    series: Sequence[tuple[str, Sequence[Point]]],
    name: str,
    x_name: str,
    x_ticks: dict[float, str] | None = None,
    diagonal: bool = False,
    apart: bool = False,
) -> str:
    """A line a system.

    Args:
        series: mark and points of each.
        name: of the plot, for who cannot see it.
        x_name: below the axis.
        x_ticks: as of `Scale`.
        diagonal: draw where x and y are the same.
        apart: move lines aside so that their intervals don't hide each other.
    """
    points = [point for _, line in series for point in line]
    x = Scale([point.x for point in points], LEFT, WIDTH - RIGHT, x_ticks)
    ends = [end for point in points for end in point.ends or ()]
    y = Scale([point.y for point in points] + ends, HEIGHT - BOTTOM, TOP)
    parts = [*_x_axis(x, x_name, LEFT, WIDTH - RIGHT, HEIGHT - BOTTOM)]
    for value, text in y.ticks.items():
        parts.append(f'<path class="grid" d="M{LEFT} {y(value)}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text class="end" x="{LEFT - 6}" y="{y(value) + 4}">{text}</text>')
    if diagonal:
        low, high = max(min(x.ticks), min(y.ticks)), min(max(x.ticks), max(y.ticks))
        parts.append(f'<path class="diagonal" d="M{x(low)} {y(low)}L{x(high)} {y(high)}"/>')
    kind = "line apart" if apart else "line"
    parts += [f'<g class="{kind}" {mark}>{_line(line, x, y)}</g>' for mark, line in series if line]
    return _svg(WIDTH, HEIGHT, name, parts)


def _line(points: Sequence[Point], x: Scale, y: Scale) -> str:
    there = [point if math.isfinite(point.y) else None for point in points]
    path = "".join(
        f"{'L' if before else 'M'}{x(point.x)} {y(point.y)}" for before, point in pairwise([None, *there]) if point
    )
    bars = "".join(f"M{x(point.x)} {y(point.ends[0])}V{y(point.ends[1])}" for point in there if point and point.ends)
    dots = "".join(_dot(x(point.x), y(point.y), point.text) for point in there if point)
    return f'<path d="{path}"/>' + (f'<path class="interval" d="{bars}"/>' if bars else "") + dots


def column(series: Sequence[tuple[str, str, Point]], name: str, x_name: str) -> str:
    """A value a system, one below the other.

    Args:
        series: mark, system and value of each; the value's y is not used.
        name, x_name: as of `lines`.
    """
    left = LETTER * max(len(system) for _, system, _ in series) + 12
    right, bottom = left + 250, TOP + LINE * len(series)
    x = Scale([value for _, _, point in series for value in (point.x, *(point.ends or ()))], left, right)
    parts = [*_x_axis(x, x_name, left, right, bottom)]
    for number, (mark, system, point) in enumerate(series):
        middle = TOP + LINE * (number + 0.5)
        bar = f'<path class="interval" d="M{x(point.ends[0])} {middle}H{x(point.ends[1])}"/>' if point.ends else ""
        label = f'<text class="end" x="{left - 8:.1f}" y="{middle + 4}">{escape(system)}</text>'
        parts.append(f"<g {mark}>{label}{bar}{_dot(x(point.x), middle, point.text, 3.5)}</g>")
    return _svg(right + RIGHT, bottom + BOTTOM, name, parts)


def _x_axis(x: Scale, name: str, left: float, right: float, bottom: float) -> list[str]:
    middle = (left + right) / 2
    parts = [f'<text x="{middle:.1f}" y="{bottom + BOTTOM - 5}">{escape(name)}</text>']
    for value, text in x.ticks.items():
        parts.append(f'<path class="grid" d="M{x(value)} {TOP}V{bottom}"/>')
        parts.append(f'<text x="{x(value)}" y="{bottom + 15}">{escape(text)}</text>')
    return parts


def _dot(x: float, y: float, text: str, radius: float = 2.5) -> str:
    return f'<circle cx="{x}" cy="{y}" r="{radius}"><title>{escape(text)}</title></circle>'


def _svg(width: float, height: float, name: str, parts: Sequence[str]) -> str:
    body = "\n".join(parts)
    return f'<svg viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="{escape(name)}">\n{body}\n</svg>'
