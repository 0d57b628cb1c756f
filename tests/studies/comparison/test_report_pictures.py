import re
import sys
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.common.pictures import COLORS, DASHES, MODEL_STYLES, OTHERS, LineStyle
from dien_fuxictr.studies.comparison.report_pictures import (
    BINS,
    SHOWN,
    Picture,
    calibration,
    choose_styles,
    draw_report,
    draw_slices,
    mean_curve,
    slice_aucs,
)
from dien_fuxictr.studies.comparison.results_table import Row, make_rows
from dien_fuxictr.studies.comparison.slices import Slices
from dien_fuxictr.studies.comparison.statistics import mean_auc, score_runs

HALVES = Slices("history length", ["1", "2-9"], np.arange(200) // 100)


def made(*names: str) -> tuple[list[Row], dict, dict]:
    """Rows of two runs or of one, in turn."""
    rng = np.random.default_rng(0)
    label = np.tile([1.0, 0.0], 100)
    results, predictions = {}, {}
    for number, expid in enumerate(names):
        epochs = (1,) if number % 2 else (2, 3)
        results[expid] = [
            {
                "model": expid,
                "valid": {"AUC": 0.7},
                "test": {"AUC": 0.7},
                "parameters": 1,
                "epochs": n,
                "train_seconds": 1.0,
                "train_rows": 1,
                "inference_ms": 1.0,
                "curve": [{"step": k, "loss/train": 9.0, "loss/target": 0.5 + n * k} for k in range(n)],
            }
            for n in epochs
        ]
        predictions[expid] = [{"label": label, "score": rng.random(200)} for _ in epochs]
    return make_rows(results, predictions, names[0]), results, predictions


def drawn(*names: str) -> list[Picture]:
    rows, results, predictions = made(*names)
    return draw_report(rows, choose_styles(rows, results), results, predictions, [HALVES])


def titles(picture: Picture) -> list[str]:
    """Return the titles that the mouse finds."""
    return [title.text or "" for title in ElementTree.fromstring(picture.svg.replace("xlink:", "")).iter("title")]


def test_pictures_without_values_are_left_out() -> None:
    pictures = drawn("a", "b")
    assert [picture.title for picture in pictures] == [
        "Test AUC",
        "Test AUC by history length",
        "Training loss",
        "Calibration",
    ]
    for picture in pictures:
        assert list(dict.fromkeys(title.partition(":")[0] for title in titles(picture))) == ["a", "b"]
        assert all(style.color in picture.svg for style in styles_of({"a": ("a", 0.7), "b": ("b", 0.7)}).values())


def test_the_first_picture_shows_all_rows() -> None:
    names = [f"e{number}" for number in range(len(COLORS) * len(DASHES) + 2)]
    first, *others = drawn(*names)
    assert len(titles(first)) == len(names) and OTHERS in first.svg
    assert all(len(set(titles(picture))) == len(names) - 2 for picture in others)


def test_later_rows_are_hidden_until_they_are_chosen() -> None:
    first, slices, *others = drawn(*(f"e{number}" for number in range(SHOWN + 2)))
    assert "data-row" not in first.svg
    for picture, parts in ((slices, 2), *((other, 1) for other in others)):  # a line, and its bars
        found = re.findall(r'<g data-row="(\d+)"( class="off")?>', picture.svg)
        assert [*map(int, sorted(row for row, _ in found))] == sorted([*range(SHOWN + 2)] * parts)
        assert {int(row) for row, hidden in found if hidden} == {SHOWN, SHOWN + 1}


def test_a_picture_is_an_element_of_a_page() -> None:
    for picture in drawn("a <b> & $c$", "ß"):
        element = ElementTree.fromstring(picture.svg.replace("xlink:", ""))
        assert element.get("role") == "img" and element.get("aria-label") == picture.title
        assert "://" not in picture.svg and "#000000" not in picture.svg
        ids = re.findall(r' id="([^"]*)"', picture.svg)
        assert set(ids) == set(re.findall(r"(?:href=.|url\()#(\w+)", picture.svg)) and len(set(ids)) == len(ids)
        assert titles(picture)[0].startswith("a <b> & $c$")
    assert drawn("a", "b") == drawn("a", "b")


def test_without_matplotlib_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UserError, match=r"pip install matplotlib$"):
        drawn("a")


def styles_of(valid: dict[str, tuple[str, float]]) -> dict[str, LineStyle]:
    """Return styles of rows with a model and a validation AUC, the base first."""
    rows, results, _ = made(*valid)
    for name, (model, auc) in valid.items():
        for run in results[name]:
            run |= {"model": model, "valid": {"AUC": auc}, "test": {"AUC": 1 - auc}}
    return choose_styles(rows, results)


def test_base_dien_and_din_are_shown_first() -> None:
    valid = {"base": ("MLP", 0.1), "x": ("DIEN", 0.8), "y": ("DIEN", 0.7), "z": ("DIN", 0.5), "w": ("DIN", 0.4)}
    assert list(styles_of(valid | {"v": ("BST", 0.9)})) == ["base", "x", "z", "v", "y", "w"]


def test_a_model_has_its_own_style() -> None:
    styles = styles_of({"a": ("Other", 0.9), "b": ("DIN", 0.8), "c": ("DIEN", 0.7), "d": ("DIEN", 0.6)})
    own = MODEL_STYLES["DIEN"]
    assert (styles["b"], styles["c"]) == (MODEL_STYLES["DIN"], own)
    assert styles["d"] == LineStyle(own.color, "dashed") and len(set(styles.values())) == 4
    assert len(set(MODEL_STYLES.values())) == len(MODEL_STYLES)


@pytest.mark.parametrize("more", [0, 3])
def test_rows_have_different_styles(more: int) -> None:
    styles = styles_of({f"e{number}": ("DIEN", 0.5) for number in range(len(COLORS) * len(DASHES) + more)})
    assert len(styles) == len(set(styles.values())) == len(COLORS) * len(DASHES)


def test_a_curve_is_the_mean_of_the_runs_that_got_as_far() -> None:
    _, results, _ = made("a")
    assert mean_curve(results["a"], "loss/target") == [0.5, 3.0, 6.5]
    assert mean_curve(results["a"], "loss/auxiliary") == []


def test_auc_of_each_part_is_the_mean_over_the_seeds() -> None:
    label = np.array([1.0, 0, 1, 0, 1])
    runs = [
        {"label": label, "score": np.array([0.9, 0.1, 0.2, 0.8, 0.5])},
        {"label": label, "score": np.array([0.9, 0.1, 0.8, 0.2, 0.5])},
    ]
    assert [auc.mean for auc in slice_aucs(runs, Slices("", ["a", "b"], np.array([0, 0, 1, 1, 1])))] == [1.0, 0.5]
    assert np.isnan(slice_aucs(runs, Slices("", ["a", "b"], np.array([0, 0, 0, 0, 1])))[1].mean)


def test_intervals_of_a_part_are_those_of_the_table() -> None:
    rng = np.random.default_rng(0)
    label, group = np.tile([1.0, 0.0], 200), np.repeat(np.arange(100), 4)
    runs = [{"label": label, "group": group, "score": rng.normal(label)} for _ in range(3)]
    rows = np.arange(400) < 320
    first = slice_aucs(runs, Slices("", ["a", "b"], np.where(rows, 0, 1)))[0]
    assert first.mean == pytest.approx(np.mean([roc_auc_score(label[rows], run["score"][rows]) for run in runs]))
    of_rows = [{"label": label[rows], "group": group[rows], "score": run["score"][rows]} for run in runs]
    assert first == mean_auc(score_runs(of_rows)) and first.low is not None and first.high is not None


def bars(monkeypatch: pytest.MonkeyPatch, runs: list[dict], slices: Slices) -> tuple[np.ndarray, np.ndarray]:
    """Values and lengths of the bars that a picture of slices has."""
    from matplotlib.axes import Axes

    found = []
    draw = Axes.errorbar

    def errorbar(axes: Axes, x: np.ndarray, y: list, yerr: list, **style: object) -> object:
        found.append((np.array(y), np.array(yerr)))
        return draw(axes, x, y, yerr=yerr, **style)

    monkeypatch.setattr(Axes, "errorbar", errorbar)
    draw_slices(slices, {"a": LineStyle(COLORS[0])}, {"a": runs})
    ((y, ends),) = found
    return y, ends


def test_bars_are_the_intervals_of_the_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    label = np.tile([1.0, 0.0], 200)
    runs = [{"label": label, "score": rng.normal(label)} for _ in range(3)]
    slices = Slices("length", ["1", "2"], np.arange(400) // 320)
    y, ends = bars(monkeypatch, runs, slices)
    aucs = slice_aucs(runs, slices)
    assert y.tolist() == [auc.mean for auc in aucs]
    np.testing.assert_allclose(y - ends[0], [auc.low for auc in aucs])
    np.testing.assert_allclose(y + ends[1], [auc.high for auc in aucs])


def test_a_part_without_enough_seeds_has_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    label = np.tile([1.0, 0.0], 100)
    runs = [{"label": label, "score": label}, {"label": label, "score": -label}]
    y, ends = bars(monkeypatch, runs, Slices("length", ["1"], np.zeros(200, int)))
    assert y.tolist() == [0.5] and np.isnan(ends).all()


def test_calibration_of_perfectly_calibrated_predictions() -> None:
    rng = np.random.default_rng(0)
    score = rng.random(50_000)
    label = (rng.random(50_000) < score).astype(float)
    predicted, observed = calibration(label, score)
    assert len(predicted) == BINS and (np.diff(predicted) > 0).all()
    np.testing.assert_allclose(observed, predicted, atol=0.02)  # 3 standard errors of a bin's share
