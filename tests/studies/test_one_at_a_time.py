"""Two sweeps of one folder, or two comparisons, would start the same runs twice."""

from pathlib import Path

import pytest

from dien_fuxictr.common.lock import held
from dien_fuxictr.studies.comparison.cli import main as compare
from dien_fuxictr.studies.sweep.cli import main as sweep


@pytest.mark.parametrize("study", ["sweep", "comparison"])
def test_the_second_one_is_one_line(study, workspace, write_tuner, fast, capsys):
    file = write_tuner({"embedding_dim": [60]})
    folder, run, arguments = {
        "sweep": (Path("tuner"), sweep, ["--config", str(file)]),
        "comparison": (Path("out"), compare, ["--expids", "Tiny_test", "--out", "out"]),
    }[study]
    with held(folder / ".lock", "it"):
        assert run(arguments) == 2
    error = capsys.readouterr().err
    assert error.splitlines()[-1].startswith(f"error: {study} {folder} is in use by process ")
    assert error.count("error: ") == 1
    assert not Path("ran.txt").exists()
