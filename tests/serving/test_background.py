"""What goes on beside requests lets them go first."""

import os
import sys
import threading

import pytest

from dien_fuxictr.serving.background import background_thread, short_turns


@pytest.mark.skipif(sys.platform != "linux", reason="threads have no priority of their own")
def test_its_thread_alone_has_a_lower_priority() -> None:
    def priority() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    own = priority()
    with background_thread() as thread:
        assert min(own + 1, 19) <= thread.submit(priority).result() <= 19
    assert priority() == own


def test_the_lock_is_handed_over_sooner_until_it_ends() -> None:
    usual = sys.getswitchinterval()
    with pytest.raises(ValueError, match="broken"), short_turns():
        assert sys.getswitchinterval() < usual / 5
        raise ValueError("broken")
    assert sys.getswitchinterval() == usual
