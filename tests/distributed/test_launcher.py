"""`--workers` and torchrun for users: single output, and survival of a kill."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from made_workers import as_torchrun, signalled, together

from dien_fuxictr import Experiment
from dien_fuxictr.experiment.configuration.config import load_config

ROOT = Path(__file__).parents[2]
TIMEOUT = 600
SETTINGS = {"epochs": 3, "eval_steps": 2, "early_stop_patience": 99}


def start(workspace, *arguments: str) -> subprocess.Popen:
    path = os.pathsep.join([str(workspace.folder), str(ROOT)])
    return subprocess.Popen(
        [sys.executable, str(ROOT / "run_expid.py"), "--expid", "X", *arguments],
        cwd=workspace.folder,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(process: subprocess.Popen) -> tuple[int, str]:
    """Return the exit code and the output; a hang fails."""
    try:
        out, error = process.communicate(timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        pytest.fail("it hangs")
    return process.returncode, out + error


def workers_of(process: subprocess.Popen) -> list[int]:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(pid) for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def undisturbed(workspace, tmp_path) -> dict[str, torch.Tensor]:
    """Return the weights that two undisturbed processes train."""

    def train(workers) -> dict[str, torch.Tensor]:
        experiment = Experiment(load_config(Path("config"), "Y"), group=workers)
        experiment.fit()
        return experiment.model.state_dict()

    return together(2, tmp_path, train)[0]


@pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")
def test_a_killed_worker_does_not_matter(workspace, tmp_path):
    workspace.write_configs({"X": {**SETTINGS, "fault": "slow"}, "Y": SETTINGS})
    whole = undisturbed(workspace, tmp_path)
    state = workspace.file(".resume", "X")
    process = start(workspace, "--workers", "2")
    written, last = set(), random.randint(1, 5)  # of ten states
    while len(written) < last:
        assert process.poll() is None, end(process)
        if state.exists():
            written.add(state.stat().st_mtime_ns)
        time.sleep(0.01)
    os.kill(random.choice(workers_of(process)), signal.SIGKILL)
    code, said = end(process)
    assert code == 0, said
    assert "  resumed   in epoch" in said and "unexpected" not in said
    killed = torch.load(workspace.file(".model", "X"), weights_only=True)
    assert killed.keys() == whole.keys() and all(torch.equal(killed[name], whole[name]) for name in whole)
    assert len((workspace.folder / "config.csv").read_text().splitlines()) == 1
    log = workspace.file(".log", "X").read_text()
    assert log.count("Load best model") == 1 and log.count("Test evaluation") == 1


def test_torchruns_workers_write_and_speak_once(workspace, tmp_path, capfd):
    """Train and evaluate in forks with torchrun's environment, like one process."""
    workspace.write_configs({"X": {**SETTINGS, "epochs": 1}})

    def run(*arguments: str) -> list[str]:
        """Return the metrics in the output."""
        assert as_torchrun(2, tmp_path, lambda: workspace.run("--verbose", *arguments, expid="X")) == [0, 0]
        return metrics()

    def metrics() -> list[str]:
        said = capfd.readouterr().err
        return [line.split("INFO ")[1] for line in said.splitlines() if "[Metrics]" in line]

    trained = run("--tensorboard", "--report", "report")
    files = sorted(path.name for path in workspace.file(".model").parent.iterdir() if path.name[0] != ".")
    assert files == ["X.log", "X.model", "X.resume", "X.tensorboard"]
    assert len(list(workspace.file(".tensorboard", "X").rglob("events*"))) == 1
    assert len((workspace.folder / "config.csv").read_text().splitlines()) == 1
    assert workspace.file(".log", "X").read_text().count("Training finished") == 1
    assert workspace.run("--verbose", "--eval-only", expid="X") == 0
    assert metrics() == trained[-2:] == run("--eval-only")


def test_a_signal_to_one_worker_ends_all_after_the_same_step(workspace, tmp_path, capfd):
    workspace.write_configs({"X": SETTINGS})
    assert signalled(workspace, tmp_path) == [143, 143]
    assert capfd.readouterr().err.endswith("error: interrupted; the state is saved, --resume continues it\n")
    assert torch.load(workspace.file(".resume", "X"), weights_only=True)["progress"]["batches_done"] == 1


def test_what_all_workers_refuse_is_said_once(workspace, tmp_path, capfd):
    workspace.write_configs({"X": {"epochs": "many"}})
    assert as_torchrun(2, tmp_path, lambda: workspace.run(expid="X")) == [2, 2]
    assert capfd.readouterr().err.count("error:") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--workers", "0"], "error: --workers 0 must be 1 or more"),
        (["--workers", "3", "--gpu", "0"], "3 processes from --gpu 0 on need a GPU each, but there are 2"),
    ],
)
def test_bad_numbers_of_workers_are_refused(bad, monkeypatch, arguments, said):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert said in bad(*arguments)


def test_workers_of_torchrun_are_counted_by_torchrun(bad, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    assert "--workers 2 cannot be combined with torchrun" in bad("--workers", "2")
