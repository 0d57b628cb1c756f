"""A tuner file of several experiments: each is an independent sweep."""

from pathlib import Path

import pytest

from dien_fuxictr.studies.runs.run import load_runs
from dien_fuxictr.studies.sweep.cli import main
from dien_fuxictr.studies.sweep.grid import read_tuner, read_tuners
from dien_fuxictr.studies.sweep.tpe import TpeSweep

SPACE = {"embedding_dim": [2, 3]}
OWN = {"Tiny_test": {}, "Tiny_wide": {"net_dropout": [0, 0.5], "embedding_dim": [4, 7]}}


@pytest.fixture
def file(write_tuner, workspace) -> Path:
    workspace.write_configs({"Tiny_test": {"epochs": 1}, "Tiny_wide": {"epochs": 2}})
    return write_tuner(SPACE, base_expid=OWN)


def ran() -> list[str]:
    return [line.split()[0] for line in Path("ran.txt").read_text().splitlines()]


def test_grids_run_in_turn_and_list_their_best(file, fast, capsys):
    assert main(["--config", str(file), "--workers", "2"]) == 0
    assert [expid[: expid.index("_0")] for expid in ran()] == ["Tiny_test"] * 2 + ["Tiny_wide"] * 4
    found = {(run.params["embedding_dim"], run.params["net_dropout"]) for run in load_runs(Path("tuner/Tiny_wide"))}
    assert found == {(4, 0), (4, 0.5), (7, 0), (7, 0.5)}
    best, tiny, other = capsys.readouterr().out.splitlines()[-3:]
    assert best == "best by validation:"
    assert tiny.startswith("  Tiny_test: AUC 0.030000 (Tiny_test_002_") and tiny.endswith("), embedding_dim = 3")
    assert other.startswith("  Tiny_wide: AUC 0.070000 (Tiny_wide_") and ", embedding_dim = 7, net_dropout = 0" in other
    assert Path("Tiny_test_leaderboard.csv").is_file() and Path("Tiny_wide_leaderboard.csv").is_file()
    assert main(["--config", str(file)]) == 0 and len(ran()) == 6


def test_search_of_each_continues_that_of_its_own_file(file, write_tuner, fast, capsys):
    alone = write_tuner({**SPACE, **OWN["Tiny_wide"]}, "tuner/Tiny_wide.yaml", base_expid="Tiny_wide")
    command = ["--search", "tpe", "--gpu", "-1"]
    assert main(["--config", str(alone), *command, "--trials", "2"]) == 0
    assert TpeSweep(read_tuner(alone), 1).study.study_name == TpeSweep(read_tuners(file)[1], 1).study.study_name
    assert main(["--config", str(file), *command, "--trials", "3"]) == 0
    assert [expid[: expid.index("_0")] for expid in ran()] == ["Tiny_wide"] * 2 + ["Tiny_test"] * 3 + ["Tiny_wide"]
    out = capsys.readouterr().out
    assert "2 trials (2 finished) so far (tuner/Tiny_wide/study.journal)" in out
    assert [line.split(":")[0] for line in out.splitlines()[-2:]] == ["  Tiny_test", "  Tiny_wide"]


def test_some_of_them(file, fast, capsys):
    assert main(["--config", str(file), "--expids", "Tiny_wide"]) == 0
    assert {expid[:9] for expid in ran()} == {"Tiny_wide"} and not Path("tuner/Tiny_test").exists()
    assert main(["--config", str(file), "--expids", "Tiny_wider"]) == 2
    assert (
        "--expids Tiny_wider is unknown; base_expid of tuner.yaml has Tiny_test, Tiny_wide" in capsys.readouterr().err
    )


def test_a_failed_run_of_the_first_does_not_stop_the_second(write_tuner, workspace, fast, capsys):
    workspace.write_configs({"Tiny_test": {"epochs": 1}, "Tiny_wide": {"epochs": 2}})
    file = write_tuner(SPACE, base_expid={"Tiny_test": {"learning_rate": [9]}, "Tiny_wide": {}})
    assert main(["--config", str(file)]) == 1
    assert len(ran()) == 4 and capsys.readouterr().out.splitlines()[-2].startswith("  Tiny_test: no run in ")


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"Tiny_test": {}, "Tiny_wid": {}}, "expid 'Tiny_wid' is not in"),
        ({"Tiny_test": {}, "Tiny_wide": [1]}, "Tiny_wide in tuner.yaml must map keys to values, but is [1]"),
        ({"Tiny_test": {}, "Tiny_wide": {"drop": [1]}}, "unknown key 'drop' in tuner_space of tuner.yaml"),
        ({"Tiny_test": {}, "Tiny_wide": {"net_dropout": ["much"]}}, "net_dropout = 'much' in"),
        ({}, "base_expid in tuner.yaml must name an experiment"),
        (["Tiny_test"], "base_expid = ['Tiny_test'] in tuner.yaml must be text or a mapping"),
    ],
)
def test_bad_input_starts_no_sweep(write_tuner, workspace, fast, capsys, own, message):
    workspace.write_configs({"Tiny_test": {"epochs": 1}, "Tiny_wide": {"epochs": 2}})
    assert main(["--config", str(write_tuner(SPACE, base_expid=own))]) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1 and not Path("ran.txt").exists()
