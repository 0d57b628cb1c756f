"""`--storage`: a study in a database, shared by commands on several disks."""

import shutil
import sys
from pathlib import Path

import pytest
from optuna.trial import TrialState

from dien_fuxictr.studies.sweep.cli import main
from dien_fuxictr.studies.sweep.grid import read_tuner
from dien_fuxictr.studies.sweep.tpe import TpeSweep

SPACE = {"embedding_dim": {"low": 2, "high": 90}}


def search(file: Path, storage: str, trials: int) -> int:
    return main(["--config", str(file), "--search", "tpe", "--trials", str(trials), "--storage", storage])


def ran() -> int:
    return len(Path("ran.txt").read_text().splitlines()) if Path("ran.txt").exists() else 0


def test_two_disks_share_a_study(write_tuner, fast, tmp_path, monkeypatch, capsys):
    storage = f"sqlite:///{tmp_path}/study.db"
    file = write_tuner(SPACE)
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
        shutil.copytree("config", folder / "config")
        shutil.copy(file, folder)
    monkeypatch.chdir(first)
    assert search(file, storage, 2) == 0 and ran() == 2
    assert not Path("tuner/study.journal").exists()
    study = TpeSweep(read_tuner(file), 1, storage).study
    interrupted = TpeSweep(read_tuner(file), 3, storage)._claim()
    assert interrupted
    interrupted[1].release()

    monkeypatch.chdir(second)
    capsys.readouterr()
    assert search(file, storage, 5) == 0 and ran() == 2
    said = capsys.readouterr().out
    assert f"3 trials (2 finished, 1 not over) so far ({storage})" in said and "_002_" not in said
    assert study.get_trials()[2].state == TrialState.RUNNING
    assert search(file, storage, 5) == 0 and ran() == 2

    monkeypatch.chdir(first)
    assert search(file, storage, 5) == 0 and ran() == 3
    trials = study.get_trials()
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 5
    assert trials[2].user_attrs["disk"] == trials[0].user_attrs["disk"] != trials[3].user_attrs["disk"]


def test_a_database_proposes_what_a_journal_does(write_tuner, fast, tmp_path):
    for name, more in (("a", []), ("b", ["--storage", f"sqlite:///{tmp_path}/study.db"])):
        file = write_tuner(SPACE, f"{name}.yaml")
        assert main(["--config", str(file), "--search", "tpe", "--trials", "7", *more]) == 0
    assert Path("a_leaderboard.csv").read_text() == Path("b_leaderboard.csv").read_text()


@pytest.mark.parametrize(
    ("storage", "message"),
    [
        ("sqlite:////dev/null/study.db", "sqlite:////dev/null/study.db is not readable as a study: "),
        ("study.db", "--storage must be the URL of a database, sqlite:///FILE or postgresql://HOST/NAME"),
        ("postgresql://me:secret@127.0.0.1:9/x", "--storage postgresql://me:***@127.0.0.1:9/x needs a package of its "),
    ],
)
def test_a_database_that_is_not_there(write_tuner, fast, capsys, monkeypatch, storage, message):
    monkeypatch.setitem(sys.modules, "psycopg2", None)
    assert search(write_tuner(SPACE), storage, 1) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}") and error.count("\n") == 1 and "secret" not in error


def test_a_grid_has_no_study(write_tuner, capsys):
    with pytest.raises(SystemExit):
        main(["--config", str(write_tuner(SPACE)), "--storage", "sqlite:///study.db"])
    assert "--storage needs --search tpe" in capsys.readouterr().err
