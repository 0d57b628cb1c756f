"""The command line on a small data set with a trained model."""

import json
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from matplotlib.image import imread

from dien_fuxictr.experiment.cli import main as run_expid
from dien_fuxictr.studies.evolution.cli import main

ITEMS = Path("data/tiny/samples/test.parquet")


def drawn(out: Path) -> dict:
    picture = imread(out / "evolution.png")[..., :3]
    assert picture.std() > 0.1 and len(np.unique(picture.reshape(-1, 3), axis=0)) > 100
    return json.loads((out / "evolution.json").read_text())


def test_a_picture_and_its_numbers(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--expid", "trained"]) == 0
    out = Path("checkpoints/tiny/trained.evolution")
    numbers = drawn(out)
    shown = capsys.readouterr()
    assert str(out / "evolution.png") in shown.out and shown.err == ""
    steps = len(numbers["behaviours"])
    own, dominant, foreign, untargeted = numbers["paths"]
    assert untargeted["name"] == "no target" and untargeted["attention"] == pytest.approx([1 / steps] * steps)
    for path in numbers["paths"]:
        assert sum(path["attention"]) == pytest.approx(1, abs=1e-5)
        assert np.shape(path["states_in_two_dimensions"]) == (steps + 1, 2)
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


def test_named_user_and_items_twice_the_same(workspace: Path) -> None:
    test = pl.read_parquet(ITEMS)
    user, items = test["user_id"][3], test["item_id"].unique().sort().head(4).to_list()
    for out in ("a", "b"):
        assert main(["--expid", "AGRU", "--user", user, "--items", *items, "--out", out]) == 0
    assert Path("a/evolution.png").read_bytes() == Path("b/evolution.png").read_bytes()
    assert Path("a/evolution.json").read_bytes() == Path("b/evolution.json").read_bytes()
    numbers = drawn(Path("a"))
    assert numbers["user"] == user and [path["item"] for path in numbers["paths"]] == [*items, None]
    assert all(len(step["name"].split(" · ")) == 2 for step in numbers["behaviours"])


def test_names_are_ids_where_the_metadata_are_gone(workspace: Path) -> None:
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
        (["--config", "nowhere"], "nowhere: no such folder"),
        (["--expid", "DIN"], "DIN has no interests to draw: it offers no explain(); models that do: DIEN, DIENLight"),
        (["--expid", "GRU"], "GRU has gru_type: GRU, whose states do not depend on the candidate"),
        (["--expid", "userless"], "data set tiny has no user_id: group_id must name the column of the user"),
        (["--expid", "trained", "--user", "A00000"], "--user A00000: no such test user; nearest: A0"),
        (["--expid", "trained", "--items", "B"], "--items B: no such item; there are "),
    ],
)
def test_bad_input_overwrites_nothing(
    workspace: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = workspace / "kept"
    out.mkdir(exist_ok=True)
    for name in ("evolution.png", "evolution.json"):
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


def test_without_matplotlib(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["--expid", "trained", "--out", "none"]) == 2
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1 and "pip install matplotlib" in shown and not Path("none").exists()


def test_too_many_items(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_code:
        main(["--items", *"abcdefghijk"])
    assert exit_code.value.code == 2 and "--items: 11 are too many for a picture; up to 10" in capsys.readouterr().err


def test_help_teaches_by_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_code:
        main(["--help"])
    shown = capsys.readouterr().out
    assert exit_code.value.code == 0 and shown.count("run_evolution.py --expid") >= 3 and "exit code:" in shown


@pytest.mark.parametrize(
    ("out", "reason"),
    [
        ("checkpoints/tiny", "lies in model_root = "),
        ("config/pictures", "lies in --config = config"),
        ("data/tiny/samples", "lies in the data set = "),
    ],
)
def test_pictures_go_to_no_folder_of_runs(
    workspace: Path, capsys: pytest.CaptureFixture[str], out: str, reason: str
) -> None:
    assert main(["--expid", "trained", "--out", out]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: --out {out} {reason}") and error.count("\n") == 1
