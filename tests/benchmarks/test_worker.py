"""Processes of their own: what is asked of them, what goes wrong there, and that none stays behind."""

import os
import signal
from functools import partial
from multiprocessing import active_children

import pytest
from made_worker import count, count_from, end, fail, say

from benchmarks.worker import Worker
from dien_fuxictr.common.errors import TrainingError, UserError


@pytest.mark.parametrize("fresh", [True, False])
def test_a_process_keeps_what_it_made(fresh: bool) -> None:
    with Worker(partial(count_from, 5), fresh) as one, Worker(partial(count_from, 0), fresh) as other:
        first, pid = one.ask(count, 1)
        assert (first, other.ask(count, 1)[0]) == (6, 1)
        assert one.ask(count, 10) == (16, pid)
        assert len({pid, other.ask(count, 1)[1], os.getpid()}) == 3
    assert not active_children()


def test_what_is_printed_there_is_in_no_table(capfd: pytest.CaptureFixture[str]) -> None:
    with Worker(partial(count_from, 0), fresh=True) as worker:
        worker.ask(say, "hello")
    assert capfd.readouterr() == ("", "hello\n")


def test_what_is_raised_there_is_raised_here() -> None:
    with pytest.raises(UserError, match="bad input") as error, Worker(partial(count_from, 0)) as worker:
        worker.ask(fail)
    assert "made_worker.py" in str(error.value.__cause__)
    assert not active_children()


def test_what_cannot_be_made_is_raised_at_once() -> None:
    with pytest.raises(UserError, match="bad input"), Worker(fail):
        pytest.fail("nothing was made")
    assert not active_children()


@pytest.mark.parametrize("again", [False, True])
def test_a_process_that_ends_by_itself(again: bool) -> None:
    with pytest.raises(TrainingError, match="ended with code 3"), Worker(partial(count_from, 0)) as worker:
        if again:
            with pytest.raises(TrainingError):
                worker.ask(end)
        worker.ask(end)
    with pytest.raises(TrainingError, match="ended with code 3"), Worker(end):
        pytest.fail("nothing was made")
    assert not active_children()


def test_ctrl_c_is_for_the_first_process() -> None:
    """A terminal sends it to all: the others end as it leaves the `with`, without a word."""
    with pytest.raises(KeyboardInterrupt), Worker(partial(count_from, 0)) as worker:
        _, pid = worker.ask(count, 1)
        os.kill(pid, signal.SIGINT)
        assert worker.ask(count, 1) == (2, pid)
        raise KeyboardInterrupt
    assert not active_children()
