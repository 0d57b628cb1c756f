"""Picture of a suite: panels, lines, values and axes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from dien_fuxictr.common.pictures import MODEL_STYLES
from dien_fuxictr.studies.comparison.plan import ComparedModel, Comparison
from dien_fuxictr.studies.comparison.results_table import Row
from dien_fuxictr.studies.comparison.suite_picture import build_panels, choose_styles, draw_suite
from dien_fuxictr.studies.runs.run import Run


def row(name: str, auc: float, against: float | None = None) -> Row:
    ends = (against - 0.1, against + 0.2) if against is not None else (None, None)
    cost = {"parameters": 1, "epochs": 1.0, "epoch_seconds": 1.0, "samples_per_second": 1.0, "inference_ms": 1.0}
    return Row(
        name, 3, auc, 0.01, None, None, None, None, 0.0, 0.0, 0.0, 0.0, True, None, **cost, against=against,
        against_low=ends[0], against_high=ends[1], auc_low=auc - 0.02, auc_high=auc + 0.03,
    )  # fmt: skip


def study(values: list[Any], against: str | None = None, x: str = "build.k") -> tuple[Comparison, list[Row]]:
    compared = [ComparedModel("DIN", "DIN", [Run("DIN", {"monitor": "AUC"}, Path(), Path())])]
    compared += [
        ComparedModel(f"DIEN_{value}_{kind}", "DIEN", [], {x: value, "kind": kind}) for value in values for kind in "ab"
    ]
    rows = [row(model.name, 0.7 + number / 100, number / 100) for number, model in enumerate(compared)]
    return Comparison("The law", compared, "DIN", against, True, x), rows


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Return the saved figures."""
    figures: list[Figure] = []
    save = Figure.savefig

    def keep(figure: Figure, *arguments: Any, **options: Any) -> None:
        figures.append(figure)
        save(figure, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", keep)
    return figures


def result(seed: int, *curve: float) -> dict[str, Any]:
    """Return the result of a run that is evaluated every 10 steps of 6 seconds."""
    points = [{"step": 10 * number, "monitor": auc} for number, auc in enumerate(curve, 1)]
    return {"seed": seed, "valid": {"AUC": max(curve)}, "train_seconds": 60 * len(curve), "curve": points}


def lines(figure: Figure, panel: int = 0) -> dict[str, Any]:
    """Label -> (x, y, ends of the intervals) of what has error bars."""
    found = {}
    for container in figure.axes[panel].containers:
        line, _, (bars,) = container.lines
        ends = [tuple(bar[:, 1]) if len(bar) else () for bar in bars.get_segments()]
        found[container.get_label()] = (list(line.get_xdata()), list(line.get_ydata()), ends)
    return found


def test_a_value_without_an_interval_has_no_bar(drawn: list[Figure], tmp_path: Path) -> None:
    made, rows = study([1, 2])
    rows = [replace(row, auc_low=None, auc_high=None) if row.expid in ("DIN", "DIEN_1_a") else row for row in rows]
    draw_suite(made, build_panels(made, rows, {}), tmp_path)
    x, y, ends = lines(drawn[0])["DIEN, kind a"]
    assert x == [1, 2] and y == pytest.approx([0.71, 0.73])
    assert ends[0] == () and ends[1] == pytest.approx((0.71, 0.76))


def test_one_line_per_experiment_and_other_key(drawn: list[Figure], tmp_path: Path) -> None:
    made, rows = study([4, 1, 2])
    files = draw_suite(made, build_panels(made, rows, {}), tmp_path)
    assert [file.name for file in files] == ["suite.png", "suite.svg"] and all(file.stat().st_size for file in files)
    found = lines(drawn[0])
    assert list(found) == ["DIEN, kind a", "DIEN, kind b"]
    x, y, ends = found["DIEN, kind a"]
    assert x == [1, 2, 4] and y == pytest.approx([0.73, 0.75, 0.71])
    assert ends[0] == pytest.approx((0.71, 0.76))
    low, high = drawn[0].axes[0].get_ylim()
    assert all(low < bottom < top < high for *_, of_line in found.values() for bottom, top in of_line)
    axes = drawn[0].axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_xscale()) == ("k", "test AUC", "linear")
    level = next(line for line in axes.lines if line.get_label() == "DIN")
    assert level.get_ydata() == [0.7, 0.7], "what does not vary is a level"
    svg = files[1].read_text()
    assert "The law" in svg and "DIEN, kind b" in svg


def test_what_goes_with_the_axis_is_in_no_label(drawn: list[Figure], tmp_path: Path) -> None:
    made, _ = study([], x="k")
    sizes = {1: 256, 2: 512, 4: 512}
    made.models.extend(
        ComparedModel(
            f"DIEN_{k}_{kind}", "DIEN", [], {"k": k, "batch_size": size, "kind": kind, "weighting": "uniform"}
        )
        for k, size in sizes.items()
        for kind in "ab"
    )
    rows = [row(model.name, 0.7) for model in made.models]
    draw_suite(made, build_panels(made, rows, {}), tmp_path)
    assert list(lines(drawn[0])) == ["DIEN, kind a, weighting uniform", "DIEN, kind b, weighting uniform"]


def test_with_against_it_is_the_paired_difference(drawn: list[Figure], tmp_path: Path) -> None:
    made, rows = study([1, 2], "DIN")
    rows[0] = row("DIN", 0.7)
    rows[3] = row(rows[3].expid, 0.7)  # on other test rows
    draw_suite(made, build_panels(made, rows, {}), tmp_path)
    found = lines(drawn[0])
    assert found["DIEN, kind a"][0] == [1] and found["DIEN, kind b"][1] == pytest.approx([0.02, 0.04])
    assert found["DIEN, kind b"][2][0] == pytest.approx((-0.08, 0.22))
    assert drawn[0].axes[0].get_ylabel() == "gain of test AUC"
    assert [list(line.get_ydata()) for line in drawn[0].axes[0].lines if line.get_label() == "DIN"] == [[0, 0]]


def test_validation_and_the_time_to_the_others_best(drawn: list[Figure], tmp_path: Path) -> None:
    made, rows = study([1, 2], "DIN")
    results = {
        "DIN": [result(1, 0.6, 0.7, 0.65), result(2, 0.6, 0.8)],
        "DIEN_1_a": [result(1, 0.71), result(2, 0.5, 0.6, 0.7, 0.81)],
        "DIEN_2_a": [result(1, 0.9), result(2, 0.79)],  # the second is never as good
        "DIEN_1_b": [result(3, 0.9)],  # there is no value to reach
    }
    draw_suite(made, build_panels(made, rows, results), tmp_path)
    x, y, ends = lines(drawn[0], 0)["DIEN, kind a"]
    assert x == [1, 2] and y == pytest.approx([0.76, 0.845])
    assert ends[0] == pytest.approx((0.71, 0.81))
    assert drawn[0].axes[0].get_ylabel() == "validation AUC"
    x, y, ends = lines(drawn[0], 2)["DIEN, kind a"]
    assert x == [1] and y == pytest.approx([2.5]) and ends[0] == pytest.approx((1, 4)), "after 10 and 40 steps"
    assert list(lines(drawn[0], 2)) == ["DIEN, kind a"]
    level = next(line for line in drawn[0].axes[2].lines if line.get_label() == "DIN")
    assert level.get_ydata() == [2, 2] and drawn[0].axes[2].get_yscale() == "log"


def test_the_time_is_to_the_best_variation_by_its_mean() -> None:
    run = Run("DIN", {"monitor": "AUC"}, Path(), Path())
    compared = [ComparedModel(f"DIN_{value}", "DIN", [run], {"k": value}) for value in (1, 2)]
    results = {"DIN_1": [result(1, 0.9), result(2, 0.6)], "DIN_2": [result(1, 0.7, 0.8), result(2, 0.8)]}
    *_, minutes = build_panels(Comparison("", compared, "DIN", "DIN", True, "k"), [], results)
    assert minutes.values == {"DIN_2": (1.5, 1, 2)}


def test_a_monitor_of_which_less_is_better(tmp_path: Path) -> None:
    made, rows = study([1], "DIN")
    made.models[0].runs[0].params.update(monitor="logloss", monitor_mode="min")
    runs = {"DIN": [result(1, 0.5, 0.4)], "DIEN_1_a": [result(1, 0.6, 0.3, 0.2)]}
    for of_name in runs.values():
        of_name[0]["valid"] = {"logloss": min(point["monitor"] for point in of_name[0]["curve"])}
    validation, _, minutes = build_panels(made, rows, runs)
    assert validation.values == {"DIN": (0.4, 0.4, 0.4), "DIEN_1_a": (0.2, 0.2, 0.2)}
    assert minutes.values == {"DIN": (2, 2, 2), "DIEN_1_a": (2, 2, 2)}


@pytest.mark.parametrize(
    ("values", "scale", "places", "texts"),
    [
        ([0.1, 1, 10], "log", [0.1, 1, 10], ["0.1", "1", "10"]),
        ([10, 0, 0.1, 1], "symlog", [0, 0.1, 1, 10], ["0", "0.1", "1", "10"]),
        ([1, 2, 8], "linear", [1, 2, 8], ["1", "2", "8"]),
        ([0.999, 0, 0.97, 0.99], "linear", [0, 1, 2, 3], ["0", "0.97", "0.99", "0.999"]),
        (["popularity", "in_batch"], "linear", [0, 1], ["popularity", "in_batch"]),
        ([1, 2, 4, 8, 1024], "linear", [0, 1, 2, 3, 4], ["1", "2", "4", "8", "1024"]),
        ([True, False], "linear", [0, 1], ["yes", "no"]),
        ([None, 3e-3], "linear", [0, 1], ["0.003", "none"]),
        ([[200, 80], [64]], "linear", [0, 1], ["200, 80", "64"]),
        (["logs/a_noise_0.5.csv", "logs/a_noise_0.csv"], "linear", [0, 1], ["0.5", "0"]),
        (["logs/noise.csv", "logs/noise_1.csv"], "linear", [0, 1], ["noise", "noise_1"]),
    ],
)
def test_the_axis_is_by_the_values(
    drawn: list[Figure], tmp_path: Path, values: list, scale: str, places: list, texts: list
) -> None:
    made, rows = study(values)
    draw_suite(made, build_panels(made, rows, {}), tmp_path)
    axes = drawn[0].axes[0]
    assert axes.get_xscale() == scale and list(axes.get_xticks()) == places
    assert [tick.get_text() for tick in axes.get_xticklabels()] == texts
    assert lines(drawn[0])["DIEN, kind a"][0] == places


def test_common_start_of_file_names_is_in_the_axis_label(drawn: list[Figure], tmp_path: Path) -> None:
    made, rows = study(["logs/a_noise_0.5.csv", "logs/a_noise_0.csv"])
    draw_suite(made, build_panels(made, rows, {}), tmp_path)
    assert drawn[0].axes[0].get_xlabel() == "noise (from the file names of k)"


def test_a_named_value_is_no_number_on_the_axis(drawn: list[Figure], tmp_path: Path) -> None:
    made, rows = study([1, 4, 16, 1024], x="build.targets_per_user")
    made = replace(made, x_names={1024: "all"})
    draw_suite(made, build_panels(made, rows, {}), tmp_path)
    axes = drawn[0].axes[0]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["1", "4", "16", "all"]
    assert list(axes.get_xticks()) == [0, 1, 2, 3]
    assert axes.get_xlabel() == "labelled behaviours per user (targets_per_user)"


def test_the_suite_names_its_axis(drawn: list[Figure], tmp_path: Path) -> None:
    made, rows = study([1, 2])
    made = replace(made, x_label="clicks per user")
    draw_suite(made, build_panels(made, rows, {}), tmp_path)
    assert drawn[0].axes[0].get_xlabel() == "clicks per user"


def test_no_panel_is_empty(drawn: list[Figure], tmp_path: Path) -> None:
    made, rows = study([1, 2], "DIN")
    rows = [replace(row, against=None) for row in rows]
    results = {"DIN": [result(1, 0.6)], "DIEN_1_a": [result(1, 0.5)]}
    panels = build_panels(made, rows, results)
    assert all(panel.values for panel in panels) and len(panels) == 2
    draw_suite(made, panels, tmp_path)
    assert all(axes.get_title(loc="left") for axes in drawn[0].axes if axes.axison)


def test_a_colour_belongs_to_its_model() -> None:
    models = {f"DIEN {number}": "DIEN" for number in range(6)} | {"mine": "Mine", "DIN": "DIN"}
    styles = choose_styles(models)
    assert {styles[label].color for label, model in models.items() if model == "DIEN"} == {MODEL_STYLES["DIEN"].color}
    assert styles["DIN"].color == MODEL_STYLES["DIN"].color
    assert styles["mine"].color not in {MODEL_STYLES["DIEN"].color, MODEL_STYLES["DIN"].color}
    assert len(set(styles.values())) == len(styles)
