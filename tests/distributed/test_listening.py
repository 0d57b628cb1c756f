"""Several processes that train on one machine do not listen to others."""

import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from made_cluster import LOOPBACK, family, listening

from dien_fuxictr.distributed.ray_cluster import joined

ROOT = Path(__file__).parents[2]
TIMEOUT = 120
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def test_workers_listen_on_the_loopback_alone(workspace):
    """Whatever interface the environment names for runs on several machines."""
    workspace.write_configs({"X": {"epochs": 30, "eval_steps": 2, "early_stop_patience": 99, "fault": "slow"}})
    routes = Path("/proc/net/route").read_text().splitlines()[1:]
    other = routes[0].split()[0] if routes else "lo"
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "run_expid.py"), "--expid", "X", "--workers", "2"],
        cwd=workspace.folder,
        env={
            **os.environ,
            "PYTHONPATH": f"{workspace.folder}{os.pathsep}{ROOT}",
            "GLOO_SOCKET_IFNAME": other,
            "TMPDIR": str(workspace.folder),
        },
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        state = workspace.file(".resume", "X")
        deadline = time.monotonic() + TIMEOUT
        while not state.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert state.exists()
        pids = family(process.pid)
        assert len(pids) >= 3  # the launcher and its workers
        sockets = listening(pids)
        assert sockets, "gloo's workers listen for each other: without them nothing is tested"
        assert set(sockets.values()) <= set(LOOPBACK), sockets
        (meeting,) = workspace.folder.glob("run_expid-*")
        assert stat.S_IMODE(meeting.stat().st_mode) == 0o700
    finally:
        process.terminate()
        process.communicate(timeout=TIMEOUT)
    assert process.returncode == 143 and not meeting.exists()


def test_local_ray_cluster_listens_on_loopback_only(tmp_path, monkeypatch):
    """Ray has been imported before, as FuxiCTR does."""
    ray = pytest.importorskip("ray")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    others = family(os.getpid())[1:]  # the cluster of other tests of the session
    with joined("local", cpus=1):
        worker = ray.get(ray.remote(lambda: os.getpid()).remote())
        own = [pid for pid in family(os.getpid()) if pid not in others]
        assert worker in own
        sockets = listening(own)
    assert len(sockets) > 3 and set(sockets.values()) <= set(LOOPBACK), sockets
