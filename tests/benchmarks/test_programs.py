"""Each program at tiny sizes: tables and JSON, never a time."""

import json
import re
from collections.abc import Callable
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_data import entry, write_samples
from made_sizes import TINY
from torch.profiler import ProfilerActivity, profile, record_function

from benchmarks import epoch, inference, memory, train_step
from benchmarks.entries import build_own, entries
from benchmarks.runner import Conditions
from benchmarks.synthetic_batches import HISTORIES, LENGTHS, Sizes, make_batch
from benchmarks.systems import INNER_PRODUCT, NET, NO_AUX, keywords
from dien_fuxictr.experiment.configuration.yaml_files import write_config
from research.programs import breakdown, lengths, roofline


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., dict[str, list[dict[str, Any]]]]:
    """Runs a program and returns the tables of its JSON, which are those that it prints."""

    def run(program: Any, *arguments: str, **options: Any) -> dict[str, list[dict[str, Any]]]:
        program.main(["--rounds", "1", "--json", str(tmp_path / "out.json"), *arguments], **options)
        printed = capsys.readouterr().out
        report = json.loads((tmp_path / "out.json").read_text())
        assert re.findall(r"^### (.+)$", printed, re.MULTILINE) == list(report["tables"])
        assert printed.splitlines()[-1].startswith(report["hardware"]["device"])
        lines = [line for line in printed.splitlines() if line.startswith("|")]
        assert len(lines) == sum(2 + len(rows) for rows in report["tables"].values())
        for rows in report["tables"].values():
            assert all(list(row) == list(rows[0]) for row in rows)
        return report["tables"]

    return run


def test_train_step(run: Callable[..., Any]) -> None:
    tables = run(train_step, "--batch-size", "3", "--threads", "1", sizes=TINY)
    ratios = tables.pop("Samples/s as multiples of a peer's", [])
    assert list(tables) == ["Training step, B = 3, lengths amazon", "Training step, B = 3, lengths full"]
    for rows in tables.values():
        assert [(row["system"], row["work"]) for row in rows] == [(e.name, e.work.name) for e in entries()[0]]
        for row in rows:
            assert row["samples/s"] == pytest.approx(3000 / row["ms"])
            assert row["ms"] == 1000 * min(row["seconds"]["1"])
    peers = [row for rows in tables.values() for row in rows if not row["system"].startswith("ours")]
    assert len(ratios) == len(peers)
    assert [row["lengths"] for row in ratios] == sorted(row["lengths"] for row in ratios)


def test_ratios_are_over_each_peer_of_the_same_kind() -> None:
    rows: list[dict[str, Any]] = [
        {"system": "ours, compiled", "work": NET.name, "samples/s": 30.0},
        {"system": "ours, torch", "work": NET.name, "samples/s": 15.0},
        {"system": "ours, compiled", "work": NO_AUX.name, "samples/s": 40.0},
        {"system": "slow", "work": NET.name, "samples/s": 2.0},
        {"system": "fast", "work": INNER_PRODUCT.name, "samples/s": 3.0},
        {"system": "bare", "work": NO_AUX.name, "samples/s": 10.0},
    ]
    on = [("on", "fast", 10.0, 5.0), ("on", "slow", 15.0, 7.5)]
    for best_first in (True, False):
        found = train_step.beside_all(rows, {"B": 8}, "samples/s", best_first)
        assert all(row["B"] == 8 for row in found)
        assert [
            (row["auxiliary loss"], row["peer"], row["compiled / peer"], row["torch / peer"]) for row in found[:2]
        ] == (on if best_first else on[::-1])
        assert (found[2]["peer"], found[2]["compiled / peer"], len(found)) == ("bare", 4, 3)


@pytest.mark.skipif(not memory.STATUS.is_file(), reason="needs Linux's /proc")
def test_peak_memory_of_a_step() -> None:
    sizes = Sizes(items=50, categories=12)
    found = entries(works=[INNER_PRODUCT])[0][:1]
    (small,), (large,) = (memory.memory_rows(found, sizes, rows, Conditions("own", "own", [1], 1)) for rows in (1, 500))
    assert large["peak MiB"] > small["peak MiB"] + 1
    assert list(large) == ["system", "work", "peak MiB"]


def test_inference(run: Callable[..., Any]) -> None:
    tables = run(inference, "--batch-size", "3", "--threads", "1", "--candidates", "4", sizes=TINY)
    assert list(tables)[:4] == [
        "Scoring, B = 3, lengths amazon",
        "Scoring, B = 3, lengths full",
        "1 user x 4 candidates, 9 behaviours",
        "1 user x 4 candidates, 12 behaviours",
    ]
    names = [row["system"] for row in tables["1 user x 4 candidates, 12 behaviours"]]
    assert names[1] == f"expanded, {names[0]}"
    candidates = tables["Candidates: samples/s as multiples of an expanded batch's"]
    assert {row["peer"] for row in candidates} == {name for name in names if name.startswith("expanded, ")}


def test_interests_of_one_user_score_as_the_expanded_batch_does() -> None:
    torch.manual_seed(1)
    system = build_own(TINY, NO_AUX, "auto")
    system.model.eval()
    for weight in system.model.parameters():
        torch.nn.init.normal_(weight, std=0.3)  # the zoo's first embeddings are too small for candidates to differ by
    batch = inference.one_user(TINY, 5, candidates=6)
    user = {name: batch[name][:1] for name in HISTORIES}
    scores = inference.score_candidates(system.model, user, batch)
    torch.testing.assert_close(scores, system.predict(system.prepare(batch)))
    assert len(scores.unique()) == 6


def test_roofline(run: Callable[..., Any]) -> None:
    tables = run(roofline, "--batch-size", "3", "--threads", "1", sizes=TINY, square=16)
    for rows in tables.values():
        assert rows[0][""] == "SGEMM 16³" and rows[0]["share"] == "100.0%"
        assert rows[0]["GFLOP"] == pytest.approx(2 * 16**3 / 1e9)
        assert all(row["GFLOP/s"] == pytest.approx(1000 * row["GFLOP"] / row["ms"]) for row in rows)


def test_lengths(run: Callable[..., Any]) -> None:
    tables = run(lengths, "--batch-size", "3", "--threads", "1", "--backends", "torch", "reference", sizes=TINY)
    assert [title.split()[-1] for title in tables] == ["torch", "reference", "max_len"]
    rows = tables["Training step, B = 3, backend torch"]
    assert rows[0]["time / first"] == 1
    assert {row["histories"]: row["padded to"] for row in rows[1:3]} == {
        "the same, padded to 12": 12,
        "the same, padded to 120": 120,
    }
    assert [row["behaviours / first"] for row in rows[:4]] == [1, 1, 1, 2]
    assert [row["behaviours"] for row in rows[-2:]] == [18, 36]
    by_max_len = tables["Training step, B = 3, by max_len"]
    assert [row["max_len"] for row in by_max_len[:3]] == [12, 36, 120]
    assert [row["time / first"] for row in by_max_len[::3]] == [1] * (len(by_max_len) // 3)
    ours = [row for row in by_max_len if row["system"].startswith("ours")]
    assert len({row["padded to"] for row in ours}) == 1
    assert all(row["padded to"] == row["max_len"] for row in by_max_len if row not in ours)


def test_breakdown(run: Callable[..., Any]) -> None:
    tables = run(breakdown, "--batch-size", "3", "--threads", "1", sizes=TINY)
    assert list(tables) == [f"ms of a training step, B = 3, lengths {kind}" for kind in LENGTHS]
    for rows in tables.values():
        for row in rows:
            assert sum(row[part] for part in breakdown.COLUMNS) == pytest.approx(row["all"])
            assert {part for part in breakdown.COLUMNS if not row[part]} == (
                {"auxiliary net"} if row["work"] == NO_AUX.name else set()
            )


def test_a_backward_pass_counts_for_the_part_that_made_it() -> None:
    """The function of autograd is called by no module; its backward pass adds up rows in `index_add_`."""
    torch.manual_seed(0)
    system = build_own(TINY, NET, "torch")
    batch = system.prepare(make_batch(TINY, np.array([3, 4])))
    with (
        breakdown.marked(system.model),
        profile(activities=[ProfilerActivity.CPU]) as profiler,
        record_function(breakdown.REST),
    ):
        system.loss(batch).backward()
    events = profiler.events()
    assert {event.name for event in events} >= breakdown.FUNCTIONS.keys()
    time = breakdown.self_times(events)
    assert sum(time.values()) == pytest.approx(sum(e.cpu_time_total for e in events if e.name == breakdown.REST))
    backward = {
        name: sum(event.cpu_time_total for event in events if event.name == f"{breakdown.BACKWARD}: {name}")
        for name in ("_LookupBackward", "_RecurrenceBackward")
    }
    assert time["embeddings"] > backward["_LookupBackward"] > 0
    assert time["first GRU"] + time["evolution GRU"] > backward["_RecurrenceBackward"] > 0


def test_no_hook_stays_behind() -> None:
    model = build_own(TINY, NET, "torch").model
    with breakdown.marked(model):
        assert any(module._forward_hooks for module in model.modules())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.fixture
def tiny_config(tmp_path: Path) -> Path:
    samples = write_samples(tmp_path / "samples")
    data_set = entry(samples, tmp_path / "unused", "parquet")
    model = {
        **keywords(TINY, NO_AUX),
        "model": "DIEN",
        "dataset_id": data_set["dataset_id"],
        "monitor": "AUC",
        "monitor_mode": "max",
        "batch_size": 8,
        "epochs": 9,
        "shuffle": True,
        "seed": 1,
        "num_threads": 1,
        "dien_neg_seq_field": [],
    }
    write_config(tmp_path / "config" / "model_config.yaml", {"Base": {}, "tiny": model})
    write_config(tmp_path / "config" / "dataset_config.yaml", {data_set.pop("dataset_id"): data_set})
    return tmp_path / "config"


def test_epoch(run: Callable[..., Any], tiny_config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the runs themselves, which take seconds each to start; the next test has one."""
    epochs = []

    def timed_run(params: dict[str, Any], number: int) -> tuple[float, float]:
        epochs.append(number)
        return 5.0, 1.0 + 2.0 * number

    monkeypatch.setattr(epoch, "timed_run", timed_run)
    rows, (ratios,) = run(epoch, "--config", str(tiny_config), "--expid", "tiny").values()
    assert epochs == [1, 1, 2]
    assert [row[""] for row in rows] == ["whole epoch", "training steps alone", "loader alone", "start to first step"]
    seconds = [row["s"] for row in rows]
    assert seconds[::3] == [2, 5]
    assert ratios == {"epoch / bare steps": 2 / seconds[1], "bare steps / loader": seconds[1] / seconds[2]}
    assert not (tiny_config.parent / "unused").exists()


def test_a_run_is_timed_in_a_folder_of_its_own(tiny_config: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    params = epoch.moved(tiny_config, "tiny", tmp_path / "own").params
    first_step, rest = epoch.timed_run(params, 1)
    assert first_step > 0 and rest > 0
    assert [path for path in sorted(tmp_path.rglob("*")) if tmp_path / "own" not in path.parents] == sorted(
        [*before, tmp_path / "own"]
    )


@pytest.mark.parametrize("program", [train_step, inference])
def test_a_checkout_that_is_none_is_bad_input(program: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["--zoo", "nowhere"], sizes=TINY) == 2
    assert capsys.readouterr().err == "error: FuxiCTR checkout nowhere does not exist\n"
    assert not active_children()


def test_an_unknown_experiment_is_bad_input(tiny_config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert epoch.main(["--config", str(tiny_config), "--expid", "none"]) == 2
    assert "none" in capsys.readouterr().err
