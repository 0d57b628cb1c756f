"""Figure 3 of the paper: paths of the second layer's state on the left, attention over the behaviours on the right."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.common.files import write_atomic
from dien_fuxictr.common.pictures import default_style, use_fonts_for

LETTERS = "ABCDEFGHIJ"
"""Candidates on one picture."""
FEW = 14
"""Behaviours that still have rows of this share of the height."""
DPI = 110
CLEARANCE = 15
"""Pixels between the middles of two labels."""
START = {"marker": "s", "markersize": 7, "color": "black"}
DIRECTIONS = ((0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, 1), (-1, -1), (1, -1))


def require_matplotlib() -> None:
    """Raises UserError where it is not installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise UserError("a picture needs matplotlib, which is not installed: pip install matplotlib") from error


def draw(
    attention: np.ndarray,
    points: np.ndarray,
    shares: np.ndarray,
    behaviours: Sequence[str],
    candidates: Sequence[str],
    title: str,
    file: Path,
) -> None:
    """Write the picture.

    Args:
        attention: (P + 1, T) of a `Trace`.
        points: (P + 1, T + 1, 2) and shares: (2,) of `principal_components`.
        behaviours: T names. candidates: P names, of a few lines each.
        title: of the picture.
        file: PNG to write.
    """
    from matplotlib.figure import Figure

    with default_style({"text.parse_math": False}):  # a title may hold dollars
        spelled = use_fonts_for("".join([title, *behaviours, *candidates]))
        behaviours, candidates = ([name.translate(spelled) for name in names] for names in (behaviours, candidates))
        key = 0.42 * len(candidates) + 1.3
        height = max(4.8 + key, 0.21 * len(behaviours) + 1.4)
        below = max(key, height - 7)  # the paths' panel is not higher than wide
        figure = Figure(figsize=(12 + 0.35 * len(candidates), height), dpi=DPI, layout="constrained")
        figure.suptitle(title.translate(spelled))
        widths = (1, max(0.45, 0.07 * len(candidates)))
        grid = figure.add_gridspec(2, 2, width_ratios=widths, height_ratios=(height - below, below))
        paths = figure.add_subplot(grid[0, 0])
        _draw_paths(paths, points, shares)
        _draw_key(figure.add_subplot(grid[1, 0]), candidates, attention[-1, 0])
        _draw_attention(figure.add_subplot(grid[:, 1]), attention[:-1], behaviours)
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # labels are placed by pixels, so that nothing may move any more
        _label_paths(paths, points)
        write_atomic(file, lambda output: figure.savefig(output, format="png", dpi=DPI))


def _style(number: int, paths: int) -> dict[str, Any]:
    """Of a path: a colour a candidate; grey without a target, the last."""
    return {"color": "0.55", "linestyle": "--"} if number == paths - 1 else {"color": f"C{number}"}


def _draw_paths(axes: Any, points: np.ndarray, shares: np.ndarray) -> None:
    for number, path in enumerate(points):
        style = _style(number, len(points))
        axes.plot(*path.T, marker="o", markersize=2.5, linewidth=1.2, **style)
        axes.plot(*path[-1], marker="o", markersize=7, **style)
    axes.plot(*points[0, 0], **START)
    axes.set(
        xlabel=f"first principal component ({shares[0]:.0%} of the variance)",
        ylabel=f"second ({shares[1]:.0%})",
        title="state of the second layer after each behaviour",
    )
    axes.set_aspect("equal", adjustable="datalim")
    axes.margins(0.08)
    axes.grid(alpha=0.25)


def _label_paths(axes: Any, points: np.ndarray) -> None:
    """A letter at each end, and the numbers of behaviours where there is room, those that move a path most first."""
    from matplotlib.patheffects import withStroke

    pixels = axes.transData.transform(points.reshape(-1, 2)).reshape(points.shape)
    taken = [pixels[0, 0], *pixels[:, -1]]

    def label(spot: np.ndarray, text: str, **style: Any) -> None:
        taken.append(spot)
        axes.annotate(
            text,
            spot,
            xycoords="figure pixels",
            ha="center",
            va="center",
            path_effects=[withStroke(linewidth=2.5, foreground="white")],
            **style,
        )

    for number in range(len(points) - 1):
        spot = free_spot(pixels[number, -1], taken, far=True)
        label(spot, LETTERS[number], fontsize=12, fontweight="bold", color=f"C{number}")
    moves = np.linalg.norm(np.diff(points, axis=1), axis=2)
    for place in np.argsort(-moves, axis=None, kind="stable"):
        number, step = np.unravel_index(place, moves.shape)
        spot = free_spot(pixels[number, step + 1], taken)
        if spot is not None:
            label(spot, f"{step + 1}", fontsize=7, color=_style(int(number), len(points))["color"])


def free_spot(anchor: np.ndarray, taken: Sequence[np.ndarray], far: bool = False) -> Any:
    """Where a label can stand beside a point.

    Args:
        anchor: (2,) the point.
        taken: points that it must keep `CLEARANCE` from.
        far: look farther away; where there is no room at all, the last place will do.

    Returns:
        (2,), or None where there is no room beside the point.
    """
    spot = anchor
    for distance in (1.2, 2.2, 3.2) if far else (0.75,):
        for direction in DIRECTIONS:
            spot = anchor + distance * CLEARANCE * np.array(direction) / np.linalg.norm(direction)
            if all(np.linalg.norm(spot - other) >= CLEARANCE for other in taken):
                return spot
    return spot if far else None


def _draw_key(axes: Any, candidates: Sequence[str], equal: float) -> None:
    from matplotlib.lines import Line2D

    texts = [f"{letter}   {name}" for letter, name in zip(LETTERS, candidates, strict=False)]
    texts.append(f"no target: the same attention, {equal:.3g}, for every behaviour")
    lines = [Line2D([], [], linewidth=2, **_style(number, len(texts))) for number in range(len(texts))]
    texts.append("start, before the first behaviour\nsmall numbers: the behaviour that moved the state there")
    lines.append(Line2D([], [], linewidth=0, **START))
    legend = axes.legend(lines, texts, loc="upper left", frameon=False, fontsize=9, borderaxespad=0, labelspacing=0.9)
    legend.set_in_layout(False)
    axes.axis("off")


def _draw_attention(axes: Any, attention: np.ndarray, behaviours: Sequence[str]) -> None:
    image = axes.imshow(attention.T, aspect="auto", cmap="YlGnBu", vmin=min(0, attention.min()))
    axes.set(title="attention over the behaviours, the oldest on top", ylim=(max(len(behaviours), FEW) - 0.5, -0.5))
    axes.spines[:].set_visible(False)
    axes.hlines(np.arange(1, len(behaviours)) - 0.5, -0.5, len(attention) - 0.5, color="white", linewidth=1)
    axes.set_xticks(range(len(attention)), LETTERS[: len(attention)], fontsize=12, fontweight="bold")
    for number, tick in enumerate(axes.get_xticklabels()):
        tick.set_color(f"C{number}")
    numbered = [f"{step}  {name}" for step, name in enumerate(behaviours, 1)]
    axes.set_yticks(range(len(numbered)), numbered, fontsize=8)
    axes.tick_params(length=0, labelleft=False, labelright=True, labelbottom=False, labeltop=True)
    for (column, row), value in np.ndenumerate(attention):
        if abs(value) >= 0.005:
            color = "white" if image.norm(value) > 0.55 else "0.25"
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=7, color=color)
