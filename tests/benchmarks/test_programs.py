"""Each program at tiny sizes: its tables and JSON, never a time."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from made_programs import TINY, run_program
from made_project import make_project

from benchmarks import data_sets, draw, epoch, gpu, inference, recurrence, train_step, vocabulary
from benchmarks.entries import build_own, entries
from benchmarks.epoch import ROOT
from benchmarks.experiments import PLAIN, build, read_step
from benchmarks.serving import __main__ as serving
from benchmarks.synthetic_batches import HISTORIES
from benchmarks.systems import NO_AUX

ONE = ("--rounds", "1")
BATCH = (*ONE, "--batch-size", "3", "--threads", "1")

Run = Callable[..., dict[str, list[dict[str, Any]]]]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    return lambda program, *arguments, **options: run_program(program, tmp_path, capsys, *arguments, **options)


def test_train_step(run: Run) -> None:
    tables = run(train_step, *BATCH, sizes=TINY)
    steps = [rows for title, rows in tables.items() if title.startswith("Training step, B = 3")]
    assert len(steps) == 2
    for rows in steps:
        assert [(row["system"], row["work"]) for row in rows] == [(e.name, e.work.name) for e in entries()[0]]
        assert all(row["samples/s"] == pytest.approx(3 / min(row["seconds"]["1"])) for row in rows)


def test_train_step_of_an_experiment(run: Run) -> None:
    experiment = "--expid", "DIEN_amazon_beauty_last", "--set", "batch_size=12"
    steps, *_ = run(train_step, *ONE, "--threads", "1", *experiment).values()
    own = [row["work"] for row in steps if row["system"] == "ours, torch"]
    assert own == [f"DIEN_amazon_beauty_last{name}" for name in ("", ", plain", f", {NO_AUX.name}")]
    assert all(row["samples/s"] == pytest.approx(12 / min(row["seconds"]["1"])) for row in steps)


def test_batch_of_an_experiment_has_its_size_and_the_lengths_of_its_data_set() -> None:
    step = read_step("DIEN_movielens", ROOT / "config", {})
    lengths = (step.batch()["item_history"] > 0).sum(dim=1)
    assert len(lengths) == 512 and step.sizes.mlp_units == (200, 80)
    assert abs(lengths.double().mean() - sum(step.lengths) / len(step.lengths)) < 1
    assert lengths.min() == step.lengths[0] and lengths.max() == step.lengths[-1] == 100


def test_plain_step_has_neither_dice_nor_dropout() -> None:
    step = read_step("DIEN_movielens", ROOT / "config", {"batch_size": 4})
    names = {
        name: {type(m).__name__ for m in build(step, changes, step.sizes).model.modules()}
        for name, changes in (("own", {}), ("plain", PLAIN))
    }
    assert {"Dice", "Dropout"} <= names["own"] and not {"Dice", "Dropout"} & names["plain"]


@pytest.mark.parametrize(
    ("expid", "message"),
    [
        ("DIN_amazon", "error: --expid DIN_amazon: model is DIN; it must be DIEN\n"),
        (
            "DIEN_amazon_books",
            "error: --expid DIEN_amazon_books: the sizes of data set amazon_books are unknown; known: ",
        ),
    ],
)
def test_experiments_without_a_step_are_one_line(expid: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert train_step.main(["--expid", expid]) == 2
    assert capsys.readouterr().err.startswith(message)


def test_data_sets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert data_sets.main(["--config", str(make_project(tmp_path) / "config")]) == 0
    ((name, row),) = json.loads(f"{{{capsys.readouterr().out.splitlines()[-1]}}}").items()
    assert name == "amazon" and row.keys() == json.loads(data_sets.FILE.read_text())[name].keys()
    assert len(row["lengths"]) == 101 and row["lengths"] == sorted(row["lengths"])
    assert row["lengths"][-1] <= row["max_len"] == 50


def test_ratios_compare_equal_work() -> None:
    rates = (("ours, a", NO_AUX.name, 40.0), ("peer", NO_AUX.name, 10.0), ("other", "else", 1.0))
    rows = [dict(zip(("system", "work", "samples/s"), rate, strict=True)) for rate in rates]
    (found,) = train_step.beside_all(rows, {}, "samples/s", True)
    assert (found["peer"], found["a / peer"]) == ("peer", 4)


def test_inference(run: Run) -> None:
    tables = run(inference, *BATCH, "--candidates", "4", sizes=TINY)
    names = [row["system"] for row in tables["1 user x 4 candidates, 12 behaviours"]]
    assert names[1] == f"expanded, {names[0]}"


def test_shared_interests_score_as_the_expanded_batch() -> None:
    torch.manual_seed(1)
    system = build_own(TINY, NO_AUX, "auto")
    system.model.eval()
    for weight in system.model.parameters():
        torch.nn.init.normal_(weight, std=0.3)  # with the zoo's small initial embeddings, candidates would not differ
    batch = inference.one_user(TINY, 5, candidates=6)
    scores = inference.score_candidates(system.model, {name: batch[name][:1] for name in HISTORIES}, batch)
    torch.testing.assert_close(scores, system.predict(system.prepare(batch)))
    assert len(scores.unique()) == 6


def test_recurrence(run: Run) -> None:
    for rows in run(recurrence, *ONE, "--batch-sizes", "3", "--threads", "1", "--hidden", "4", max_len=5).values():
        assert len(rows) > 2 and all(row["ms"] > 0 for row in rows)


@pytest.fixture
def put_back_precision() -> Iterator[None]:
    """Put the precision of torch's products back after a program that sets it for the whole process."""
    operations = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [each.allow_tf32 for each in operations]
    yield
    for each, allowed in zip(operations, before, strict=True):
        each.allow_tf32 = allowed


@pytest.mark.usefixtures("put_back_precision")
def test_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    if torch.cuda.is_available() or sys.platform != "linux":
        pytest.skip("the interpreter stands in for a GPU")
    import made_triton  # noqa: F401  # skips where triton has no interpreter that works

    assert gpu.main(["--device", "cpu", "--rows", "3", "--steps", "2", "--hidden", "5", *ONE]) == 0
    printed = capsys.readouterr().out
    assert printed.count("cuDNN's nn.GRU") == len(gpu.PRECISIONS) and "AUGRU, triton" in printed


def test_vocabulary(run: Run) -> None:
    (rows,) = run(vocabulary, *ONE, "--items", "60", "--rows", "8").values()
    assert [(row["items"], row["updates"]) for row in rows] == [(60, "dense"), (60, "sparse")]
    assert all(row["peak memory, GB"] > 0 for row in rows)


def test_popular_items_follow_zipfs_law() -> None:
    counts = torch.bincount(vocabulary.popular(torch.arange(1001).repeat(50), 1000), minlength=1001).double()
    assert counts[0] == 50, "padding stays"
    assert counts[10:20].sum() / counts[100:200].sum() == pytest.approx(1, abs=0.05)


def test_epoch(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run one epoch; further runs, which take seconds to start, are replaced.

    They are reported to take as long as the one run.
    """
    real, runs = epoch.timed_run, []

    def timed_run(params: dict[str, Any], epochs: int) -> tuple[float, float]:
        runs.append(epochs)
        return real(params, epochs) if len(runs) == 1 else (5.0, 1.0 + 2.0 * epochs)

    monkeypatch.setattr(epoch, "timed_run", timed_run)
    config = make_project(tmp_path, epochs=1) / "config"
    before = sorted(tmp_path.rglob("*"))
    rows, (ratios,) = run(epoch, *ONE, "--config", str(config)).values()
    whole, steps, loader, start = (row["s"] for row in rows)
    assert (runs, whole, start) == ([1, 1, 2], 2, 5) and steps > loader > 0
    assert ratios == {"epoch / bare steps": whole / steps, "bare steps / loader": steps / loader}
    assert sorted(tmp_path.rglob("*")) == sorted([*before, tmp_path / "out.json"])


@pytest.fixture
def cores() -> Iterator[None]:
    """Give the cores back: the measurement of a server keeps to one."""
    cores = os.sched_getaffinity(0)
    yield
    os.sched_setaffinity(0, cores)


@pytest.mark.usefixtures("cores")
def test_serving(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "SERVED", ("H 32, light",))
    few = ("--rates", "20", "--seconds", "0.5")
    tables = run(serving, *ONE, *few, "--parts", *serving.PARTS[:5], "overload", sizes=TINY, shapes=((3, 4), (12, 9)))
    paths = {
        (row["behaviours x candidates"], row["model"], row["path"]): row["ms"] for row in tables["Scoring, one thread"]
    }
    shape, model = "12 x 9", "H 36"
    assert tables["Ratios"][1][f"layer by layer / native, {model}"] == pytest.approx(
        paths[shape, model, "layer by layer"] / paths[shape, model, "native"]
    )
    assert all(row["refused"] == 0 for row in tables["Latency against the rate"])
    assert all(row["requests"] == 10 and row["model, ms"] > 0 for row in tables["A request's CPU time"])
    assert len(tables["Requests with a deadline of 50 ms"]) and len(tables["Reloads at 20 requests/s"]) == 3


RACE = [
    {"system": name, "work": work, "samples/s": rate}
    for name, work, rate in (("ours, compiled", "net", 9.0), ("ours, compiled", "none", 8.0), ("peer", "net", 1.0))
]
REPORTS: dict[str, dict[str, list[dict[str, Any]]]] = {
    "train_step": {"Training step, B = 8": RACE, "B = 9": RACE},
    "inference": {"Scoring": RACE},
    "vocabulary": {
        "by vocabulary": [
            {"items": items, "updates": updates, "step, ms": 5.0, "peak memory, GB": 1.0}
            for items in (100, 1000)
            for updates in ("dense", "sparse")
        ]
    },
    "serving": {
        "Latency against the rate": [
            {"served": "ours", "times": "even", "requests/s": rate, "p99, ms": p99}
            for rate, p99 in ((5, 4.0), (9, 30.0))
        ]
    },
}


def test_draw(tmp_path: Path) -> None:
    assert REPORTS.keys() == draw.PICTURES.keys()
    files = [tmp_path / f"{program}.json" for program in REPORTS]
    for file, (program, tables) in zip(files, REPORTS.items(), strict=True):
        file.write_text(json.dumps({"program": program, "tables": tables}))
    assert draw.main([*map(str, files), "--out", str(tmp_path)]) == 0
    assert all(file.with_suffix(".png").read_bytes().startswith(b"\x89PNG") for file in files)
    bars = [
        (bar.get_y() + bar.get_height() / 2, bar.get_width())
        for bar in draw.draw_rates(REPORTS["train_step"]).axes[0].patches
    ]
    assert bars == [(pytest.approx(1), 9), (pytest.approx(2), 1), (pytest.approx(4), 8)]


def test_invalid_checkout_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert inference.main(["--zoo", "nowhere"], sizes=TINY) == 2
    assert (
        capsys.readouterr().err
        == "error: FuxiCTR checkout nowhere does not exist; it must be a folder with model_zoo/\n"
    )
