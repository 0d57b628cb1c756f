"""Races of systems, each in a process of its own."""

import platform
from functools import partial
from multiprocessing import active_children
from pathlib import Path

import pytest
from made_worker import fail, logged, page_faults

from benchmarks.compare_systems import compare
from benchmarks.entries import Entry, build_own, entries
from benchmarks.runner import MALLOC, Conditions, get_ready, training
from benchmarks.synthetic_batches import Sizes, make_batch, make_lengths
from benchmarks.systems import NO_AUX
from benchmarks.worker import Worker
from dien_fuxictr.common.errors import UserError

TINY = Sizes(items=50, categories=12, contexts=6, embedding=4, attention_units=(6, 3), mlp_units=(8, 4), max_len=7)
OURS = Entry("ours, torch", NO_AUX, partial(build_own, work=NO_AUX, backend="torch"), keeps_freed=True)
PEER = OURS._replace(name="a peer", keeps_freed=False)
MAKE = partial(make_batch, TINY, make_lengths("full", 3, TINY.max_len))


def test_ours_alone_keep_freed_memory_in_their_own_trainer() -> None:
    assert all(entry.keeps_freed == entry.name.startswith("ours") for entry in entries(Path("zoo"))[0])


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="an allocator other than glibc's")
@pytest.mark.parametrize("malloc", MALLOC)
def test_each_has_the_allocator_that_it_is_to_have(malloc: str) -> None:
    kept = []
    for entry in (OURS, PEER):
        with Worker(partial(get_ready, entry, TINY, MAKE, Conditions("own", malloc, [1], 1), training)) as worker:
            kept.append(worker.ask(page_faults) < 100)
    assert kept == {"own": [True, False], "kept": [True, True], "default": [False, False]}[malloc]


def test_one_works_at_a_time_and_each_in_its_process(tmp_path: Path) -> None:
    log = tmp_path / "log"
    rows = compare(
        [(entry, partial(logged, log)) for entry in (OURS, PEER)], TINY, MAKE, Conditions("own", "own", [1], 2)
    )
    starts, ends = (log.read_text().split()[first::2] for first in (0, 1))
    assert starts == ends
    ours, peer = starts[0], starts[2]
    assert ours != peer and starts == [ours, ours, peer, peer, ours, peer, peer, ours]
    assert [row["system"] for row in rows] == ["ours, torch", "a peer"]
    assert all(len(row["seconds"]["1"]) == 2 for row in rows)


def test_a_system_that_fails_ends_all() -> None:
    broken = Entry("broken", NO_AUX, fail)
    with pytest.raises(UserError, match="bad input"):
        compare([(OURS, training), (broken, training)], TINY, MAKE, Conditions("own", "own", [1], 1))
    assert not active_children()
