"""`run_param_tuner.py`: what it runs, skips, reports and leaves."""

import csv
import json
import re
import shutil
import tracemalloc
from pathlib import Path

import pytest
import torch
import yaml

from dien_fuxictr.dataset.samples.build_options import RAW_FILES
from dien_fuxictr.experiment.report import read_curve
from dien_fuxictr.studies.runs.run import load_runs
from dien_fuxictr.studies.sweep.cli import main
from dien_fuxictr.studies.sweep.grid import read_tuners

ROOT = Path(__file__).parents[3]


def ran() -> list[str]:
    return Path("ran.txt").read_text().splitlines() if Path("ran.txt").exists() else []


def order(text: str) -> list[str]:
    return re.findall(r"^\d+ +Tiny_test_(\d+)", text, re.MULTILINE)


def test_sweep_with_real_runs_in_a_folder_with_blanks(workspace, write_tuner, monkeypatch, capsys):
    """Two workers on one build; one run fails."""
    workspace.use_csv()
    monkeypatch.setenv("PYTHONPATH", str(workspace.folder))
    file = write_tuner({"fault": [None, "value"], "epochs": 1}, path="my sweeps/a tuner.yaml")
    assert main(["--config", str(file), "--workers", "2", "--tag", "_00"]) == 1
    out, err = capsys.readouterr()
    assert order(out) == ["001"] and "1 of 2 runs failed" in err.splitlines()[-1]
    assert "Tiny_test_002" in err and "fault must not be 'value'" in err and "exit code 2" in err
    assert [path.name for path in Path("built").iterdir() if not path.name.startswith(".")] == ["tiny"]
    logs = [path.read_text() for path in Path("my sweeps/a tuner/logs").iterdir()]
    assert sum("\n  building  built/tiny\n" in text for text in logs) == 1 and len(logs) == 2
    (run,) = [run for run in load_runs(Path("my sweeps/a tuner")) if run.result]
    assert [point["epoch"] for point in read_curve(run.curve)] == [1] and f"{run.expid}: epoch 1/1, AUC 0." in err
    line = Path("a tuner.csv").read_text()
    assert ",[command] python -m dien_fuxictr.experiment --config my sweeps/a tuner --expid" in line
    assert f",[exp_id] {run.expid},[dataset_id] tiny,[train] N.A.,[val] AUC: " in line


def test_a_data_set_without_test_data(workspace, write_tuner, monkeypatch, capsys):
    workspace.write_configs({"Tiny_test": {"epochs": 1}}, {"test_data": None})
    monkeypatch.setenv("PYTHONPATH", str(workspace.folder))
    assert main(["--config", str(write_tuner({"embedding_dim": [2]}))]) == 0
    out = capsys.readouterr().out
    assert order(out) == ["001"] and "val AUC" in out and "test" not in out.split("\n", 1)[1].replace("Tiny_test", "")


def test_leaderboard_and_what_a_second_call_does(write_tuner, fast, capsys):
    file = write_tuner({"embedding_dim": [60, 80, 70]})
    assert main(["--config", str(file)]) == 0
    out, err = capsys.readouterr()
    assert order(out) == ["002", "003", "001"] and "3/3" in err
    with open("tuner_leaderboard.csv", newline="") as table:
        assert [row["embedding_dim"] for row in csv.DictReader(table)] == ["80", "70", "60"]
    assert main(["--config", str(file)]) == 0
    out = capsys.readouterr().out
    assert "3 runs, 3 finished already (tuner/runs); logs in tuner/logs\n" in out and order(out) == [
        "002",
        "003",
        "001",
    ]
    assert len(ran()) == 3

    write_tuner({"embedding_dim": [60, 80, 90]})
    assert main(["--config", str(file)]) == 0
    assert order(capsys.readouterr().out) == ["003", "002", "001"]
    assert [line.split()[0][:-9] for line in ran()] == [f"Tiny_test_{i:03d}" for i in (1, 2, 3, 3)]


def test_min_monitor(write_tuner, fast, capsys):
    assert main(["--config", str(write_tuner({"embedding_dim": [60, 80], "monitor_mode": "min"}))]) == 0
    assert order(capsys.readouterr().out) == ["001", "002"]


def test_a_failed_run_is_reported_and_tried_again(write_tuner, fast, capsys):
    file = write_tuner({"learning_rate": [9, 1, 2]})
    for runs_so_far in (3, 4):
        assert main(["--config", str(file)]) == 1
        out, err = capsys.readouterr()
        assert len(order(out)) == 2 and len(ran()) == runs_so_far
        (expid,) = re.findall(r"failed: (Tiny_test_001_\w+), exit code 1; the end of tuner/logs/Tiny_test_001", err)
        assert "\n    100%|###|\n    error: it cannot learn\n" in err
        assert err.splitlines()[-1] == f"error: 1 of 3 runs failed: {expid}"


def test_no_finished_run(write_tuner, script, capsys):
    script("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")
    assert main(["--config", str(write_tuner({"embedding_dim": [1]}))]) == 1
    out, err = capsys.readouterr()
    assert "rank" not in out and "killed by SIGKILL" in err and not Path("tuner_leaderboard.csv").exists()


def test_interrupted_run_is_resumed(write_tuner, fast, interrupted):
    file = write_tuner({"embedding_dim": [1, 2]})
    assert main(["--config", str(file)]) == 0
    run = load_runs(Path("tuner"))[1]
    (run.report / "result.json").unlink()
    interrupted(run)
    assert main(["--config", str(file)]) == 0
    assert ran()[2:] == [f"{run.expid} --allow-untrained --resume --gpu -1"]


def test_run_without_files_is_trained_again(write_tuner, fast, interrupted):
    file = write_tuner({"embedding_dim": [1, 2]})
    assert main(["--config", str(file)]) == 0
    run = load_runs(Path("tuner"))[1]
    interrupted(run)
    shutil.rmtree(run.report)
    assert main(["--config", str(file)]) == 0
    assert ran()[2:] == [f"{run.expid} --allow-untrained --gpu -1"]


def test_interrupt(write_tuner, monkeypatch, capsys):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("dien_fuxictr.studies.sweep.run_sweep.run_with_progress", interrupt)
    assert main(["--config", str(write_tuner({"embedding_dim": [1]}))]) == 130
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: interrupted; the same command")


def test_configuration_folder_with_tag(workspace, fast, capsys):
    workspace.write_configs({"One": {}, "Two": {"embedding_dim": 8}, "Tooth": {"embedding_dim": 9}})
    content = yaml.safe_load(Path("config/model_config.yaml").read_text())
    whole = {expid: {**content["Base"], **entry} for expid, entry in content.items() if expid != "Base"}
    Path("config/model_config.yaml").write_text(yaml.dump(whole))
    assert main(["--config", "config", "--tag", "T"]) == 0
    assert re.findall(r"^\d +(T\w+)", capsys.readouterr().out, re.MULTILINE) == ["Tooth", "Two"]
    whole["Two"]["embedding_dim"] = 7
    Path("config/model_config.yaml").write_text(yaml.dump(whole))
    assert main(["--config", "config", "--tag", "T"]) == 0
    assert [line.split()[0] for line in ran()] == ["Tooth", "Two", "Two"], "one of another configuration does not count"


@pytest.mark.parametrize(
    ("space", "arguments", "message"),
    [
        ({"embedding_dim": [1]}, ["--tag", "009"], "--tag 009 matches no experiment of tuner; there are Tiny_test_001"),
        ({"monitor": "MRR"}, [], "MRR is missing in metrics of Tiny_test"),
        ({"batch_size": [8, 0]}, [], "batch_size = 0 in tuner_space of tuner.yaml must be a whole number, 1 or more"),
        ({"monitor": [["AUC"]]}, [], "monitor = ['AUC'] in tuner_space of tuner.yaml must be a metric"),
        ({"embeding_dim": [1]}, [], "did you mean 'embedding_dim'?"),
    ],
)
def test_bad_input_is_one_line(write_tuner, fast, capsys, space, arguments, message):
    assert main(["--config", str(write_tuner(space)), *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1 and message in err and not ran()


def test_a_wrong_combination_leaves_those_of_an_earlier_sweep(write_tuner, fast):
    assert main(["--config", str(write_tuner({"batch_size": [8]}))]) == 0
    before = {file: file.read_bytes() for file in Path("tuner").glob("*.yaml")}
    assert before and main(["--config", str(write_tuner({"batch_size": [16, 0]}))]) == 2
    assert {file: file.read_bytes() for file in Path("tuner").glob("*.yaml")} == before


@pytest.mark.parametrize("values", [101, 31_623])
def test_a_grid_of_many_combinations_needs_a_yes(write_tuner, fast, capsys, values):
    """Count 10^9 combinations without building them."""
    choices = list(range(1, values + 1))
    file = write_tuner({"embedding_dim": choices, "batch_size": choices})
    tracemalloc.start()
    assert main(["--config", str(file)]) == 2
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    line = f"error: tuner.yaml: tuner_space has {values**2:,} combinations, more than 10,000; --yes trains them all"
    assert capsys.readouterr().err.startswith(line)
    assert not Path("tuner").exists() and peak < 1e9


def test_a_yes_trains_them(write_tuner, fast, monkeypatch):
    monkeypatch.setattr("dien_fuxictr.studies.sweep.cli.MANY", 1)
    file = write_tuner({"embedding_dim": [1, 2]})
    assert main(["--config", str(file)]) == 2
    assert main(["--config", str(file), "--yes"]) == 0 and len(ran()) == 2


@pytest.mark.parametrize("search", ["grid", "tpe"])
@pytest.mark.parametrize("name", ["tuner.csv", "tuner_leaderboard.csv"])
def test_an_unwritable_table_ends_a_sweep_before_it_begins(write_tuner, fast, capsys, name, search):
    Path(name).mkdir()
    assert main(["--config", str(write_tuner({"embedding_dim": [1, 2]})), "--search", search]) == 2
    assert capsys.readouterr().err == f"error: cannot write {name}: it already exists and is not a file\n"
    assert not ran() and not Path("tuner").exists()


def test_an_index_below_that_of_the_cpu(write_tuner, fast, capsys):
    assert main(["--config", str(write_tuner({"embedding_dim": [1]})), "--gpu", "0", "-7"]) == 2
    assert capsys.readouterr().err.startswith("error: --gpu -7: must be -1") and not ran()


def test_untrained_runs_are_marked_and_the_best_one_ends_with_1(write_tuner, fast, capsys):
    command = ["--config", str(write_tuner({"embedding_dim": [60, 80]}))]
    assert main(command) == 0
    capsys.readouterr()
    worse, best = load_runs(Path("tuner"))
    for run, code in ((worse, 0), (best, 1)):
        file = run.report / "result.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), "untrained": "all is dark"}))
        assert main(command) == code
        out, err = capsys.readouterr()
        marked = [line.split()[2] == "yes" for line in out.splitlines() if "Tiny_test_00" in line]
        assert marked == [code == 1, True]
    assert err.endswith(f"error: the best run, {best.expid}, has learnt nothing: all is dark\n")


def test_without_cuda_runs_are_on_the_cpu(write_tuner, fast, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["--config", str(write_tuner({"embedding_dim": [1, 2]})), "--gpu", "0", "3"]) == 0
    assert len(ran()) == 2 and all(line.endswith(" --gpu -1") for line in ran())
    assert capsys.readouterr().err.count("note: --gpu 0 3: no CUDA device is available, all runs are on the CPU\n") == 1


@pytest.mark.parametrize("arguments", [[], ["--config", "x.yaml", "--gpu"], ["--config", "x.yaml", "--gpu", "one"]])
def test_wrong_command_line(capsys, arguments):
    with pytest.raises(SystemExit) as error:
        main(arguments)
    assert error.value.code == 2 and "usage: run_param_tuner.py" in capsys.readouterr().err


def test_help_teaches(capsys):
    with pytest.raises(SystemExit) as error:
        main(["--help"])
    text = capsys.readouterr().out
    assert error.value.code == 0 and "examples:" in text and "exit code:" in text


@pytest.mark.parametrize("search", [[], ["--search", "tpe", "--trials", "3"]], ids=["grid", "tpe"])
def test_missing_data_ends_it_before_the_first_of_many_runs(write_tuner, fast, capsys, search):
    Path("data/tiny/train.npz").unlink()
    write_tuner({"embedding_dim": [1, 2, 3]})
    assert main(["--config", "tuner.yaml", *search]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: train_data: ") and "does not exist; tried" in error and error.count("\n") == 1
    assert ran() == []


TUNER_FILES = [
    file.relative_to(ROOT)
    for folder in ("config/tuner", "research/searches")
    for file in sorted((ROOT / folder).glob("*.yaml"))
]


@pytest.mark.parametrize("file", TUNER_FILES, ids=lambda file: file.name)
def test_embedded_tuner_files(workspace, fast, file):
    """Their grids and searches, without training."""
    shutil.rmtree("config")
    shutil.copytree(ROOT / "config", "config")
    file.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / file, file)
    for tuner in read_tuners(file):
        build = tuner.base.params["build"]
        for raw in (Path(build[name]) for name in RAW_FILES if name in build):
            raw.parent.mkdir(parents=True, exist_ok=True)
            raw.touch()
    few = ["--search", "tpe", "--trials", "1"] if "low:" in file.read_text() else ["--tag", "_001_"]
    assert main(["--config", str(file), *few]) == 0
    assert len(ran()) == len(read_tuners(file))


@pytest.mark.parametrize("search", ["grid", "tpe"])
def test_a_sweep_named_like_a_folder_of_configurations(write_tuner, fast, capsys, search):
    """Refuse a sweep whose folder would be the folder of configurations.

    It would replace them or, with tpe, remove them.
    """
    configuration = Path("config/model_config.yaml").read_bytes()
    file = write_tuner({"embedding_dim": [1, 2]}, path="config.yaml")
    assert main(["--config", str(file), "--search", search]) == 2
    line = "error: config.yaml: the sweep would overwrite config/model_config.yaml, which no sweep wrote: it has Base;"
    assert capsys.readouterr().err.startswith(line) and not ran()
    assert Path("config/model_config.yaml").read_bytes() == configuration


def test_a_study_is_not_written_into_a_checkpoint(write_tuner, fast, capsys):
    Path("X.model").touch()
    file = write_tuner({"embedding_dim": [1, 2]})
    assert main(["--config", str(file), "--search", "tpe", "--storage", "sqlite:///X.model"]) == 2
    assert capsys.readouterr().err == "error: --storage X.model is a checkpoint; name another file\n"
    assert not ran() and Path("X.model").stat().st_size == 0
