"""`build_dataset.py ... --entry`: data set and experiments of a log."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from dien_fuxictr import open_experiment
from dien_fuxictr.dataset.samples.build_options import BuildOptions
from dien_fuxictr.experiment.build_dataset import main
from dien_fuxictr.experiment.cli import main as run_expid
from dien_fuxictr.experiment.configuration.new_entry import models_text, recommend
from dien_fuxictr.experiment.configuration.yaml_files import parse_yaml

NAMED = ["log", "--input", "clicks.parquet", "--user", "uid", "--item", "a: b", "--category", "yes", "--time", "ts"]


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pl.DataFrame:
    """Write a log of 60 users with 12 clicks each on 40 items.

    Its columns have names that YAML would misread.
    """
    draw = np.random.default_rng(1)
    items = draw.integers(0, 40, 720)
    clicks = pl.DataFrame(
        {
            "uid": np.repeat(np.arange(60), 12),
            "a: b": items,
            "yes": items // 5,
            "brand": [f"b{item % 7}" for item in items],
            "device": draw.choice(["phone", "desk"], 720),
            "ts": 1_700_000_000 + 3_600 * np.arange(720),
        }
    )
    clicks.write_parquet(tmp_path / "clicks.parquet")
    monkeypatch.chdir(tmp_path)
    return clicks


def test_an_entry_trains_compares_and_predicts(log: pl.DataFrame, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main([*NAMED, "--side", "brand", "--context", "device", "--context-history", "device", "--entry", "1e3"]) == 0
    )
    printed = capsys.readouterr().out
    assert "  python run_expid.py --expid DIEN_GRU_1e3\n" in printed
    names = ("item_id", "cate_id", "brand")
    for expid, field in (("DIEN_GRU_1e3", "dien_target_field"), ("DIN_1e3", "din_target_field")):
        run = open_experiment(expid, overrides={"epochs": 1, "verbose": 0})
        assert run.warnings == [] and run.params[field] == names
        assert run.params["build"] | {"input": "clicks.parquet"} == {
            "source": "log", "input": "clicks.parquet", "user": "uid", "item": "a: b", "category": "yes", "time": "ts",
            "side": ["brand"], "context": ["device"], "context_history": ["device"],
        }  # fmt: skip
        run.fit()
        assert set(run.model.feature_map.features) >= {*names, "device", "device_history", "item_history"}
    assert open_experiment("DIEN_1e3").params["gru_type"] == "AUGRU"
    assert open_experiment("EmbeddingMLP_1e3").params["model"] == "EmbeddingMLP"
    log.sample(9, seed=1).select("uid", "a: b", "ts", "device").write_csv("new.csv")
    arguments = ["apply", "--log", "clicks.parquet", "--rows", "new.csv", "--dataset", "1e3", "--out", "rows.parquet"]
    assert main(arguments) == 0
    assert run_expid(["--expid", "DIN_1e3", "--predict", "rows.parquet", "--out", "scores.csv"]) == 0
    assert pl.read_csv("scores.csv").height == 9


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_a_column_of_numbers_is_warned_of(form: str, log: pl.DataFrame, capsys: pytest.CaptureFixture[str]) -> None:
    item = pl.col("a: b")
    numbers = log.with_columns(price=item * 1.25, size=item % 4 / 2, hour=pl.int_range(720) % 24 / 1.0)
    numbers.write_parquet("clicks.parquet")
    columns = ["--side", "price,size,brand", "--context", "hour,device"]
    assert main([*NAMED, *columns, "--format", form, "--entry", "numbers"]) == 0
    (warning,) = (line for line in capsys.readouterr().err.splitlines() if "different numbers" in line)
    assert "column 'price' has 40 different numbers, and the entry makes each of them a category;" in warning


def test_a_log_without_categories(log: pl.DataFrame) -> None:
    arguments = [value for value in NAMED if value not in ("--category", "yes")]
    assert main([*arguments, "--entry", "plain", "--config", "other"]) == 0
    run = open_experiment("DIEN_plain", config="other")
    assert run.params["dien_target_field"] == ("item_id",) and run.model_class.__name__ == "DIEN"


def test_nothing_is_overwritten(log: pl.DataFrame, capsys: pytest.CaptureFixture[str]) -> None:
    file = Path("config/model_config/taken.yaml")
    file.parent.mkdir(parents=True)
    file.write_text("mine")
    single = Path("single/dataset_config.yaml")
    single.parent.mkdir()
    single.touch()
    before = sorted(Path().rglob("*"))
    for arguments, message in (
        (["--entry", "taken"], f"--entry taken: {file} already exists; --rebuild keeps it and builds"),
        (["--entry", "a/b"], "--entry 'a/b' must be a name without / or \\; files have this name"),
        (["--entry", "new", "--config", "single"], f"all entries are in {single}"),
        (["--entry", "new", "--max-len", "0"], "max_len"),
        (["--entry", "new", "--side", "nowhere"], "nowhere"),
    ):
        assert main([*NAMED, *arguments]) == 2
        assert message in capsys.readouterr().err
    assert [path for path in sorted(Path().rglob("*")) if "data" not in path.parts] == before
    assert file.read_text() == "mine" and not Path("config/dataset_config").exists()


def test_rebuild_keeps_settings_and_builds_samples(log: pl.DataFrame, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*NAMED, "--entry", "mine"]) == 0
    files = [Path("config", kind, "mine.yaml") for kind in ("dataset_config", "model_config")]
    for file in files:
        file.write_text(file.read_text().replace("min_categr_count: 1 ", "min_categr_count: 2 ") + "# mine\n")
    kept = [file.read_text() for file in files]
    pl.concat([log, log.with_columns(pl.col("ts") + 10**6)]).write_parquet("clicks.parquet")
    capsys.readouterr()
    assert main([*NAMED, "--entry", "mine", "--rebuild"]) == 0
    note = f"\nKept {files[0]} and {files[1]}: --rebuild replaces samples, never settings\n"
    printed = capsys.readouterr().out
    assert note in printed and " 1,440 behaviours\n" in printed
    assert [file.read_text() for file in files] == kept
    assert run_expid(["--expid", "DIN_mine", "--set", "epochs=1", "--allow-untrained"]) == 0
    files[1].unlink()
    assert main([*NAMED, "--entry", "mine", "--rebuild"]) == 0
    assert f"Kept {files[0]}: " in capsys.readouterr().out and "mine" not in files[1].read_text().splitlines()[-1]


def test_entry_of_a_log_larger_than_memory(log: pl.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dien_fuxictr.dataset.loading.prepare.MAPPED_ABOVE", 700)
    assert main([*NAMED, "--side", "brand", "--entry", "large"]) == 0
    assert not Path("data/large/samples/train.parquet").exists() and Path("config/model_config/large.yaml").exists()


def test_rebuild_refuses_options_that_the_entry_lacks(log: pl.DataFrame, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*NAMED, "--entry", "mine"]) == 0
    assert main([*NAMED, "--entry", "mine", "--rebuild", "--side", "brand", "--max-len", "9"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    file = Path("config/dataset_config/mine.yaml")
    assert error.startswith(f"error: {file} has other options of the build (side: () -> ('brand',); max_len: 100 -> 9)")


@pytest.mark.parametrize(
    ("users", "positives", "steps", "few"),
    [(1000, 900, 9.0, True), (1000, 4000, 100.0, True), (1000, 9000, 9.0, False), (1000, 100_000, 50.0, False)],
)
def test_few_labels_get_a_strong_auxiliary_loss(users: int, positives: int, steps: float, few: bool) -> None:
    train = {"rows": 2 * positives, "positives": positives, "mean_history": steps}
    settings = recommend({"users": users, "items": 500, "train": train})
    assert settings.has_few_labels == few
    assert 64 <= settings.batch_size <= 1024 and settings.batch_size.bit_count() == 1
    assert 1 <= settings.regularizer <= settings.aux_regularizer <= 300


@pytest.mark.parametrize(("rows", "items", "positives", "regularizer", "aux_regularizer"), [
    (372, 30, 186, 5.0, 5.0),  # many labels: none of these trains with 20
    (4518, 198, 2259, 60.0, 60.0),  # nor one of these with 300
    (372, 30, 20, 5.0, 19.0),
    (262_826, 12_101, 131_413, 300.0, 300.0),
])  # fmt: skip
def test_a_small_log_has_a_small_regularizer(
    rows: int, items: int, positives: int, regularizer: float, aux_regularizer: float
) -> None:
    users = rows / 15
    settings = recommend(
        {"users": users, "items": items, "train": {"rows": rows, "positives": positives, "mean_history": 4.8}}
    )
    assert (settings.regularizer, settings.aux_regularizer) == (regularizer, aux_regularizer)


def test_settings_of_a_log_without_history() -> None:
    settings = recommend({"users": 3, "items": 2, "train": {"rows": 2, "positives": 1, "mean_history": 0.0}})
    assert settings.batch_size == 64 and settings.regularizer >= 1


@pytest.mark.parametrize(("rows", "batch_size", "epochs", "eval_steps"), [
    (1774, 64, 215, 200), (6832, 64, 57, 200), (8960, 64, 30, None), (12_740, 64, 30, None), (385_000, 1024, 30, None),
])  # fmt: skip
def test_short_epochs_are_evaluated_less_often(rows: int, batch_size: int, epochs: int, eval_steps: int | None) -> None:
    train = {"rows": rows, "positives": rows / 2, "mean_history": 20.0}
    settings = recommend({"users": 100, "items": 500, "train": train})
    assert (settings.batch_size, settings.epochs, settings.eval_steps) == (batch_size, epochs, eval_steps)
    log = {"source": "log", "input": "a", "user": "u", "item": "i", "time": "t"}
    base = parse_yaml(models_text("my", BuildOptions.of(log), {"users": 100, "items": 500, "train": train}))["Base"]
    assert (base["batch_size"], base["epochs"], base.get("eval_steps")) == (batch_size, epochs, eval_steps)
