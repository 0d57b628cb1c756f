"""Pictures of small reports."""

import json
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from matplotlib import style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from benchmarks import draw
from dien_fuxictr.common.pictures import default_style
from research.programs import draw as of_research
from research.programs.breakdown import COLUMNS

PICTURES = draw.PICTURES | of_research.PICTURES
RACE = [
    {"system": name, "work": work, "threads": 1, "ms": 2.0, "samples/s": rate, "seconds": {"1": [0.002]}}
    for name, work, rate in (("ours, compiled", "net", 9.0), ("ours, compiled", "none", 8.0), ("peer", "net", 1.0))
]
LENGTHS = [{"histories": "h", "behaviours": n, "padded to": 5, "ms": n / 2, "behaviours / first": 1} for n in (4, 8)]
MAX_LENS = [
    {"system": name, "work": "net", "max_len": n, "ms": ms}
    for name, ms in (("ours", 1), ("peer", 3))
    for n in (10, 100)
]
VOCABULARY = [
    {"items": items, "updates": updates, "step, ms": 5.0, "peak memory, GB": memory}
    for items in (100, 1000)
    for updates, memory in (("dense", 1.0), ("sparse", float("nan")))
]
PARTS = [{"system": name, "work": "net", "all": 8.0, **dict.fromkeys(COLUMNS, 1.0)} for name in ("ours", "peer")]
FRONT = [
    {"experiment": name, "parameters": size, "ms": ms, "AUC": auc}
    for name, size, ms, auc in (("large", 90, 9.0, [0.8, 0.82]), ("light", 10, 2.0, [0.7]), ("beside", 10, 2.1, [0.6]))
]
RATES = [
    {"served": name, "times": kind, "requests/s": rate, "p99, ms": p99}
    for name in ("ours", "peer")
    for kind in ("even", "Poisson")
    for rate, p99 in ((5, 4.0), (50, 30.0), (100, float("inf")))
]
REPORTS: dict[str, dict[str, list[dict[str, Any]]]] = {
    "train_step": {"Training step, B = 8": RACE, "B = 9": RACE, "B = 10": RACE, "multiples": [{"peer": "peer"}]},
    "inference": {"Scoring": RACE},
    "lengths": {"backend compiled": LENGTHS, "backend torch": LENGTHS, "by max_len": MAX_LENS},
    "vocabulary": {"by vocabulary": VOCABULARY},
    "breakdown": {"B = 8": PARTS, "B = 9": PARTS},
    "pareto": {"one": FRONT, "another": FRONT},
    "serving": {"Latency against the rate": RATES, "Ratios": [{"model": "ours"}]},
}


def write(folder: Path, program: str, tables: dict[str, list[dict[str, Any]]]) -> str:
    file = folder / f"{program}.json"
    file.write_text(json.dumps({"program": program, "tables": tables}))
    return str(file)


def test_every_report_becomes_a_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [write(tmp_path, program, tables) for program, tables in REPORTS.items()]
    assert draw.draw("p", "", PICTURES, [*files, "--out", str(tmp_path / "pictures")]) == 0
    pictures = [tmp_path / "pictures" / f"{program}.png" for program in REPORTS]
    assert capsys.readouterr().out.split() == [str(picture) for picture in pictures]
    assert all(picture.read_bytes().startswith(b"\x89PNG") for picture in pictures)


def test_a_users_style_changes_nothing(tmp_path: Path) -> None:
    file = write(tmp_path, "lengths", REPORTS["lengths"])
    for name in ("default", "ggplot"):
        with style.context(name):
            assert of_research.main([file, "--out", str(tmp_path / name)]) == 0
    plain, in_style = ((tmp_path / name / "lengths.png").read_bytes() for name in ("default", "ggplot"))
    assert plain == in_style


def test_every_program_with_a_picture_has_a_report() -> None:
    assert REPORTS.keys() == PICTURES.keys()


def test_p99_of_each_that_is_served_by_kind_of_times() -> None:
    axes = draw.draw_serving(REPORTS["serving"]).axes
    assert [place.get_title() for place in axes] == ["even times", "Poisson times"]
    for place in axes:
        ours, peer, bound = place.get_lines()
        assert (ours.get_label(), peer.get_label()) == ("ours", "peer")
        assert list(ours.get_xdata()) == [5, 50, 100] and list(ours.get_ydata())[:2] == [4, 30]
        assert set(bound.get_ydata()) == {draw.P99}


def test_a_panel_for_each_race_and_in_it_a_bar_for_each_system_below_what_it_computes() -> None:
    axes = draw.draw_rates(REPORTS["train_step"]).axes
    assert [place.get_title(loc="right") for place in axes] == ["Training step, B = 8", "B = 9", "B = 10"]
    assert [label.get_text() for label in axes[0].get_yticklabels()] == [
        "net",
        "ours, compiled",
        "peer",
        "none",
        "ours, compiled",
    ]
    assert [(bar.get_y() + bar.get_height() / 2, bar.get_width()) for bar in axes[0].patches] == [
        (pytest.approx(1), 9),
        (pytest.approx(2), 1),
        (pytest.approx(4), 8),
    ]
    ours, peer, _ = (bar.get_facecolor() for bar in axes[0].patches)
    assert ours != peer


def race(systems: list[str], works: list[str]) -> list[dict[str, Any]]:
    names = [(name, work) for work in works for name in systems]
    rates = [123_456.0 / (1 + number) for number in range(len(names))]
    return [{"system": name, "work": work, "samples/s": rate} for (name, work), rate in zip(names, rates, strict=True)]


SYSTEMS = ["ours, compiled", "expanded, ours, compiled", "expanded, torch-rechub 0.9.0", "the zoo's own, fused Adam"]
WORKS = ["DIN unit, auxiliary net", "bilinear, auxiliary inner product"]
LONG = {
    "train_step": {f"1 user x 1000 candidates, {number} behaviours": race(SYSTEMS, WORKS) for number in (9, 100, 1000)},
    "lengths": {
        "Training step, B = 128, backend compiled": [
            {"histories": name, "behaviours": behaviours, "ms": ms}
            for name, behaviours, ms in (
                ("Amazon-like", 1283, 9.0),
                ("all twice as long", 2566, 15.8),
                ("one of 1000 among them", 2277, 97.0),
                ("all of 100", 12800, 39.5),
            )
        ],
        "by max_len": [
            {"system": name, "work": work, "max_len": n, "ms": n / 10}
            for name in SYSTEMS[1:]
            for work in WORKS
            for n in (100, 300, 1000)
        ],
    },
    "vocabulary": REPORTS["vocabulary"],
    "pareto": {
        f"Quality and latency, comparisons/rocket_{dataset}": [
            {"experiment": f"DIENLight_{dataset}_{number}", "parameters": number > 0, "ms": ms, "AUC": [0.8, 0.85]}
            for number, ms in enumerate((13.0, 2.1, 2.2, 2.1, 2.1, 2.1, 2.1))
        ]
        for dataset in ("amazon", "amazon_beauty_last")
    },
}


@pytest.mark.parametrize("program", LONG)
def test_texts_stay_in_the_picture_and_apart_from_each_other(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    boxes: list[tuple[str, Bbox]] = []
    draw_text = Text.draw

    def record(text: Text, renderer: Any) -> None:
        if text.get_visible() and text.get_text().strip():
            boxes.append((text.get_text(), text.get_window_extent(renderer)))
        draw_text(text, renderer)

    monkeypatch.setattr(Text, "draw", record)
    with default_style(draw.STYLE):
        figure = PICTURES[program](LONG[program])
        FigureCanvasAgg(figure).draw()
    assert len(boxes) > 10
    for name, box in boxes:
        assert box.x0 >= 0 and box.x1 <= figure.bbox.x1 and box.y0 >= 0 and box.y1 <= figure.bbox.y1, name
    for (name, box), (other, beside) in combinations(boxes, 2):
        assert not box.overlaps(beside), f"{name!r} and {other!r}"


def test_parts_are_stacked() -> None:
    place = of_research.draw_breakdown(REPORTS["breakdown"]).axes[0]
    assert sorted({bar.get_x() for bar in place.patches}) == list(range(len(COLUMNS)))


def test_a_front_has_mean_and_deviation_and_those_that_serve_the_same_net_side_by_side() -> None:
    place = of_research.draw_pareto(REPORTS["pareto"]).axes[0]
    found = {}
    for drawn in place.containers:
        (point, _, (bar,)) = drawn.lines
        ((low, high),) = (segment[:, 1] for segment in bar.get_segments())
        found[drawn.get_label()] = (*point.get_xydata()[0], low, high)
    deviation = 0.01 * 2**0.5
    assert found == {
        "large": pytest.approx((9, 0.81, 0.81 - deviation, 0.81 + deviation)),
        "light": pytest.approx((2 / 1.07**0.5, 0.7, 0.7, 0.7)),
        "beside": pytest.approx((2 * 1.07**0.5, 0.6, 0.6, 0.6)),
    }


@pytest.mark.parametrize("content", [None, "no JSON", "[]", '{"tables": {}}', '{"program": "gpu", "tables": {}}'])
def test_what_is_no_report_is_bad_input(
    content: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "report.json"
    if content:
        file.write_text(content)
    assert draw.main([str(file), "--out", str(tmp_path)]) == 2
    assert str(file) in capsys.readouterr().err


def test_without_matplotlib(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert draw.main([write(tmp_path, "inference", REPORTS["inference"]), "--out", str(tmp_path)]) == 2
    assert "pip install matplotlib" in capsys.readouterr().err
