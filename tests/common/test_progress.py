"""Lines above bars, where other processes have been killed."""

import subprocess
import sys

PROGRAM = """
import os, signal
import tqdm
from dien_fuxictr.common.progress import above_bars, progress_bar, say

progress_bar(verbose=0)
say("before")
read, write = os.pipe()
if not (fork := os.fork()):
    with above_bars():
        os.write(write, b"holds")
        signal.pause()
os.read(read, 5)
os.kill(fork, signal.SIGKILL)
assert os.WTERMSIG(os.waitpid(fork, 0)[1]) == signal.SIGKILL
say("after")
"""


def test_a_killed_fork_does_not_stop_other_processes() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "before\nafter\n")
