"""Suites: content of their files, their runs, table and rows of results."""

import csv
import json
import os
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from made_comparison import Fake
from made_project import make_project

from dien_fuxictr.experiment.configuration.config import load_config
from dien_fuxictr.studies.comparison.cli import main
from dien_fuxictr.studies.comparison.plan import plan_suite
from dien_fuxictr.studies.comparison.results_csv import COLUMNS
from dien_fuxictr.studies.comparison.suite import read_suite

BUILD = {"source": "amazon", "reviews": "r.json", "meta": "m.json", "protocol": "last"}


def write(**changes: Any) -> None:
    """suites/s.yaml; a key that is None is left out."""
    suite = {"title": "A <title>", "experiments": ["weak", "strong"], "base": "weak", **changes}
    Path("config/suites").mkdir(exist_ok=True)
    Path("config/suites/s.yaml").write_text(
        yaml.dump({key: value for key, value in suite.items() if value is not None}, sort_keys=False)
    )


@pytest.fixture
def suites(fake: Fake) -> Fake:
    """With data set d built from raw reviews."""
    file = Path("config/dataset_config.yaml")
    sets = yaml.safe_load(file.read_text())
    sets["d"] = {**sets["d"], "data_format": "parquet", "build": BUILD}
    file.write_text(yaml.dump(sets))
    for name in ("r.json", "m.json"):
        Path(name).touch()
    return fake


def fingerprint_test_rows(file: str) -> list[dict[str, str]]:
    with open(file, newline="") as lines:
        return list(csv.DictReader(lines))


def test_folds_are_separate_data_sets_and_paired(suites: Fake, capsys: pytest.CaptureFixture[str]) -> None:
    write(folds=3, against="strong", experiments=["weak", "strong", "pooled"])
    assert main(["--suite", "s", "--workers", "2"]) == 0
    assert suites.started == [[f"{name}_fold{fold}" for fold in range(3) for name in ("weak", "strong", "pooled")]]
    out = Path("comparisons/s")
    params = [load_config(out / "comparison_s", f"strong_fold{fold}").params for fold in range(3)]
    assert [one["dataset_id"] for one in params] == [
        f"d_fold_{fold}_folds_3" if fold else "d_folds_3" for fold in range(3)
    ]
    assert [(one["build"].get("fold", 0), one["build"]["folds"], one["seed"]) for one in params] == [
        (0, 3, 5),
        (1, 3, 6),
        (2, 3, 7),
    ]
    table = {row["expid"]: row for row in fingerprint_test_rows("comparisons/s/table.csv")}
    assert table["strong"]["verdict"] == "better" and table["strong"]["against"] == ""
    assert float(table["weak"]["against_high"]) < 0 and table["weak"]["verdict"] == "base"
    shown = capsys.readouterr().out
    assert "AUC - strong, 95 %" in shown and "test rows" not in shown.splitlines()[0]
    assert "A &lt;title&gt;" in (out / "report.html").read_text()


def test_each_value_of_a_grid_is_a_system(suites: Fake) -> None:
    write(
        seeds=2,
        vary={"strong": {"learning_rate": [0.1, 1e-3], "epochs": [3, 4]}},
        settings={"batch_size": 9},
        x="epochs",
    )
    assert main(["--suite", "s", "--set", "shuffle=False", "--out", "out"]) == 0
    varied = [f"strong_learning_rate_{rate}_epochs_{epochs}" for rate in (0.1, 0.001) for epochs in (3, 4)]
    assert suites.started == [[f"{name}_seed{seed}" for seed in (5, 6) for name in ("weak", *varied)]]
    assert Path("out/suite.png").is_file() and "strong, learning_rate 0.001" in Path("out/suite.svg").read_text()
    params = load_config(Path("out/comparison_s"), f"{varied[3]}_seed6").params
    assert (params["learning_rate"], params["epochs"], params["batch_size"], params["shuffle"], params["seed"]) == (
        1e-3,
        4,
        9,
        False,
        6,
    )


@pytest.mark.parametrize("for_each", [False, True])
def test_a_list_has_its_combinations_alone(suites: Fake, for_each: bool) -> None:
    pairs = [{"epochs": 3, "batch_size": 9}, {"epochs": 4, "batch_size": 18}]
    write(vary={"strong": pairs, "weak": {"epochs": [3, 4]}} if for_each else pairs, x="epochs")
    assert main(["--suite", "s", "--out", "out"]) == 0
    names = [f"strong_epochs_{epochs}_batch_size_{rows}" for epochs, rows in ((3, 9), (4, 18))]
    assert [name.removesuffix("_seed5") for name in suites.started[0]][2:] == names
    params = load_config(Path("out/comparison_s"), f"{names[1]}_seed5").params
    assert (params["epochs"], params["batch_size"]) == (4, 18)
    svg = Path("out/suite.svg").read_text()
    assert "strong" in svg and "batch_size" not in svg, "it goes with epochs"


def test_variations_of_one_experiment_stand_against_the_first(suites: Fake) -> None:
    write(seeds=2, experiments=["strong"], base=None, vary={"epochs": [3, 4, 5]}, x="epochs")
    assert main(["--suite", "s"]) == 0
    table = {row["expid"]: row["verdict"] for row in fingerprint_test_rows("comparisons/s/table.csv")}
    assert table.pop("strong_epochs_3") == "base" and set(table.values()) == {"not ranked"}


def test_rows_on_other_test_rows_need_a_base_there(suites: Fake, capsys: pytest.CaptureFixture[str]) -> None:
    write(seeds=2, vary={"strong": {"build.negatives": ["matched", "uniform"]}})
    assert main(["--suite", "s"]) == 0
    shown = capsys.readouterr()
    assert "note: test rows differ from those of weak; no difference for strong_negatives_uniform" in shown.err
    table = {row["expid"]: row for row in fingerprint_test_rows("comparisons/s/table.csv")}
    assert [row["test_set"] for row in table.values()] == ["1", "1", "2"]
    assert table["strong_negatives_uniform"]["low"] == "" and table["strong_negatives_uniform"]["verdict"] == "-"
    assert table["strong_negatives_matched"]["verdict"] == "better" and "| test rows |" in shown.out
    write(seeds=2, vary={"build.negatives": ["matched", "uniform"]})
    assert main(["--suite", "s", "--out", "both"]) == 0
    table = {row["expid"]: row for row in fingerprint_test_rows("both/table.csv")}
    assert {name for name, row in table.items() if row["verdict"] == "base"} == {
        "weak_negatives_matched",
        "weak_negatives_uniform",
    }
    assert table["strong_negatives_uniform"]["verdict"] == "better"


def test_data_sets_with_equal_test_rows_are_compared(suites: Fake) -> None:
    write(seeds=2, vary={"strong": {"build.max_len": [5, 6]}})
    for name, items in (("d", "ab"), ("d_max_len_5", "ab"), ("d_max_len_6", "ac")):
        folder = Path("data", name, "samples")
        folder.mkdir(parents=True)
        rows = {"label": [1, 0], "user_id": ["u", "u"], "item_id": list(items), "history_length": [len(name), 1]}
        pl.DataFrame(rows).write_parquet(folder / "test.parquet")
    assert main(["--suite", "s"]) == 0
    table = {row["expid"]: row for row in fingerprint_test_rows("comparisons/s/table.csv")}
    assert table["strong_max_len_5"]["verdict"] == "better" and table["strong_max_len_6"]["verdict"] == "-"


def test_each_finished_run_is_a_row_of_results_once(suites: Fake) -> None:
    write(folds=2, vary={"strong": {"epochs": [3, 4]}}, results="docs/results/s.csv")
    suites.broken = {"weak_fold1"}
    assert main(["--suite", "s"]) == 1
    rows = fingerprint_test_rows("docs/results/s.csv")
    assert list(rows[0]) == list(COLUMNS) and len(rows) == 5
    assert (rows[1]["experiment"], rows[1]["variation"], rows[1]["fold"], rows[1]["seed"]) == (
        "strong",
        '{"epochs": 3}',
        "0",
        "5",
    )
    assert (
        len({row["configuration"] for row in rows}) == 5 and rows[0]["torch"] == "" and rows[0]["monitor"] == "0.600000"
    )
    os.truncate(
        "docs/results/s.csv", Path("docs/results/s.csv").read_bytes().index(b"\n") + 1
    )  # a lost file comes back
    suites.broken = set()
    assert main(["--suite", "s"]) == 0 and main(["--suite", "s"]) == 0
    assert suites.started[1:] == [["weak_fold1"], []] and len(fingerprint_test_rows("docs/results/s.csv")) == 6


def test_a_file_of_other_columns_is_left_alone(suites: Fake, capsys: pytest.CaptureFixture[str]) -> None:
    write(results="mine.csv")
    Path("mine.csv").write_text("a,b\n1,2\n")
    assert main(["--suite", "s"]) == 2
    assert "mine.csv has other columns than a suite's results: suite, experiment," in capsys.readouterr().err
    assert Path("mine.csv").read_text() == "a,b\n1,2\n" and suites.started == []


def test_some_of_its_experiments_first(suites: Fake, capsys: pytest.CaptureFixture[str]) -> None:
    write(experiments=["weak", "strong", "pooled"], seeds=2)
    assert main(["--suite", "s", "--expids", "strong"]) == 0
    shown = capsys.readouterr()
    assert "note: no run of weak, the base, has finished; differences to the base are left out" in shown.err
    assert "| strong " in shown.out and "| -  " in shown.out
    assert main(["--suite", "s", "--expids", "weak", "pooled"]) == 0
    assert suites.started == [
        ["strong_seed5", "strong_seed6"],
        ["weak_seed5", "pooled_seed5", "weak_seed6", "pooled_seed6"],
    ]
    assert len(capsys.readouterr().out.splitlines()) == 5, "those that have finished earlier are in the table"


def test_they_are_listed(suites: Fake, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--suite"]) == 0
    assert capsys.readouterr().out == "no suites in config/suites\n"
    write()
    assert main(["--suite"]) == 0
    assert capsys.readouterr().out == "s  A <title>\n"
    assert main(["--suite", "t"]) == 2
    assert capsys.readouterr().err == "error: --suite t is unknown; there are: s\n"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"titel": "x"}, "unknown key 'titel' in config/suites/s.yaml; did you mean 'title'?"),
        ({"colour": "x"}, "unknown key 'colour' in config/suites/s.yaml; there are title, experiments, base"),
        ({"title": None}, "title is missing in config/suites/s.yaml"),
        ({"experiments": "weak"}, "must be a list of experiment ids"),
        ({"experiments": ["weak", "weak"]}, "experiments has weak twice"),
        ({"experiments": ["weak", "strng"]}, "expid 'strng' is not in config; nearest: strong"),
        ({"base": "pooled"}, "base = pooled must be one of the experiments: weak, strong"),
        ({"against": "pooled"}, "against = pooled must be one of the experiments: weak, strong"),
        ({"folds": 3, "seeds": 3}, "folds and seeds cannot be combined"),
        ({"folds": 1}, "folds = 1 in config/suites/s.yaml must be a whole number, 2 or more"),
        ({"vary": {"epochs": 3}}, "epochs in vary must be a list of values, but is 3"),
        ({"vary": 3}, "vary = 3 in config/suites/s.yaml must be a mapping, or a list of mappings"),
        ({"vary": []}, "vary must map keys to lists of values, or list such settings, but has []"),
        ({"vary": {"weak": [3]}}, "vary must map keys to lists of values, or list such settings, but has [3]"),
        ({"vary": [{"epochs": 3}, {"epoch": 4}]}, "weak has no key 'epoch' to vary; did you mean 'epochs'?"),
        ({"vary": [{"seed": 3}]}, "seed cannot be in vary; seeds and folds are keys of the suite"),
        (
            {"vary": {"epochs": [3], "weak": {"epochs": [3]}}},
            "vary cannot have both keys and experiments: epochs, weak",
        ),
        ({"vary": {"seed": [3]}}, "seed cannot be in vary; seeds and folds are keys of the suite"),
        ({"vary": {"epochs": [3]}, "settings": {"epochs": 3}}, "epochs cannot be in both settings and vary"),
        ({"vary": {"aux_los_alpha": [3]}}, "weak has no key 'aux_los_alpha' to vary; did you mean 'aux_loss_alpha'?"),
        ({"vary": {"build.flod": [3]}}, "unknown key 'flod' in the build from source amazon; did you mean fold"),
        ({"vary": {"epochs": ["many"]}}, "epochs = 'many' in --set must be"),
        ({"vary": {"monitor": ["AUC", "AUC"]}}, "two experiments or variations have the name weak_monitor_AUC"),
        ({"vary": {"epochs": [3, 4]}, "x": "batch_size"}, "x = batch_size must be a key of vary"),
        ({"vary": {"epochs": [3, 4]}, "x_label": "epochs"}, "x_label needs x, the key of vary that it names"),
        (
            {"vary": {"epochs": [3, 4]}, "x": "epochs", "x_names": {3: "few", 5: "many"}},
            "x_names: 5 must be a value of epochs: 3, 4",
        ),
        ({"results": "rows.txt"}, "results = 'rows.txt' in config/suites/s.yaml must be the path of a .csv file"),
        (
            {"experiments": ["elsewhere"], "base": None, "folds": 2},
            "build.folds cannot be set: data set other has no build section",
        ),
    ],
)
def test_bad_suites(suites: Fake, changes: dict, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    write(**changes)
    assert main(["--suite", "s"]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.startswith("error: ") and message in shown.err and shown.err.count("\n") == 1
    assert not Path("comparisons").exists() and suites.started == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--expids", "elsewhere"], "--expids elsewhere is not in suite s; it has weak, strong"),
        (["--set", "epochs=9"], "--set epochs cannot be combined with suite s"),
    ],
)
def test_bad_options(suites: Fake, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    write(vary={"epochs": [3]})
    assert main(["--suite", "s", *arguments]) == 2
    assert message in capsys.readouterr().err and suites.started == []


@pytest.mark.parametrize("option", ["--seeds", "--base", "--dataset", "--tag", "--zoo"])
def test_options_of_the_suite_file_are_refused_as_flags(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_code:
        main(["--suite", "s", option, "1"])
    assert exit_code.value.code == 2 and f"{option} cannot be combined with --suite" in capsys.readouterr().err


def test_the_one_that_is_shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(make_project(tmp_path / "project", epochs=1))
    comparison = plan_suite(read_suite(Path("config"), "amazon"), Path("config"), None, {})
    assert [model.name for model in comparison.models] == [
        "EmbeddingMLP_amazon",
        "DIN_amazon",
        *(f"DIEN_amazon_aux_loss_alpha_{alpha}" for alpha in (0, 0.3, 1)),
    ]
    assert [run.params["seed"] for run in comparison.models[2].runs] == [2019, 2020, 2021]
    assert comparison.folder == Path("comparisons/amazon") and (comparison.base, comparison.against) == (
        "EmbeddingMLP_amazon",
        "DIN_amazon",
    )


def test_folds_are_built_and_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(make_project(tmp_path / "project", epochs=1))
    experiments = ["EmbeddingMLP_amazon", "DIN_amazon"]
    settings = {"build.protocol": "last"}
    write(experiments=experiments, base=experiments[0], folds=2, settings=settings, results="comparisons/s.csv")
    assert main(["--suite", "s", "--workers", "2"]) == 0
    folders = ["amazon_fold_0_folds_2_protocol_last", "amazon_fold_1_folds_2_protocol_last"]
    options = [json.loads(Path("data", name, "samples", "samples.json").read_text())["options"] for name in folders]
    assert [(one["protocol"], one["folds"], one["fold"]) for one in options] == [("last", 2, 0), ("last", 2, 1)]
    rows = fingerprint_test_rows("comparisons/s.csv")
    assert sorted((row["experiment"], row["fold"], row["seed"]) for row in rows) == [
        ("DIN_amazon", "0", "2019"),
        ("DIN_amazon", "1", "2020"),
        ("EmbeddingMLP_amazon", "0", "2019"),
        ("EmbeddingMLP_amazon", "1", "2020"),
    ]
    assert all(0 < float(row["test_AUC"]) < 1 and row["best_epoch"] == "1" and row["torch"] for row in rows)
    (base, din) = sorted(fingerprint_test_rows("comparisons/s/table.csv"), key=lambda row: row["verdict"] != "base")
    assert base["is_base"] == "True" and din["low"] and din["holds_runs"] == "True" and din["runs"] == "2"
