"""`--workers` on a Ray cluster: weights of one machine, even after a kill."""

import os
import signal
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from made_cluster import ends_within
from made_workers import together
from ray.exceptions import ActorDiedError

from dien_fuxictr import Experiment
from dien_fuxictr.common.signals import DeferredSignals, sigterm_raises
from dien_fuxictr.distributed import ray_training
from dien_fuxictr.distributed.launcher import LAUNCHED
from dien_fuxictr.experiment.cli import main
from dien_fuxictr.experiment.configuration.config import load_config

SETTINGS = {"epochs": 2, "early_stop_patience": 99}


@pytest.fixture(autouse=True)
def time_out():
    with ends_within(600):
        yield


def test_a_killed_worker_does_not_matter(workspace, cluster, tmp_path, monkeypatch, capsys):
    workspace.write_configs({"X": {**SETTINGS, "fault": "killed"}, "Y": SETTINGS})
    monkeypatch.setenv("PYTHONPATH", str(workspace.folder))

    def train(workers) -> None:
        Experiment(load_config(Path("config"), "Y"), group=workers).fit()

    together(2, tmp_path, train)
    assert workspace.run("--workers", "2", "--cluster", cluster, expid="X") == 0
    assert Path("killed").exists()
    log = workspace.file(".log", "X").read_text()
    assert log.count("Resume training @epoch 1 - batch 7") == 1 and log.count("Test evaluation") == 1
    assert workspace.file(".model", "X").read_bytes() == workspace.file(".model", "Y").read_bytes()
    assert len(Path("config.csv").read_text().splitlines()) == 1
    assert not list(Path().glob(".run_expid-*"))


def test_a_lost_controller_is_said(workspace, cluster, monkeypatch, capsys):
    def fit(*_: object) -> None:
        raise ActorDiedError

    workspace.write_configs({"X": SETTINGS})
    monkeypatch.setattr(ray_training, "_fit", fit)
    assert workspace.run("--workers", "2", "--cluster", cluster, expid="X") == 1
    assert "error: Ray has lost the process that starts the others: " in capsys.readouterr().err


def test_worker_ends_after_a_step_if_the_command_ends(workspace, monkeypatch):
    """Run the command in a thread, like Ray Train."""
    workspace.write_configs({"X": {"fault": "slow", "epochs": 99}})
    shared = workspace.folder / "shared"
    shared.mkdir()
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "1"), (LAUNCHED, "0")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(DeferredSignals, "asked", None)
    monkeypatch.setattr("sys.argv", [])
    arguments = ["--config", "config", "--expid", "X", "--workers", "1", "--cluster", "auto"]
    config = {"run": main, "arguments": arguments, "shared": str(shared), "launched": repr(time.time())}
    ended, others = [], threading.enumerate()
    thread = threading.Thread(target=lambda: ended.append(ray_training._work(config)))
    thread.start()
    while not workspace.file(".log", "X").exists():
        time.sleep(0.01)
    (shared / "terminated").touch()
    thread.join()
    (shared / "terminated").unlink()
    shared.rmdir()
    for heeding in set(threading.enumerate()) - set(others):
        if heeding._target is ray_training._heed:  # it ends now, and must not ask runs of later tests to end
            heeding.join()
    assert ended == [(143, "error: interrupted; the state is saved, --resume continues it\n")]
    assert torch.load(workspace.file(".resume", "X"), weights_only=True)["progress"]["batches_done"] > 0


@pytest.mark.parametrize(("number", "name"), [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "terminated")])
def test_a_signal_to_the_command_is_told_to_the_workers(tmp_path, monkeypatch, number, name):
    class Trainer:
        """Replaces Ray's trainer: its workers end when they are told to."""

        def __init__(self, *_: object, **__: object) -> None:
            pass

        def fit(self) -> SimpleNamespace:
            os.kill(os.getpid(), number)
            while not (tmp_path / name).exists():
                time.sleep(0.01)
            return SimpleNamespace(return_value=(1, name))

    monkeypatch.setattr("ray.train.torch.TorchTrainer", Trainer)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with sigterm_raises():
        assert ray_training._fit({"shared": str(tmp_path)}, 2, False) == (1, name)
    signal.signal(signal.SIGINT, before)


def test_a_machine_that_does_not_see_the_folder(tmp_path):
    code, line = ray_training._work({"shared": str(tmp_path / "elsewhere" / "mark")})
    assert code == 2 and line.startswith(f"error: {tmp_path / 'elsewhere'} does not exist on machine ")


def test_a_cluster_that_is_too_small(bad, cluster):
    assert bad("--workers", "9", "--cluster", cluster).endswith("has 3 CPUs")
    assert bad("--workers", "1", "--cluster", cluster, "--gpu", "0").endswith("has 0 GPUs")
    assert bad("--workers", "2", "--cluster", "127.0.0.1:9") == "error: there is no Ray cluster at 127.0.0.1:9"


def test_a_cluster_needs_a_number_of_workers(workspace, capsys):
    with pytest.raises(SystemExit):
        workspace.run("--cluster", "auto")
    assert "--cluster needs --workers" in capsys.readouterr().err
