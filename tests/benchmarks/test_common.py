"""Parts that all benchmarks share."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import clock, report
from benchmarks.synthetic_batches import (
    HISTORIES,
    NEGATIVES,
    Sizes,
    make_batch,
    make_feature_map,
    make_lengths,
    trimmed,
)

TINY = Sizes(items=50, categories=12, max_len=7)


def test_lengths_are_what_they_claim() -> None:
    assert (make_lengths("full", 5, 7) == 7).all()
    lengths = make_lengths("amazon", 100_000, 1000)
    assert lengths.min() == 1
    assert lengths.mean() == pytest.approx(9, rel=0.02)
    assert make_lengths("amazon", 1000, 20).max() == 20


def test_a_batch_has_the_histories_and_ids_of_its_lengths() -> None:
    lengths = np.array([1, 4, 5])
    batch = make_batch(TINY, lengths)
    for name, root in (HISTORIES | NEGATIVES).items():
        assert batch[name].shape == (3, 7)
        assert ((batch[name] > 0).sum(dim=1).numpy() == lengths).all()
        assert int(batch[name].max()) < TINY.vocabularies[root] - 1
    assert ((batch["item_history"] > 0).int().diff(dim=1) <= 0).all()
    assert set(make_feature_map(TINY, negatives=True).features) | {"label"} == set(batch)


def test_a_trimmed_batch_loses_padding_only() -> None:
    batch = make_batch(TINY, np.array([1, 4, 5]))
    short = trimmed(batch)
    for name, x in short.items():
        if x.ndim == 2:
            assert x.shape == (3, 5)
            assert int(x.sum()) == int(batch[name].sum())
        else:
            assert torch.equal(x, batch[name])


@pytest.mark.parametrize("bar", [True, False])
def test_each_round_calls_every_task(bar: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not bar:
        monkeypatch.setattr(clock, "tqdm", None)  # as on a machine that has torch and triton alone
    called = []
    tasks = {name: (lambda name=name: called.append(name)) for name in "ab"}
    times = clock.interleaved(tasks, rounds=2, turn_seconds=0)
    assert "".join(called) == "aabb" + "ab" + "ba"
    assert [len(seconds) for seconds in times.values()] == [2, 2]


def test_a_task_runs_on_the_threads_it_is_given() -> None:
    seen = []
    for threads in (2, 1):
        clock.seconds_on(lambda: seen.append(torch.get_num_threads()), threads, calls=2)
    assert seen == [2, 2, 1, 1]


def test_the_best_number_of_threads_is_that_of_the_best_time() -> None:
    figures = {1: iter([9.0, 9.0, 5.0, 4.0]), 2: iter([9.0, 9.0, 3.0, 6.0]), 4: iter([9.0, 9.0, 4.0, 4.0])}
    best = clock.on_best_threads({"task": lambda threads, calls: next(figures[threads])}, [1, 2, 4], rounds=2)
    assert best == {"task": clock.Best(3.0, 2, {"1": [5.0, 4.0], "2": [3.0, 6.0], "4": [4.0, 4.0]})}


def test_a_report_has_table_machine_and_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "__version__", "2.99.0+cu130")  # a build, which the package's metadata do not name
    rows = [
        {"system": "ours", "samples/s": 12345.6, "ratio": 1.0, "seconds": [0.1]},
        {"system": "a peer", "samples/s": 99.5, "ratio": None, "seconds": []},
    ]
    report.publish(
        "benchmarks.train_step", {"Steps": rows}, ["a note"], tmp_path / "out.json", arguments=["--rounds", "1"]
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines[:5] == [
        "### Steps",
        "",
        "| system | samples/s | ratio |",
        "| ------ | --------- | ----- |",
        "| ours   | 12,346    | 1     |",
    ]
    assert "- a note" in lines
    assert "torch 2.99.0+cu130, numpy" in lines[-1] and "`python -m benchmarks.train_step --rounds 1`" in lines[-1]
    written = json.loads((tmp_path / "out.json").read_text())
    assert written["tables"] == {"Steps": rows}
    assert written["notes"] == ["a note"] and written["hardware"]["cpus"]
