"""Signals while a command starts.

Signals in a training are in tests/experiment/training.
"""

import signal
import subprocess
import sys

import pytest

STARTING = """
import os, signal, sys
from dien_fuxictr.common.signals import starting
signal.signal(signal.SIGINT, {handler})
with starting({tells}):
    os.kill(os.getpid(), {number})
print(signal.getsignal(signal.SIGINT) is {handler})
"""


def start(
    number: int, handler: str = "signal.default_int_handler", tells: bool = True
) -> subprocess.CompletedProcess[str]:
    code = STARTING.format(number=int(number), handler=handler, tells=tells)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_start_with_one_line(number: signal.Signals) -> None:
    done = start(number)
    assert (done.returncode, done.stdout) == (128 + number, "")
    assert done.stderr == "error: interrupted while starting; nothing was written\n"


def test_a_start_leaves_handlers_of_others_and_ignored_signals() -> None:
    done = start(signal.SIGINT, "signal.SIG_IGN")
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")


def test_a_worker_ends_its_start_without_a_line() -> None:
    done = start(signal.SIGTERM, tells=False)
    assert (done.returncode, done.stdout, done.stderr) == (143, "", "")
