"""Parts of several programs: batches, clocks, processes, systems, the client."""

import importlib.util
import platform
import socket
import threading
import time
from functools import partial
from multiprocessing import active_children
from pathlib import Path

import numpy as np
import pytest
import torch
from made_programs import TINY
from made_worker import fail, logged, page_faults

from benchmarks import clock
from benchmarks.compare_systems import compare
from benchmarks.entries import PEERS, Entry, build_own, entries
from benchmarks.runner import MALLOC, Conditions, get_ready, padded_for, training
from benchmarks.serving.client import poisson_times, send
from benchmarks.serving.load import highest_rates
from benchmarks.synthetic_batches import AMAZON, HISTORIES, NEGATIVES, make_batch, make_lengths, trimmed
from benchmarks.systems import INNER_PRODUCT, NET, NO_AUX, System, Work
from benchmarks.worker import Worker
from dien_fuxictr.common.errors import UserError

OURS = Entry("ours, torch", NO_AUX, partial(build_own, work=NO_AUX, backend="torch"), keeps_freed=True)
PEER = OURS._replace(name="a peer", keeps_freed=False)
MAKE = partial(make_batch, TINY, make_lengths("full", 3, TINY.max_len))


def test_lengths_are_what_they_claim() -> None:
    lengths = make_lengths("amazon", 100_000, 1000)
    assert lengths.min() == 1 and lengths.mean() == pytest.approx(9, rel=0.02)
    assert (make_lengths("full", 5, 7) == 7).all() and make_lengths("amazon", 1000, 20).max() == 20


def test_a_batch_has_its_lengths_trimmed_or_not() -> None:
    lengths = np.array([1, 4, 5])
    batch = make_batch(TINY, lengths)
    short = trimmed(batch)
    for name, root in (HISTORIES | NEGATIVES).items():
        assert ((batch[name] > 0).sum(dim=1).numpy() == lengths).all() and int(batch[name].max()) < TINY.vocabularies[
            root
        ] - 1
        assert short[name].shape == (3, 5) and int(short[name].sum()) == int(batch[name].sum())


def test_systems_that_get_a_trimmed_batch() -> None:
    batch = make_batch(TINY, np.array([1, 5]))
    system = partial(System, torch.nn.Identity(), None, None, None, None)
    for takes, widths in {(True, True): [5, 5, 12], (False, True): [12, 5, 12], (False, False): [12, 12, 12]}.items():
        got = [padded_for(system(*takes), batch, trim)["item_history"].size(1) for trim in ("own", "all", "none")]
        assert got == widths


def test_the_best_number_of_threads_has_the_best_time() -> None:
    figures = {1: iter([9.0, 9.0, 5.0, 4.0]), 2: iter([9.0, 9.0, 3.0, 6.0])}
    best = clock.on_best_threads({"task": lambda threads, calls: next(figures[threads])}, [1, 2], rounds=2)
    assert best == {"task": clock.Best(3.0, 2, {"1": [5.0, 4.0], "2": [3.0, 6.0]})}


@pytest.mark.parametrize("work", [NET, NO_AUX, INNER_PRODUCT], ids=lambda work: work.name)
def test_a_step_trains_all_weights(work: Work) -> None:
    system = build_own(TINY, work, "auto")
    before = [weight.clone() for weight in system.model.parameters()]
    system.model.train()
    system.step(system.prepare(padded_for(system, make_batch(TINY, make_lengths("amazon", 5, 12)), "own")))
    stayed = [torch.equal(*pair) for pair in zip(before, system.model.parameters(), strict=True)]
    assert sum(stayed) <= 3  # a bias before a softmax or a batch normalisation may stay


@pytest.mark.parametrize("package", PEERS)
def test_a_peer_has_as_many_weights(package: str) -> None:
    build, computed = PEERS[package]
    if not importlib.util.find_spec(package.replace("-", "_")):
        pytest.skip(f"{package} is not installed: pip install -r requirements-bench.txt")
    works = [work for work in (NET, NO_AUX, INNER_PRODUCT) if (work.attention, work.aux_scorer) in computed]
    assert works
    for work in works:
        assert build(AMAZON, work).parameters == pytest.approx(build_own(AMAZON, work, "auto").parameters, rel=0.01)


def test_only_own_systems_keep_freed_memory() -> None:
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
    found = [(entry, partial(logged, tmp_path / "log")) for entry in (OURS, PEER)]
    compare(found, TINY, MAKE, Conditions("own", "own", [1], 2))
    starts, ends = ((tmp_path / "log").read_text().split()[first::2] for first in (0, 1))
    ours, peer = starts[0], starts[2]
    assert ours != peer and starts == ends == [ours, ours, peer, peer, ours, peer, peer, ours]


def test_a_system_that_fails_ends_all() -> None:
    with pytest.raises(UserError, match="bad input"):
        compare(
            [(OURS, training), (Entry("broken", NO_AUX, fail), training)], TINY, MAKE, Conditions("own", "own", [1], 1)
        )
    assert not active_children()


def test_requests_that_a_stall_holds_up_count_their_waiting() -> None:
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        """One connection at a time; the first answer takes half a second."""
        for wait in (0.5, 0, 0):
            connection, _ = listener.accept()
            connection.recv(65536)
            time.sleep(wait)
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}")
            connection.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    load = send(listener.getsockname()[1], "/", [b"{}"], np.array([0.0, 0.1, 0.2]))
    thread.join(timeout=10)
    listener.close()
    assert load.status.tolist() == [200] * 3 and (load.seconds + load.start >= 0.5).all()


def test_times_are_those_of_a_poisson_process() -> None:
    gaps = np.diff(poisson_times(rate=50, seconds=200, seed=0))
    assert gaps.mean() == pytest.approx(1 / 50, rel=0.05) and gaps.std() == pytest.approx(gaps.mean(), rel=0.05)


def test_the_highest_rate_is_before_p99_exceeds_the_bound() -> None:
    rows = [
        {"served": "a", "times": "even", "requests/s": 100.0 * n, "p99, ms": ms}
        for n, ms in enumerate([3, 9.9, 10, 4], 1)
    ]
    assert [row["requests/s with p99 below 10 ms"] for row in highest_rates(rows)] == [200]
