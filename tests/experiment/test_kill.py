"""SIGKILL at random moments: what is on the disk always loads, and the resumed run ends with the same weights."""

import os
import subprocess
import sys
from pathlib import Path

import torch

DRIVER = """
import os, random, signal, time, torch
from pathlib import Path
from experiment.cli import main

def run(expid, *arguments):
    pid = os.fork()
    if pid == 0:
        os._exit(main(["--config", "config", "--expid", expid, *arguments]))
    return pid

folder = Path("checkpoints/tiny")
assert os.waitpid(run("whole"), 0)[1] == 0
kills, moment = 0, random.Random(1)
while True:
    resume = (folder / "killed.resume").exists()
    pid = run("killed", *["--resume"][: resume])
    if kills < 6:
        time.sleep(moment.uniform(0.05, 0.4))
        os.kill(pid, signal.SIGKILL)
        kills += 1
    status = os.waitpid(pid, 0)[1]
    for path in [*folder.glob("killed.model"), *folder.glob("killed.resume")]:
        torch.load(path, weights_only=True)
    if status == 0:
        break
    assert os.WIFSIGNALED(status), status
print("kills", kills)
"""


def test_killed_run_equals_the_whole_one(workspace):
    settings = {"epochs": 30, "eval_steps": 4, "early_stop_patience": 999, "learning_rate": 0.05}
    workspace.write_configs({"whole": settings, "killed": settings})
    path = os.pathsep.join([str(workspace.folder), str(Path(__file__).parents[2])])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    result = subprocess.run([sys.executable, "-c", DRIVER], cwd=workspace.folder, env=environment, capture_output=True,
                            text=True)  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    whole, killed = (torch.load(workspace.file(".model", expid), weights_only=True) for expid in ("whole", "killed"))
    assert all(torch.equal(whole[name], killed[name]) for name in whole)
