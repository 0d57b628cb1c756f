"""Eight kills at random times: files load, and the final weights are equal."""

import os
import subprocess
import sys
from pathlib import Path

import torch

DRIVER = """
import os, random, signal, time, torch
from pathlib import Path
from dien_fuxictr.experiment.cli import main

def run(*arguments):
    pid = os.fork()
    if pid == 0:
        os._exit(main(["--config", "config", "--expid", "killed", *arguments]))
    return pid

folder = Path("checkpoints/tiny")
assert main(["--config", "config", "--expid", "whole"]) == 0
state, moment = folder / "killed.resume", random.Random(1)

def written():
    return state.exists() and state.stat().st_mtime_ns

def running(pid):
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

for kill in range(9):
    pid, before = run(*["--resume"][: state.exists()]), written()
    if kill == 0:
        time.sleep(moment.uniform(0, 0.1))
    while 0 < kill < 8 and written() == before and running(pid):
        time.sleep(0.001)
    if kill < 8:
        time.sleep(moment.uniform(0, 0.02))
        os.kill(pid, signal.SIGKILL)
    status = os.waitpid(pid, 0)[1]
    for path in [*folder.glob("killed.model"), *folder.glob("killed.resume")]:
        torch.load(path, weights_only=True)
    assert os.WIFSIGNALED(status) if kill < 8 else status == 0, (kill, status)
"""


def test_killed_run_equals_the_whole_one(workspace):
    settings = {"epochs": 30, "eval_steps": 4, "early_stop_patience": 999, "learning_rate": 0.05}
    workspace.write_configs({"whole": settings, "killed": settings})
    path = os.pathsep.join([str(workspace.folder), str(Path(__file__).parents[3])])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [sys.executable, "-c", DRIVER],
        cwd=workspace.folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    whole, killed = (torch.load(workspace.file(".model", expid), weights_only=True) for expid in ("whole", "killed"))
    assert all(torch.equal(whole[name], killed[name]) for name in whole)
