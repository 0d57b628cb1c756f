"""`--search tpe`: proposals, pruning, memory and refusals, without training."""

import csv
import re
import shutil
import signal
import sys
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from dien_fuxictr.studies.runs.run import load_runs
from dien_fuxictr.studies.sweep.cli import main
from dien_fuxictr.studies.sweep.grid import read_tuner
from dien_fuxictr.studies.sweep.tpe import TpeSweep

SPACE = {"embedding_dim": {"low": 2, "high": 90}}
# Before the stand-in scores, trial 2 interrupts the sweep, once.
INTERRUPT = """
import os, pathlib, signal, sys, time
def interrupt():
    if "_002_" in sys.argv[4] and not os.path.exists("interrupted"):
        pathlib.Path("interrupted").touch()
        os.kill(os.getppid(), signal.SIGINT)
        for _ in range(60_000):
            time.sleep(.01)
"""
# Evaluations as a run writes them, except the last; trial 3 is bad, and would continue after the second.
EVALUATIONS = """
import json, os, sys, time
bad = "_003_" in sys.argv[4]
os.makedirs(sys.argv[6])
with open(sys.argv[6] + "/curve.jsonl", "a") as curve:
    for epoch in (1, 2):
        curve.write(json.dumps({"step": epoch, "epoch": epoch, "monitor": .1 if bad else .5}) + "\\n")
for _ in range(60_000 * bad):
    time.sleep(.01)
"""


def search(file: Path, trials: int, *arguments: str) -> int:
    return main(["--config", str(file), "--search", "tpe", "--trials", str(trials), *arguments])


def ran() -> list[str]:
    return Path("ran.txt").read_text().splitlines() if Path("ran.txt").exists() else []


def study(file: Path) -> optuna.Study:
    return TpeSweep(read_tuner(file), 1).study


def test_search_and_what_a_second_call_does(write_tuner, fast, capsys):
    file = write_tuner(
        {
            **SPACE,
            "learning_rate": {"low": 1e-4, "high": 1e-1, "log": True},
            "net_dropout": 0.1,
            "hidden_units": [[4], [8, 4]],
        }
    )
    assert search(file, 4, "--workers", "2") == 0
    out, err = capsys.readouterr()
    assert "0 trials so far (tuner/study.journal)" in out and "4 trials (4 finished)\n" in out and "4/4" in err
    with open("tuner_leaderboard.csv", newline="") as table:
        rows = list(csv.DictReader(table))
    assert sorted(row["expid"][:13] for row in rows) == [f"Tiny_test_{i:03d}" for i in range(4)]
    dims = [int(row["embedding_dim"]) for row in rows]
    assert dims == sorted(dims, reverse=True) and dims[-1] >= 2 and dims[0] <= 90
    assert all(1e-4 <= float(row["learning_rate"]) <= 1e-1 for row in rows)
    assert {row["hidden_units"] for row in rows} <= {"[4]", "[8, 4]"}
    for picture in ("tuner/history.png", "tuner/importance.png"):
        assert out.splitlines().count(picture) == 1 and Path(picture).stat().st_size > 1000

    assert search(file, 4) == 0
    assert "4 trials (4 finished) so far" in capsys.readouterr().out and len(ran()) == 4
    assert search(file, 5) == 0 and len(ran()) == 5


def test_another_space_is_another_study(write_tuner, fast):
    assert search(write_tuner(SPACE), 2) == 0
    assert main(["--config", str(write_tuner({"embedding_dim": [3]}))]) == 0
    assert search(write_tuner({"embedding_dim": {"low": 2, "high": 80}}), 2) == 0
    assert len(ran()) == 4, "both begin with the experiment as it is, one run"


def test_the_first_trial_is_the_experiment_as_it_is(write_tuner, fast):
    """Start with the experiment's values within the space, and draw the others."""
    rates = {"low": 0.25, "high": 0.5}
    file = write_tuner({**SPACE, "net_dropout": rates, "learning_rate": [1e-3, 1e-2], "epochs": [3]})
    own = read_tuner(file).base.params
    assert search(file, 2) == 0
    first, second = study(file).trials
    assert {key: first.params[key] == own[key] for key in first.params} == {
        "embedding_dim": True,
        "learning_rate": True,
        "net_dropout": False,
    }
    assert 0.25 <= first.params["net_dropout"] <= 0.5 and second.params != first.params


def test_own_values_of_searched_keys_keep_the_study(write_tuner):
    """Keep the study when the best values become the experiment's."""
    file = write_tuner(SPACE)
    tuner = read_tuner(file)
    name = TpeSweep(tuner, 1).study.study_name
    for key, same in (("embedding_dim", True), ("epochs", False)):
        tuner.base.params[key] += 1
        assert (TpeSweep(tuner, 1).study.study_name == name) == same


def test_journal_alone_is_continued(write_tuner, fast, capsys):
    """It may come from elsewhere, without the files of its runs."""
    file = write_tuner({**SPACE, "hidden_units": [[4], [8, 4]]})
    assert search(file, 2) == 0
    expids = {run.expid for run in load_runs(file.with_suffix(""))}
    journal = (file.with_suffix("") / "study.journal").read_bytes()
    shutil.rmtree(file.with_suffix(""))
    file.with_suffix("").mkdir()
    (file.with_suffix("") / "study.journal").write_bytes(journal)
    assert search(file, 3) == 0 and len(ran()) == 3
    assert "2 trials (2 finished) so far" in capsys.readouterr().out
    assert expids < {run.expid for run in load_runs(file.with_suffix(""))}


def test_min_monitor(write_tuner, fast, capsys):
    file = write_tuner({**SPACE, "monitor_mode": "min"})
    assert search(file, 3) == 0
    dims = re.findall(r"^\d +Tiny_test_\d+_\w+ +(\d+)", capsys.readouterr().out, re.MULTILINE)
    assert len(dims) == 3 and sorted(dims, key=int) == dims
    assert study(file).best_value == int(dims[0]) / 100


def test_pruned(write_tuner, script, fast, capsys, monkeypatch):
    monkeypatch.setattr("dien_fuxictr.studies.sweep.tpe.RANDOM_TRIALS", 3)
    script(EVALUATIONS + fast.read_text())
    file = write_tuner(SPACE)
    assert search(file, 4, "--workers", "2") == 0
    out, err = capsys.readouterr()
    assert "4 trials (3 finished, 1 pruned)" in out and "failed" not in err and "Tiny_test_003" not in out
    trials = study(file).trials
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 3 + [TrialState.PRUNED]
    assert [trial.intermediate_values for trial in trials] == [
        *({1: 0.5, 2: 0.5, 3: trial.value} for trial in trials[:3]),
        {1: 0.1, 2: 0.1},
    ]
    assert search(file, 4) == 0 and "4 trials (3 finished, 1 pruned) so far" in capsys.readouterr().out


@pytest.mark.parametrize("finished", [False, True], ids=["in training", "before the study was told"])
def test_interrupted_search_equals_an_uninterrupted_one(
    write_tuner, script, fast, interrupted, capsys, monkeypatch, finished
):
    monkeypatch.setattr("dien_fuxictr.studies.sweep.tpe.RANDOM_TRIALS", 2)
    whole, file = fast.read_text(), write_tuner(SPACE)
    script(INTERRUPT + (whole + "\ninterrupt()" if finished else "interrupt()\n" + whole))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert search(file, 4) == 130
    finally:
        signal.signal(signal.SIGINT, before)
    trials = study(file).trials
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 2 + [TrialState.RUNNING]
    interrupted(load_runs(Path("tuner"), trials[2].user_attrs["expid"])[0])
    assert search(file, 4) == 0
    assert "3 trials (2 finished, 1 not over) so far" in capsys.readouterr().out
    lines = ran()
    assert len(lines) == 4 and (" --resume " in lines[2]) == (not finished)
    resumed = [trial.user_attrs["expid"] for trial in study(file).trials]

    for path in [*Path("tuner").rglob("*"), Path("tuner.csv"), Path("ran.txt")]:
        if path.is_file():
            path.unlink()
    assert search(file, 4) == 0
    assert [line.split()[0] for line in ran()] == resumed


def test_trial_of_another_process_is_left_to_it(write_tuner, fast, capsys):
    file = write_tuner(SPACE)
    claimed = TpeSweep(read_tuner(file), 2)._claim()
    assert claimed
    assert search(file, 2) == 0
    assert "2 trials (1 finished, 1 not over)" in capsys.readouterr().out and len(ran()) == 1
    claimed[1].release()
    assert search(file, 2) == 0 and len(ran()) == 2


def test_failed_trial_is_reported_and_replaced_by_the_next_call(write_tuner, script, fast, capsys):
    whole = fast.read_text()
    script("import sys\nif '_001_' in sys.argv[4]: sys.exit('error: it cannot learn')\n" + whole)
    file = write_tuner(SPACE)
    assert search(file, 3) == 1
    out, err = capsys.readouterr()
    assert "3 trials (2 finished, 1 failed)" in out and "\n    error: it cannot learn\n" in err
    assert re.fullmatch(r"error: 1 of 3 runs failed: Tiny_test_001_\w+", err.splitlines()[-1])
    assert search(file, 3) == 0 and "4 trials (3 finished, 1 failed)" in capsys.readouterr().out


BAD = [
    ({"embedding_dim": [1], "net_dropout": 0.1}, "tuner.yaml: nothing in tuner_space varies; --search needs a list or"),
    ({**SPACE, "monitor_mode": ["min", "max"]}, "monitor_mode in tuner_space must be one value"),
    ({**SPACE, "monitor": "MRR"}, "MRR is missing in metrics of Tiny_test"),
    ({"batch_size": {"low": 0, "high": 9}}, "batch_size = 0 in tuner_space of tuner.yaml must be a whole number"),
    (
        {"learning_rate": {"low": 0, "high": 1, "log": True}},
        "learning_rate in tuner_space is not a valid range, log needs",
    ),
    ({"embeding_dim": {"low": 1, "high": 9}}, "did you mean 'embedding_dim'?"),
]


@pytest.mark.parametrize(("space", "message"), BAD, ids=[message for _, message in BAD])
def test_bad_input_is_one_line(write_tuner, fast, capsys, space, message):
    assert search(write_tuner(space), 2) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1 and message in err and not ran()


def test_folder_instead_of_a_tuner_file(workspace, capsys):
    assert search(Path("config"), 2) == 2
    assert "--search tpe needs a tuner file, but --config config is a folder" in capsys.readouterr().err


def test_broken_study(write_tuner, fast, capsys):
    file = write_tuner(SPACE)
    Path("tuner").mkdir()
    Path("tuner/study.journal").write_text("{broken\n{}\n")
    assert search(file, 2) == 2
    assert "error: tuner/study.journal is not readable as a study" in capsys.readouterr().err


def test_without_optuna(write_tuner, monkeypatch, capsys):
    for name in [name for name in sys.modules if name.split(".")[0] == "optuna"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "dien_fuxictr.studies.sweep.tpe", raising=False)
    assert search(write_tuner(SPACE), 2) == 2
    assert capsys.readouterr().err == (
        "error: --search tpe needs a package that is not installed: pip install optuna\n"
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["--search", "tpe", "--tag", "1"],
        ["--trials", "2"],
        ["--search", "random"],
        ["--search", "tpe", "--trials", "0"],
    ],
)
def test_wrong_command_line(capsys, arguments):
    with pytest.raises(SystemExit) as error:
        main(["--config", "tuner.yaml", *arguments])
    assert error.value.code == 2 and "usage: run_param_tuner.py" in capsys.readouterr().err
