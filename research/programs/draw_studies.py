"""Draw the pictures of research/studies.md and rocket_launching.md.

They are written to FOLDER/NAME.png, from the rows in research/results/. A picture has the test AUC, mean and range
over the seeds, against what a study varies. That of rocket_launching.md is drawn from the tables of its page.
"""

import argparse
import csv
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dien_fuxictr.common.errors import run_command
from dien_fuxictr.common.pictures import BLUE, MODEL_STYLES, SKY, LineStyle, default_style

from .draw import draw_pareto

RESEARCH = Path(__file__).parents[1]
STYLES = MODEL_STYLES | {
    "DIEN, no auxiliary loss": LineStyle(BLUE, "dotted"),
    "DIEN, strong auxiliary loss": LineStyle(BLUE, "dashed"),
    "DIEN with GRU": LineStyle(SKY, "dashed"),
    "sum pooling": MODEL_STYLES["EmbeddingMLP"],
    "GRU + attention": MODEL_STYLES["GRUAttention"],
}
"""Style of a line by its name, else by the model that its name begins with; other lines of it get `MORE_DASHES`."""
MORE_DASHES = ("solid", "dashed", "dotted", "dashdot")
STYLE = {
    "font.size": 9,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "text.parse_math": False,
}
SIZE, DPI = (7.2, 3.5), 110
"""Inches, and dots of one: about as wide as a page shows it."""
GAP = 0.055
"""Least distance of the names beside the lines, in heights of the picture."""


@dataclass(frozen=True)
class Line:
    """Line of a picture: an experiment and a variation.

    Attributes:
        name: its label.
        experiment: experiment id.
        variation: keys and values that its rows have in common.
    """

    name: str
    experiment: str
    variation: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Picture:
    """A picture of a study.

    Attributes:
        title: its message. data: that it is on. x: the key that varies. axis: x in words.
        lines: in the order of their names. names: names of the values of x, if x is not numeric.
    """

    title: str
    data: str
    x: str
    axis: str
    lines: Sequence[Line]
    names: Mapping[Any, str] = field(default_factory=dict)


LAST = "DIEN_amazon_beauty_last"
BEAUTY, LAST_REVIEW = "Amazon Beauty", "Amazon Beauty, a user's last review"
MOVIELENS, INDUSTRIAL = "MovieLens-100k", "a synthetic industrial log"
LAST_PAIR = [Line("DIN", "DIN_amazon_beauty_last"), Line("DIEN", LAST)]
MADE = [
    Line("DIN", "DIN_industrial"),
    Line("DIEN, no auxiliary loss", "DIEN_industrial", {"aux_loss_alpha": 0}),
    Line("DIEN", "DIEN_industrial", {"aux_loss_alpha": 1}),
    Line("DIEN with GRU", "DIEN_industrial_GRU_aux"),
]
ORDER = {"time": "in order", "shuffled": "shuffled"}
KINDS = {"in_batch": "behaviours\nof the batch", "popularity": "by\npopularity", "uniform": "all items\nalike"}
PICTURES = {
    "labels_per_user_beauty": Picture(
        "With few labels per user DIEN gains most, by its auxiliary loss",
        BEAUTY,
        "build.targets_per_user",
        "labelled behaviours per user",
        [
            Line("DIN", "DIN_amazon_beauty"),
            Line("DIEN, no auxiliary loss", "DIEN_amazon_beauty_AUGRU"),
            Line("DIEN", "DIEN_amazon_beauty"),
            Line("DIEN, strong auxiliary loss", "DIEN_amazon_beauty_strong_aux"),
        ],
        {1: "1", 2: "2", 4: "4", 8: "8", 1024: "all"},
    ),
    "labels_per_user_movielens": Picture(
        "On long histories DIEN gains at any number of labels, most with few",
        MOVIELENS,
        "build.targets_per_user",
        "labelled behaviours per user",
        [
            Line("DIN", "DIN_movielens"),
            Line("DIEN, no auxiliary loss", "DIEN_movielens_without_aux"),
            Line("DIEN", "DIEN_movielens"),
            Line("DIEN, strong auxiliary loss", "DIEN_movielens_strong_aux"),
        ],
        {1: "1", 4: "4", 16: "16", 64: "64", 1024: "all"},
    ),
    "beauty_aux_weighting": Picture(
        "Supervise each behaviour once: in every later prefix it lowers the AUC",
        BEAUTY + ", every prefix a sample",
        "aux_loss_alpha",
        "weight of the auxiliary loss (aux_loss_alpha)",
        [
            Line("DIEN, newest", "DIEN_amazon_beauty", {"aux_loss_weighting": "newest"}),
            Line("DIEN, uniform", "DIEN_amazon_beauty", {"aux_loss_weighting": "uniform"}),
        ],
        {0: "0", 0.3: "0.3", 1: "1", 3: "3"},
    ),
    "beauty_last_order": Picture(
        "On reviews the order of behaviours does not matter",
        LAST_REVIEW,
        "build.history_order",
        "behaviours of a history",
        [
            Line("sum pooling", "EmbeddingMLP_amazon_beauty_last"),
            Line("DIN", "DIN_amazon_beauty_last"),
            Line("GRU + attention", "GRUAttention_amazon_beauty_last"),
            Line("DIEN, no auxiliary loss", "DIEN_amazon_beauty_last_AUGRU"),
            Line("DIEN with GRU", "DIEN_amazon_beauty_last_GRU_aux"),
            Line("DIEN", LAST),
        ],
        ORDER,
    ),
    "movielens_order": Picture(
        "On long histories DIEN's gain comes from their order",
        MOVIELENS,
        "build.history_order",
        "behaviours of a history",
        [
            Line("sum pooling", "EmbeddingMLP_movielens"),
            Line("DIN", "DIN_movielens"),
            Line("GRU + attention", "GRUAttention_movielens"),
            Line("DIEN, no auxiliary loss", "DIEN_movielens_without_aux"),
            Line("DIEN", "DIEN_movielens"),
        ],
        ORDER,
    ),
    "industrial_evolution": Picture(
        "DIEN gains from where half of the clicks follow from the one before",
        INDUSTRIAL,
        "build.input",
        "share of clicks that follow from the latest one on the same interest (evolution)",
        MADE,
    ),
    "industrial_exposures": Picture(
        "DIEN finds the order from 16 labels per user, with a GRU from four",
        INDUSTRIAL,
        "build.input",
        "labelled clicks per user",
        MADE,
        {1.0: "1", 4.0: "4", 16.0: "16", 64.0: "64"},
    ),
    "industrial_noise": Picture(
        "With three clicks in ten on no interest DIEN's gain is gone",
        INDUSTRIAL,
        "build.input",
        "share of clicks on no interest (noise)",
        [
            MADE[0],
            Line("DIEN, uniform weights", "DIEN_industrial", {"aux_loss_weighting": "uniform"}),
            Line("DIEN, weights by attention", "DIEN_industrial", {"aux_loss_weighting": "target_attention"}),
        ],
    ),
    "industrial_drift": Picture(
        "DIEN keeps its gain when interests are replaced",
        INDUSTRIAL,
        "build.input",
        "probability that an interest is replaced before a click (drift)",
        MADE,
    ),
    "beauty_last_attention": Picture(
        "The three attention units are equal with the softmax",
        LAST_REVIEW,
        "attention_type",
        "attention unit (attention_type)",
        [
            Line("DIEN, softmax", LAST, {"use_attention_softmax": True}),
            Line("DIEN, no softmax", LAST, {"use_attention_softmax": False}),
        ],
        {"bilinear_attention": "bilinear", "dot_attention": "dot product", "din_attention": "DIN's network"},
    ),
    "beauty_last_augru_sign": Picture(
        "Neither AUGRU's gate nor the sum of the history makes a difference",
        LAST_REVIEW,
        "augru_gate",
        "gate of AUGRU (augru_gate)",
        [
            Line("DIEN with the sum", LAST, {"enable_sum_pooling": True}),
            Line("DIEN without the sum", LAST, {"enable_sum_pooling": False}),
        ],
        {"paper": "paper", "tensorflow": "tensorflow"},
    ),
    "beauty_last_size": Picture(
        "The size of the states hardly matters",
        LAST_REVIEW,
        "gru_hidden_size",
        "values of a state (gru_hidden_size)",
        [Line("DIEN", LAST)],
        {size: f"{size}" for size in (9, 18, 36, 72, 108)},
    ),
    "beauty_last_length": Picture(
        "DIEN needs the last twelve behaviours, DIN the last six",
        LAST_REVIEW,
        "build.max_len",
        "behaviours that a history keeps (max_len)",
        LAST_PAIR,
        {length: f"{length}" for length in (3, 6, 12, 25, 100)},
    ),
    "beauty_last_alpha": Picture(
        "With one label per user a strong auxiliary loss is best",
        LAST_REVIEW,
        "aux_loss_alpha",
        "weight of the auxiliary loss (aux_loss_alpha)",
        [Line("DIEN", LAST)],
        {0: "0", 0.1: "0.1", 0.3: "0.3", 1: "1", 3: "3", 10: "10"},
    ),
    "beauty_last_negatives": Picture(
        "Negatives of the same category lower the AUC; one per behaviour is enough",
        LAST_REVIEW,
        "aux_negatives",
        "where negatives of the auxiliary loss come from (aux_negatives)",
        [Line(f"DIEN, {count} per behaviour", LAST, {"aux_num_negatives": count}) for count in (1, 4, 16)],
        KINDS | {"mixed": "category\nor popularity", "category": "the same\ncategory"},
    ),
    "beauty_last_aux_vs_sample_negatives": Picture(
        "DIEN's gain over DIN does not depend on the negatives of the test",
        LAST_REVIEW,
        "build.negatives",
        "negatives of the samples (negatives)",
        [
            LAST_PAIR[0],
            *(Line(f"DIEN, {kind}", LAST, {"aux_negatives": kind}) for kind in (*KINDS, "category")),
        ],
        {"matched": "positives of\nother users", "popularity": "by popularity", "uniform": "all items alike"},
    ),
    "beauty_last_aux_negatives_fixed": Picture(
        "Fresh negatives are as good as fixed ones, or better",
        LAST_REVIEW,
        "aux_fixed_negatives",
        "negatives of the auxiliary loss (aux_fixed_negatives)",
        [Line(f"DIEN, {kind}", LAST, {"aux_negatives": kind}) for kind in ("popularity", "uniform")],
        {False: "drawn at each step", True: "drawn once"},
    ),
    "beauty_last_scorer": Picture(
        "Score by the network, and let all steps count alike",
        LAST_REVIEW,
        "aux_scorer",
        "scorer of the auxiliary loss (aux_scorer)",
        [
            Line("DIEN, uniform weights", LAST, {"aux_loss_weighting": "uniform"}),
            Line("DIEN, weights by attention", LAST, {"aux_loss_weighting": "target_attention"}),
        ],
        {"net": "network", "inner_product": "inner product"},
    ),
    "beauty_last_regularization": Picture(
        "Embeddings need regularisation: the sum over whole tables",
        LAST_REVIEW,
        "embedding_regularizer",
        "strength (embedding_regularizer, over whole tables)",
        LAST_PAIR,
        {0: "0", 0.0003: "0.0003", 0.001: "0.001", 0.003: "0.003", 0.01: "0.01", 0.03: "0.03"},
    ),
    "beauty_last_regularization_aware": Picture(
        "Mini-batch-aware regularisation reaches the same, over a wide range",
        LAST_REVIEW,
        "embedding_regularizer",
        "strength (embedding_regularizer, mini-batch aware)",
        LAST_PAIR,
        {value: f"{value}" for value in (10, 30, 100, 300, 1000)},
    ),
    "beauty_last_rates": Picture(
        "A lower learning rate for embeddings does not help",
        LAST_REVIEW,
        "embedding_learning_rate",
        "learning rate of the embeddings",
        LAST_PAIR,
        {None: "that of the networks", 0.003: "0.003", 0.001: "0.001"},
    ),
    "beauty_last_reinit": Picture(
        "New embeddings in each epoch lower the AUC",
        LAST_REVIEW,
        "behaviour_dropout",
        "probability of leaving a behaviour out",
        [
            *(Line(line.name, line.experiment, {"embedding_reinit": "none"}) for line in LAST_PAIR),
            *(
                Line(f"{line.name}, embeddings reset each epoch", line.experiment, {"embedding_reinit": "epoch"})
                for line in LAST_PAIR
            ),
        ],
    ),
    "beauty_last_averaging": Picture(
        "Averaging weights does not lower the AUC, and raises it on validation",
        LAST_REVIEW,
        "weight_averaging_decay",
        "decay of the average (0: none)",
        LAST_PAIR,
        {value: f"{value}" for value in (0, 0.97, 0.99, 0.997, 0.999, 0.9997)},
    ),
}
"""Name -> picture, in the order of the page; each is of the suite of the same name."""

Points = dict[Any, list[float]]
"""Value of x -> test AUC of each run."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw; return an exit code, 2 without matplotlib."""
    parser = argparse.ArgumentParser(
        prog="python -m research.programs.draw_studies",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=RESEARCH / "images",
        metavar="FOLDER",
        help="folder of the pictures; default research/images",
    )
    options = parser.parse_args(arguments)

    def run() -> int:
        options.out.mkdir(parents=True, exist_ok=True)
        with default_style(STYLE):
            for name, figure in _figures():
                figure.savefig(options.out / f"{name}.png", dpi=DPI)
                print(options.out / f"{name}.png")
        return 0

    return run_command(run, "interrupted")


def _figures() -> Iterator[tuple[str, Any]]:
    for name, picture in PICTURES.items():
        yield name, draw_study(picture, read_points(name, picture))
    title = "A light network takes an eighth of the time per request"
    yield "pareto", draw_pareto(read_tables(RESEARCH / "rocket_launching.md"), title)


def read_points(suite: str, picture: Picture) -> list[Points]:
    """Return the points of each line.

    Where the file has several variations or runs for a point, the last ones are those of the page.

    Args:
        suite: name of a file in research/results/.
        picture: tells the lines and their x.
    """
    with open(RESEARCH / "results" / f"{suite}.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    found = []
    for line in picture.lines:
        runs: dict[Any, tuple[str, dict[str, float]]] = {}
        for row in rows:
            varied = json.loads(row["variation"])
            of_line = row["experiment"] == line.experiment and line.variation.items() <= varied.items()
            if of_line and picture.x in varied:
                x = value_of(varied[picture.x])
                if runs.get(x, ("",))[0] != row["variation"]:
                    runs[x] = row["variation"], {}
                runs[x][1][row["seed"]] = float(row["test_AUC"])
        order = list(picture.names) or sorted(runs)
        found.append({x: list(runs[x][1].values()) for x in order if x in runs})
    return found


def value_of(value: Any) -> Any:
    """Return a value of x; of the path of a log the number at the end of its name."""
    number = re.search(r"_([\d.]+)\.parquet$", value) if isinstance(value, str) else None
    return float(number[1]) if number else value


def draw_study(picture: Picture, lines: Sequence[Points]) -> Any:
    """Draw the lines of a picture with their names."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE, layout="constrained")
    axes: Any = figure.subplots()
    places: dict[Any, float] = {x: number for number, x in enumerate(picture.names)}
    styles = _styles([line.name for line in picture.lines])
    width = (len(places) - 1 or 1) if places else max(max(points) for points in lines)
    ends = []
    for number, (points, style) in enumerate(zip(lines, styles, strict=True)):
        aside = 0.008 * width * (number - (len(lines) - 1) / 2)
        x = [(places[value] if places else value) + aside for value in points]
        means = [float(np.mean(values)) for values in points.values()]
        ranges = [
            [mean - min(values) for mean, values in zip(means, points.values(), strict=True)],
            [max(values) - mean for mean, values in zip(means, points.values(), strict=True)],
        ]
        axes.errorbar(x, means, ranges, color=style.color, linestyle=style.dash, marker="o", markersize=4, elinewidth=1)
        ends.append(means[-1])
    if places:
        axes.set_xticks(range(len(places)), picture.names.values())
    else:
        values = sorted({x for points in lines for x in points})
        axes.set_xticks(values, [f"{x:g}" for x in values])
    axes.set(xlabel=picture.axis, ylabel="test AUC")
    axes.yaxis.get_major_locator().set_params(steps=[1, 2, 5, 10])
    axes.yaxis.set_major_formatter("{x:.3f}")
    axes.grid(axis="y", alpha=0.3)
    seeds = max(len(values) for points in lines for values in points.values())
    figure.suptitle(picture.title, x=0.01, ha="left", weight="bold", size=11)
    data = f"{picture.data}; mean and range of {seeds} seeds"
    axes.set_title(data, loc="left", size=9, weight="normal", color="0.35")
    _name_lines(axes, [line.name for line in picture.lines], ends, [style.color for style in styles])
    return figure


def _styles(names: Sequence[str]) -> list[LineStyle]:
    """Return a style for each line.

    Lines of a model without their own styles differ by dashes.
    """
    found: list[LineStyle] = []
    for name in names:
        own = STYLES.get(name) or STYLES[re.split(r"[ ,]", name)[0]]
        dashes = [own.dash, *MORE_DASHES]
        found.append(next(style for dash in dashes if (style := LineStyle(own.color, dash)) not in found))
    return found


def _name_lines(axes: Any, names: Sequence[str], ends: Sequence[float], colors: Sequence[str]) -> None:
    """Write the name of each line at its right end, moved apart where they are close."""
    low, high = axes.get_ylim()
    order = np.argsort(ends)
    heights = (np.array(ends)[order] - low) / (high - low)
    for place in range(1, len(heights)):
        heights[place] = max(heights[place], heights[place - 1] + GAP)
    heights -= max(0.0, heights[-1] - 1)
    for place in range(len(heights) - 2, -1, -1):
        heights[place] = min(heights[place], heights[place + 1] - GAP)
    for height, number in zip(heights, order, strict=True):
        style = {"color": colors[number], "va": "center", "weight": "bold"}
        axes.text(1.02, height, names[number], transform=axes.transAxes, **style)


def read_tables(page: Path) -> dict[str, list[dict[str, Any]]]:
    """Return heading -> rows of the tables of a page that have a time per request."""
    tables = {}
    for section in re.split(r"^## ", page.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        lines = [
            [cell.strip(" `") for cell in line.split("|")[1:-1]] for line in section.splitlines() if line[:1] == "|"
        ]
        rows = [dict(zip(lines[0], line, strict=True)) for line in lines[2:]] if lines and "ms" in lines[0] else []
        if rows:
            tables[section.splitlines()[0]] = [
                {**row, "parameters": int(row["parameters"].replace(",", "")), "ms": float(row["ms"])} for row in rows
            ]
    return tables


if __name__ == "__main__":
    sys.exit(main())
