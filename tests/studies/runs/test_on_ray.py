"""Runs as tasks of a Ray cluster: results of local processes, even after a kill."""

import contextlib
import csv
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path

import pytest
from made_cluster import ends_within

from dien_fuxictr.distributed import ray_cluster as joining
from dien_fuxictr.distributed import ray_runs, run_pool
from dien_fuxictr.studies.comparison.cli import main as compare
from dien_fuxictr.studies.sweep.cli import main as tune

ROOT = Path(__file__).parents[3]
TIMES = ("second", "inference")
# The first run of a sweep loses its machine, once.
LOST = """
import os, pathlib, signal, sys, time
if "_001_" in sys.argv[4] and not os.path.exists("killed"):
    pathlib.Path("killed").touch()
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(60)
"""
WAITS = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
open(f"{os.getpid()}.pid", "w").close()
for _ in range(6000):
    time.sleep(0.01)
"""


@pytest.fixture(autouse=True)
def time_out():
    with ends_within(600):
        yield


def table(folder: str) -> list[dict[str, str]]:
    rows = csv.DictReader(Path(folder, "table.csv").read_text().splitlines())
    return [{name: value for name, value in row.items() if not any(time in name for time in TIMES)} for row in rows]


def test_a_comparison_of_which_a_task_is_killed(workspace, cluster, monkeypatch, capsys):
    workspace.write_configs({"X": {"fault": "killed"}})
    monkeypatch.setenv("PYTHONPATH", str(workspace.folder))
    command = ["--expids", "X", "--out"]
    assert compare([*command, "a", "--cluster", cluster]) == 0
    said = capsys.readouterr().err
    assert Path("killed").exists() and said.count("killed; continues") == 1 and "1/1 runs" in said
    assert sum("  resumed   in epoch 1, after step 7\n" in log.read_text() for log in Path("a/logs").glob("*.log")) == 1
    assert Path("comparison_tiny.csv").read_text().count("[exp_id]") == 1
    assert not [file for file in Path("a/logs").iterdir() if file.suffix != ".log"]
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as in a task, since more threads round differently
    assert compare([*command, "b"]) == 0
    assert len(table("a")) == 1 and table("a") == table("b")


def test_a_sweep_of_which_a_task_is_killed(write_tuner, script, fast, cluster, capsys):
    script(LOST + fast.read_text())
    arguments = ["--workers", "2", "--search", "tpe", "--trials", "3"]
    for name, more in (("a", ["--cluster", cluster]), ("b", [])):
        file = write_tuner({"embedding_dim": {"low": 2, "high": 90}}, f"{name}.yaml")
        assert tune(["--config", str(file), *arguments, *more]) == 0
    assert "_001_" in capsys.readouterr().err.split(": killed; started again")[0]
    assert Path("a_leaderboard.csv").read_text() == Path("b_leaderboard.csv").read_text()
    assert len(Path("ran.txt").read_text().splitlines()) == 6


def test_ctrl_c_ends_all(write_tuner, script, cluster, capsys, monkeypatch):
    script(WAITS)
    monkeypatch.setattr(run_pool, "_GRACE_SECONDS", 300)

    def interrupt() -> None:
        while len(list(Path().glob("*.pid"))) < 2:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=interrupt, daemon=True).start()
    file = write_tuner({"embedding_dim": [1, 2, 3]})
    assert tune(["--config", str(file), "--workers", "2", "--cluster", cluster]) == 130
    signal.signal(signal.SIGINT, before)
    assert "the same command continues with what is left" in capsys.readouterr().err
    logs = [log.read_text() for log in Path("tuner/logs").glob("*.log")]
    assert logs == ["terminated\n"] * 2
    assert not any(Path("/proc", file.stem).exists() for file in Path().glob("*.pid"))


def test_a_machine_that_does_not_see_the_folder(workspace, tmp_path):
    Path("logs").mkdir()
    code, refusal = ray_runs._run(["no command"], str(tmp_path), "logs/x.log", "logs/.mark")
    assert code == 2 and refusal.startswith(f"{tmp_path / 'logs'} does not exist on machine ")
    code, refusal = ray_runs._run(["no command"], "/nowhere", "logs/x.log", "logs/.mark")
    assert code == 2 and refusal.startswith("/nowhere/logs does not exist on machine ")


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("127.0.0.1:9", "there is no Ray cluster at 127.0.0.1:9"),
        ("somewhere", "Ray cluster somewhere: must be auto, or HOST:PORT of a cluster that this machine belongs to"),
    ],
)
def test_a_cluster_that_is_not_there(write_tuner, fast, capsys, address, message):
    assert tune(["--config", str(write_tuner({"embedding_dim": [1]})), "--cluster", address]) == 2
    assert capsys.readouterr().err == f"error: {message}\n"
    assert not Path("ran.txt").exists()


def test_a_port_that_is_not_of_ray(write_tuner, fast, capsys, monkeypatch):
    monkeypatch.setattr(joining, "_PATIENCE_SECONDS", 1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"

        def hang_up() -> None:
            with contextlib.suppress(OSError):
                while True:
                    server.accept()[0].close()

        threading.Thread(target=hang_up, daemon=True).start()
        assert tune(["--config", str(write_tuner({"embedding_dim": [1]})), "--cluster", address]) == 2
    line = f"error: the server at {address} is not a Ray cluster, or needs a token (RAY_AUTH_MODE=token)\n"
    assert capsys.readouterr().err == line and not Path("ran.txt").exists()


def test_ray_that_is_missing(write_tuner, fast, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert tune(["--config", str(write_tuner({"embedding_dim": [1]})), "--cluster", "auto"]) == 2
    line = "error: a Ray cluster needs the package ray, which is not installed: pip install ray\n"
    assert capsys.readouterr().err == line
