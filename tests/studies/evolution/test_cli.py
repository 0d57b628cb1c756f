"""Command line on a small data set with a trained model."""

import json
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from made_browser import run_page, text_of, with_class

from dien_fuxictr.experiment import explanation_page
from dien_fuxictr.experiment.cli import main as run_expid
from dien_fuxictr.studies.evolution import evolution
from dien_fuxictr.studies.evolution.cli import MOST, main

ITEMS = Path("data/tiny/samples/test.parquet")


def drawn(out: Path) -> dict:
    """Return the numbers of a page, after checking that the page has them.

    It shows each candidate, each behaviour, the paths and the attention.
    """
    numbers = json.loads((out / "evolution.json").read_text())
    page = run_page((out / "evolution.html").read_text())
    *candidates, untargeted = numbers["paths"]
    entries = [text_of(entry) for entry in page.iter("li")]
    equal = f"no targetthe same attention, {untargeted['attention'][0]:.3g}, for every behaviour"
    assert entries == [
        *(
            f"{letter}{path['name']}{path['why']}; predicted {path['prediction']:.3f}"
            for letter, path in zip("ABCDEFGHIJ", candidates, strict=False)
        ),
        equal,
    ]
    rows = [[text_of(cell) for cell in row] for row in page.findall(".//tbody/tr")]
    assert [row[:2] for row in rows] == [[f"{n}", step["name"]] for n, step in enumerate(numbers["behaviours"], 1)]
    assert [row[2:] for row in rows] == [
        [f"{value:.3f}" for value in values] for values in np.transpose([path["attention"] for path in candidates])
    ]
    assert [svg.get("aria-label") for svg in page.iter("svg")] == [
        "Attention",
        "Movement of the state",
        "Path of the state",
    ]
    dots = [dot for dot in with_class(page, "dot") if dot.get("r") == "2"]
    assert len(dots) == len(numbers["paths"]) * (len(rows) + 1)
    return numbers


def test_a_page_and_its_numbers(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--expid", "trained"]) == 0
    out = Path("checkpoints/tiny/trained.evolution")
    numbers = drawn(out)
    shown = capsys.readouterr()
    assert str(out / "evolution.html") in shown.out and shown.err == ""
    steps = len(numbers["behaviours"])
    own, dominant, foreign, untargeted = numbers["paths"]
    assert untargeted["name"] == "no target" and untargeted["attention"] == pytest.approx([1 / steps] * steps)
    for path in numbers["paths"]:
        assert sum(path["attention"]) == pytest.approx(1, abs=1e-5)
        assert np.shape(path["states_in_two_dimensions"]) == (steps + 1, 2)
        assert len(path["movement"]) == steps and min(path["movement"]) >= 0
    assert 0 < sum(numbers["explained_variance"]) <= 1

    samples = pl.read_parquet(ITEMS).filter((pl.col("user_id") == numbers["user"]) & (pl.col("label") == 1))
    assert own["item"] == samples["item_id"][0] and own["why"] == "clicked in the test"
    behaviours = pl.read_parquet(ITEMS.with_name("behaviours.parquet"))
    history = behaviours.slice(samples["history_start"][0], samples["history_length"][0])
    assert [step["item"] for step in numbers["behaviours"]] == history["item_history"].to_list()
    categories = history["cate_history"].to_list()
    assert numbers["behaviours"][0]["name"].endswith(f" {categories[0]} · {categories[0]}")  # "Alder Lens · Lens"
    category = {path["why"]: path["name"].split(" · ")[1] for path in (dominant, foreign)}
    frequent = category["category most frequent in the history"]
    assert categories.count(frequent) == max(map(categories.count, categories))
    assert category["category not in the history"] not in categories


def test_predictions_are_those_of_run_expid(workspace: Path) -> None:
    assert main(["--expid", "trained", "--out", "scored"]) == 0
    numbers = drawn(Path("scored"))
    assert run_expid(["--expid", "trained", "--predict", str(ITEMS), "--out", "scores.csv"]) == 0
    row = (pl.col("user_id") == numbers["user"]) & (pl.col("item_id") == numbers["paths"][0]["item"])
    scores = pl.read_csv("scores.csv").filter(row)["score"]
    assert numbers["paths"][0]["prediction"] == pytest.approx(scores[0], rel=1e-4)


def test_named_user_and_items_are_reproducible(workspace: Path) -> None:
    test = pl.read_parquet(ITEMS)
    user, items = test["user_id"][3], test["item_id"].unique().sort().head(4).to_list()
    for out in ("a", "b"):
        assert main(["--expid", "AGRU", "--user", user, "--items", *items, "--out", out]) == 0
    assert Path("a/evolution.html").read_bytes() == Path("b/evolution.html").read_bytes()
    assert Path("a/evolution.json").read_bytes() == Path("b/evolution.json").read_bytes()
    numbers = drawn(Path("a"))
    assert numbers["user"] == user and [path["item"] for path in numbers["paths"]] == [*items, None]
    assert all(len(step["name"].split(" · ")) == 2 for step in numbers["behaviours"])


def test_names_are_ids_without_metadata(workspace: Path) -> None:
    meta = Path("raw/meta.json.gz")
    meta.rename("raw/elsewhere")
    try:
        assert main(["--expid", "trained", "--out", "ids"]) == 0
    finally:
        Path("raw/elsewhere").rename(meta)
    for step in drawn(Path("ids"))["behaviours"]:
        assert step["name"].startswith(f"{step['item']} · ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--expid", "untrained"], "untrained.model does not exist; run_expid.py --expid untrained trains it"),
        (["--expid", "trainde"], "expid 'trainde' is not in config; nearest: trained"),
        (["--config", "nowhere"], "--config nowhere does not exist"),
        (["--expid", "DIN"], "DIN has no interests to draw: it offers no explain(); models that do: DIEN, DIENLight"),
        (["--expid", "GRU"], "gru_type = GRU of GRU has states that do not depend on the candidate"),
        (["--expid", "userless"], "column user_id is missing in data set tiny; group_id must name the user's column"),
        (["--expid", "trained", "--user", "A00000"], "--user A00000 is an unknown test user; nearest: A0"),
        (["--expid", "trained", "--items", "B"], "--items B is an unknown item; there are "),
    ],
)
def test_bad_input_overwrites_nothing(
    workspace: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = workspace / "kept"
    out.mkdir(exist_ok=True)
    for name in ("evolution.html", "evolution.json"):
        (out / name).write_text("old")
    assert main([*arguments, "--out", "kept"]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.startswith("error: ") and message in shown.err and shown.err.count("\n") == 1
    assert sorted(file.read_text() for file in out.iterdir()) == ["old", "old"]


def test_a_data_set_that_is_not_built(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("data/tiny").rename("data/moved")
    try:
        assert main(["--expid", "trained"]) == 2
    finally:
        Path("data/moved").rename("data/tiny")
    assert "feature_map.json does not exist" in capsys.readouterr().err


def test_a_name_is_no_markup(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evil = "</script><script>alert(1)</script><b>$script 雨"
    monkeypatch.setattr(evolution, "readable", lambda words, titles: evil)
    assert main(["--expid", "trained", "--out", "evil"]) == 0
    assert {step["name"] for step in drawn(Path("evil"))["behaviours"]} == {evil}
    html = Path("evil/evolution.html").read_text()
    assert "alert" in html and "<script>alert" not in html and html.count("</script>") == 2


def test_evolution_page_is_self_contained(workspace: Path) -> None:
    assert main(["--expid", "trained", "--out", "alone"]) == 0
    html = Path("alone/evolution.html").read_text()
    assert set(re.findall(r"""https?://[^"'\s]*""", html)) == {"http://www.w3.org/2000/svg"}, "the namespace alone"
    assert re.findall(r"""\b(?:src|href)=["'][^"']*""", html) == ['href="data:,']
    assert not re.findall(r"@import|\burl\(|\bimport\(|innerHTML|outerHTML|insertAdjacentHTML|document\.write", html)


def test_each_item_has_a_letter() -> None:
    script = Path(explanation_page.__file__).with_name("explanation.js").read_text()
    assert re.findall(r'const LETTERS = "(\w+)"', script) == ["ABCDEFGHIJ"[:MOST]]


def test_too_many_items(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_code:
        main(["--items", *"abcdefghijk"])
    assert exit_code.value.code == 2 and "--items has 11 ids; one page has at most 10" in capsys.readouterr().err


def test_help_teaches_by_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_code:
        main(["--help"])
    shown = capsys.readouterr().out
    assert exit_code.value.code == 0 and shown.count("run_evolution.py --expid") >= 3 and "exit code:" in shown


@pytest.mark.parametrize(
    ("out", "reason"),
    [
        ("checkpoints/tiny", "lies in model_root = "),
        ("config/pages", "lies in --config = config"),
        ("data/tiny/samples", "lies in the data set = "),
    ],
)
def test_pages_go_to_no_folder_of_runs(
    workspace: Path, capsys: pytest.CaptureFixture[str], out: str, reason: str
) -> None:
    assert main(["--expid", "trained", "--out", out]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: --out {out} {reason}") and error.count("\n") == 1
