"""Only one process trains an experiment; readers of its checkpoint do not wait."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dien_fuxictr import open_experiment
from dien_fuxictr.common.errors import TrainingError
from dien_fuxictr.common.lock import held
from dien_fuxictr.experiment.training.observer import Observer

ROOT = Path(__file__).parents[3]
HOLDER = """
import sys
from pathlib import Path
from dien_fuxictr.common.lock import held
with held(Path(sys.argv[1]), "expid Tiny_test"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(workspace):
    """Another process that trains the experiment, as far as its lock tells."""
    lock = workspace.file(".lock").with_name(".Tiny_test.lock")
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(lock)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout and process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.communicate()


def test_the_second_training_is_one_line_and_changes_nothing(workspace, holder, bad):
    line = bad()
    assert f"expid Tiny_test is in use by process {holder.pid} on " in line and ".Tiny_test.lock" in line
    assert not workspace.file(".model").exists() and not workspace.file(".log").exists()


def test_readers_do_not_wait(workspace, capsys):
    workspace.use_csv()
    assert workspace.run() == 0
    with held(workspace.file(".lock").with_name(".Tiny_test.lock"), "expid Tiny_test"):
        assert workspace.run("--eval-only") == 0
        assert workspace.run("--predict", "test.csv") == 0


def test_a_killed_trainings_lock_is_free(workspace, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert workspace.run() == 0
    assert workspace.run() == 0  # the file of an ended training is allowed too


class Overwrites(Observer):
    """Replace the best weights by another run's weights."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def step(self, *_) -> None:
        pass

    def evaluation(self, *_) -> None:
        self.file.write_bytes(self.file.read_bytes() + b"\0")

    def close(self) -> None:
        pass


def test_overwritten_weights_are_not_taken_for_this_runs(workspace):
    run = open_experiment("Tiny_test", overrides={"epochs": 1})
    with pytest.raises(TrainingError, match=r"Tiny_test.model has been overwritten: it does not hold the best weights"):
        run.fit(observers=[Overwrites(run.checkpoint)])
