"""Common rules for processes that a command starts: restarts, and ending with it."""

import ctypes
import signal
import sys

RESTARTS = 3
"""How often a process starts again that was killed, or whose machine was lost."""
_PR_SET_PDEATHSIG = 1
# Looked up here: between fork and exec, a process that may have threads should do as little as possible.
_PRCTL = ctypes.CDLL(None).prctl if sys.platform == "linux" else None
HAS_PARENT_SIGNAL = _PRCTL is not None


def end_with_parent(number: signal.Signals) -> None:
    """Let this process get a signal when its parent ends; only on Linux.

    A command that is killed outright takes its processes along, or the next one would start them twice.
    """
    if _PRCTL:
        _PRCTL(_PR_SET_PDEATHSIG, number)
