"""Command line: which runs are made, what is skipped, what is written."""

import csv
import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
import yaml
from made_comparison import SETTINGS, Fake

from dien_fuxictr.experiment.configuration.config import load_config
from dien_fuxictr.studies.comparison.cli import main
from dien_fuxictr.studies.comparison.plan import BASE_MODEL


def test_help_names_the_model_that_others_stand_against(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    assert f"default {BASE_MODEL}, or the first" in " ".join(capsys.readouterr().out.split())


def test_every_experiment_over_the_seeds_that_follow_its_own(fake: Fake, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--expids", "weak", "strong", "--seeds", "3", "--workers", "2"]) == 0
    assert fake.started == [[f"{expid}_seed{seed}" for seed in (5, 6, 7) for expid in ("weak", "strong")]]
    assert (fake.gpus, fake.finished) == ([-1, -1], 0)
    out = Path("comparisons/d")
    assert capsys.readouterr().out == (out / "table.md").read_text()
    rows = list(csv.DictReader((out / "table.csv").open()))
    assert [(row["expid"], row["runs"], row["verdict"]) for row in rows] == [
        ("strong", "3", "better"),
        ("weak", "3", "base"),
    ]
    report = (out / "report.html").read_text()
    assert "<code>python run_comparison.py --expids weak strong --seeds 3 --workers 2</code>" in report
    assert "200 rows, 100 users" in report and "6, seeds 5, 6, 7" in report and report.count("<svg ") == 3
    results = json.loads((out / "results.json").read_text())
    assert results["base"] == "weak" and len(results["runs"]["strong"]) == 3


def test_finished_runs_are_skipped_and_changed_ones_run_again(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    command = ["--expids", "weak", "strong", "--seeds", "2", "--gpu", "0", "1", "--out", "out"]
    fake.broken = {"strong_seed6"}
    assert main(command) == 1
    fake.broken = set()
    assert main([*command, "--base", "strong"]) == 0
    assert fake.started[1] == ["strong_seed6"] and (fake.gpus, fake.finished) == ([0, 1], 3)
    file = Path("config/model_config/M.yaml")
    file.write_text(file.read_text().replace("batch_size: 8", "batch_size: 9"))
    shutil.rmtree("out/runs")
    assert main(command) == 0
    assert len(fake.started[2]) == 4


def test_without_cuda_runs_are_on_the_cpu(fake: Fake, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["--expids", "weak", "--gpu", "0", "1"]) == 0
    assert fake.gpus == [-1, -1]
    assert capsys.readouterr().err.count("note: --gpu 0 1: no CUDA device is available, all runs are on the CPU\n") == 1


def test_a_gpu_that_is_not_there_is_refused(fake: Fake, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert main(["--expids", "weak", "--gpu", "0", "2"]) == 2
    assert "--gpu 2 does not exist: there are 2 CUDA devices" in capsys.readouterr().err and not fake.started


def test_a_key_of_set_that_no_experiment_reads_is_refused(fake: Fake, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--expids", "weak", "strong", "--set", "lr_scheduler=cosine"]) == 2
    assert "unknown key 'lr_scheduler' in --set: nothing in a run of DIEN reads it" in capsys.readouterr().err
    assert not fake.started


def test_a_key_of_set_goes_to_the_experiments_that_read_it(fake: Fake) -> None:
    other = {**SETTINGS, "model": "DeepFM"}
    Path("config/model_config/Other.yaml").write_text(yaml.dump({"Base": {}, "other": other}))
    assert main(["--expids", "weak", "other", "--set", "aux_loss_alpha=0.25"]) == 0
    for expid, value in (("weak", 0.25), ("other", None)):
        assert load_config(Path("comparisons/d/comparison_d"), f"{expid}_seed5").params.get("aux_loss_alpha") == value


def test_a_run_of_another_configuration_does_not_count(fake: Fake) -> None:
    assert main(["--expids", "weak", "--out", "out"]) == 0
    result = Path("out/runs/weak_seed5/result.json")
    result.write_text(result.read_text().replace("'DIEN'", "'DIN'"))
    fake.broken = {"weak_seed5"}
    assert main(["--expids", "weak", "--out", "out"]) == 2


def test_untrained_runs_are_marked_and_end_with_1(fake: Fake, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["--expids", "weak", "strong", "--seeds", "2"]
    assert main(command) == 0
    for seed in (5, 6):
        file = Path(f"comparisons/d/runs/strong_seed{seed}/result.json")
        file.write_text(json.dumps({**json.loads(file.read_text()), "untrained": "all is dark"}))
    capsys.readouterr()
    assert main(command) == 1
    shown = capsys.readouterr()
    assert shown.err.splitlines()[-1].startswith(
        "error: 2 of 4 runs have learnt nothing: strong_seed5, strong_seed6; --allow-untrained "
    )
    marked = "strong (2 of 2 runs untrained)"
    assert marked in shown.out and marked in Path("comparisons/d/report.html").read_text()
    rows = csv.DictReader(Path("comparisons/d/table.csv").read_text().splitlines())
    assert [row["untrained"] for row in rows] == ["2", "0"]
    assert main([*command, "--allow-untrained"]) == 0
    assert marked in capsys.readouterr().out


def test_a_failed_run_does_not_stop_the_rest(fake: Fake, capsys: pytest.CaptureFixture[str]) -> None:
    fake.broken = {"strong_seed5"}
    assert main(["--expids", "weak", "strong"]) == 1
    shown = capsys.readouterr()
    assert "| weak" in shown.out and "strong" not in shown.out
    assert shown.err.endswith("\nerror: 1 of 2 runs failed: strong_seed5\n")


def test_without_matplotlib_one_line_says_how_to_install_it(fake: Fake, monkeypatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["--expids", "weak", "strong"]) == 0
    line = "pictures need a package that is not installed: pip install matplotlib"
    assert capsys.readouterr().err.count(f"note: {line}\n") == 1
    report = Path("comparisons/d/report.html").read_text()
    assert f"<p>{line}</p>" in report and "<svg" not in report and "strong" in report


def test_the_papers_base_model_is_the_default_base(fake: Fake) -> None:
    assert main(["--expids", "weak", "pooled", "strong"]) == 0
    assert json.loads(Path("comparisons/d/results.json").read_text())["base"] == "pooled"


def test_experiments_by_data_set_and_tag(fake: Fake) -> None:
    assert main(["--dataset", "d", "--tag", "strong"]) == 0
    assert main(["--tag", "elsewhere"]) == 0
    assert fake.started == [["strong_seed5"], ["elsewhere_seed5"]]


def test_the_data_set_of_base_counts(fake: Fake) -> None:
    entries = {"Base": {**SETTINGS, "dataset_id": "other"}, "based": {"epochs": 1}, "own": {"dataset_id": "d"}}
    Path("config/model_config/N.yaml").write_text(yaml.dump(entries))
    assert main(["--dataset", "other"]) == 0
    assert fake.started == [["elsewhere_seed5", "based_seed5"]]


def test_equal_entries_are_trained_once_unless_both_are_named(fake: Fake) -> None:
    assert main(["--dataset", "d", "--tag", "weak"]) == 0
    assert main(["--expids", "weak", "weak_again"]) == 0
    assert fake.started == [["weak_seed5"], ["weak_again_seed5"]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--expids", "weka"], "expid 'weka' is not in config; nearest: weak"),
        (["--expids", "weak", "elsewhere"], "weak is on data set d, elsewhere on other; a comparison must have one"),
        (["--expids", "no_auc"], "AUC is missing in metrics of no_auc"),
        (["--expids", "untested"], "untested: test_data is missing in data set no_test; a comparison needs a test set"),
        (["--expids", "weak", "--base", "strong"], "--base strong must be one of the experiments: weak"),
        (["--expids", "weak", "--gpu", "0", "-7"], "--gpu -7: must be -1 for the CPU, or the index of a GPU"),
        (["--dataset", "none"], "config has no experiment with --dataset none"),
        ([], "no experiment to compare"),
        (["--config", "nowhere", "--expids", "weak"], "--config nowhere does not exist"),
    ],
)
def test_bad_input(fake: Fake, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.startswith("error: ") and message in shown.err and shown.err.count("\n") == 1
    assert not Path("comparisons").exists() and fake.started == []


def test_missing_data_ends_it_before_the_first_of_many_runs(fake: Fake, capsys: pytest.CaptureFixture[str]) -> None:
    Path("test.csv").unlink()
    test_bad_input(fake, ["--expids", "weak", "strong"], "test_data: test.csv does not exist; tried ", capsys)


def test_data_next_to_a_configuration_elsewhere(fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    command = ["--config", str(tmp_path / "config"), "--expids", "weak"]
    assert main(command) == 0 and main(command) == 0
    assert fake.started == [["weak_seed5"], []]
    params = load_config(Path("comparisons/d/comparison_d"), "weak_seed5").params
    assert params["train_data"] == str(tmp_path / "train.csv")


def test_what_the_runs_cannot_write_ends_it_before_they_start(fake: Fake, capsys: pytest.CaptureFixture[str]) -> None:
    Path("comparison_d.csv").mkdir()
    test_bad_input(
        fake, ["--expids", "weak"], "cannot write comparison_d.csv: it already exists and is not a file", capsys
    )


def test_nothing_finished(fake: Fake, capsys: pytest.CaptureFixture[str]) -> None:
    fake.broken = {"weak_seed5"}
    assert main(["--expids", "weak"]) == 2
    assert "no run of weak, the base, has finished" in capsys.readouterr().err


def test_models_without_a_checkout(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_code:
        main(["--expids", "weak", "--zoo-models", "DIN"])
    assert exit_code.value.code == 2 and "--zoo-models needs --zoo" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--seeds", "--workers"])
def test_numbers_below_one(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_code:
        main(["--expids", "weak", option, "0"])
    assert exit_code.value.code == 2 and f"{option}: 0 must be a whole number, 1 or more" in capsys.readouterr().err


@pytest.mark.usefixtures("sample")
def test_real_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--expids", "DIEN_amazon_GRU", "DIEN_amazon", "--workers", "2"]) == 0
    assert "| DIEN_amazon_GRU" in capsys.readouterr().out
    assert len(json.loads(Path("comparisons/amazon/results.json").read_text())["runs"]) == 2
    assert Path("comparison_amazon.csv").read_text().count("[exp_id]") == 2 and not Path("config.csv").exists()


def test_models_of_a_checkout(fake: Fake, checkout: Path) -> None:
    command = ["--expids", "weak", "pooled", "--zoo", "FuxiCTR", "--zoo-models", "Mean", "DIN", "--seeds", "2"]
    assert main(command) == 0
    names = ("weak", "pooled", "zoo_Mean_d", "zoo_DIN_d")
    assert fake.started == [[f"{name}_seed{seed}" for seed in (5, 6) for name in names]]
    runs = json.loads(Path("comparisons/d/results.json").read_text())["runs"]
    config = runs["zoo_DIN_d"][1]["config"]
    assert config["zoo"] == repr(str(checkout)) and config["batch_size"] == "8" and config["depth"] == "9"
    assert main(command) == 0 and fake.started[1:] == [[]]
    checkout.rename("elsewhere")
    command[command.index("FuxiCTR")] = "elsewhere"
    fake.broken = {"zoo_Mean_d_seed5"}
    assert main([*command[:7], "--seeds", "1"]) == 1  # a run with another checkout does not count
    assert fake.started[2] == ["zoo_Mean_d_seed5"]


def test_an_experiment_whose_model_only_the_checkout_has(fake: Fake, checkout: Path) -> None:
    Path("config/model_config/N.yaml").write_text(yaml.dump({"zoo_Mean_d": {**SETTINGS, "model": "Mean", "depth": 4}}))
    command = ["--expids", "weak", "zoo_Mean_d", "--zoo", "FuxiCTR"]
    assert main(command) == 0
    runs = json.loads(Path("comparisons/d/results.json").read_text())["runs"]
    assert runs["zoo_Mean_d"][0]["config"]["zoo"] == repr(str(checkout)) and "zoo" not in runs["weak"][0]["config"]
    assert main([*command, "--zoo-models", "Mean"]) == 0 and fake.started[1] == []  # the user's entry


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--zoo", "nowhere", "--zoo-models", "DIN"], "FuxiCTR checkout nowhere does not exist"),
        (
            ["--zoo", "config", "--zoo-models", "DIN"],
            "config is not a FuxiCTR checkout: its model_zoo/ has no model",
        ),
        (["--zoo", "FuxiCTR", "--zoo-models", "DIN", "Meen"], "FuxiCTR has no model 'Meen'; nearest: Mean"),
        (["--zoo", "FuxiCTR", "--zoo-models", "Needy"], "model 'Needy' cannot be imported"),
        (["--zoo", "FuxiCTR", "--zoo-models", "Needy"], "ModuleNotFoundError: No module named 'no_such_package'"),
        (["--zoo", "FuxiCTR", "--zoo-models", "Tasks"], "model 'Tasks' of"),
        (["--zoo", "FuxiCTR", "--expids", "odd"], "FuxiCTR has no model 'Men'; nearest: Mean"),
        (["--expids", "gone"], "FuxiCTR checkout nowhere does not exist"),
    ],
)
def test_bad_checkouts_and_models(
    fake: Fake, checkout: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    entries = {"odd": {**SETTINGS, "model": "Men"}, "gone": {**SETTINGS, "zoo": "nowhere"}}
    Path("config/model_config/N.yaml").write_text(yaml.dump(entries))
    test_bad_input(fake, ["--expids", "weak", *arguments], message, capsys)


@pytest.mark.parametrize("out", ["config", "config/model_config", "config/new"])
def test_results_do_not_go_among_configurations(fake: Fake, capsys: pytest.CaptureFixture[str], out: str) -> None:
    assert main(["--expids", "weak", "strong", "--out", out]) == 2
    assert capsys.readouterr().err == f"error: --out {out} lies in --config = config; name a path elsewhere\n"
    assert not fake.started and not Path("config/model_config.yaml").exists()
