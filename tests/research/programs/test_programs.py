"""Programs at tiny sizes: tables and JSON without times, and their inputs."""

import importlib
import json
import runpy
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from made_programs import TINY, run_program
from made_project import make_project
from torch.profiler import ProfilerActivity, profile, record_function
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.entries import build_own
from benchmarks.report import Row
from benchmarks.synthetic_batches import AMAZON, NEGATIVES, Sizes, make_batch, make_lengths
from benchmarks.systems import NET, NO_AUX, Work
from dien_fuxictr.dataset.samples.amazon import read_amazon
from dien_fuxictr.experiment.cli import main as train
from dien_fuxictr.experiment.configuration.config import load_config
from dien_fuxictr.studies.comparison.compare import compare
from dien_fuxictr.studies.comparison.plan import plan_comparison, write_runs
from research.programs import (
    auc_of_other_projects,
    breakdown,
    coverage,
    draw,
    full_size,
    lengths,
    pareto,
    raw_clicks,
    raw_reviews,
    roofline,
    taobao,
)
from research.programs.flops import step_flops
from research.programs.scaling import __main__ as scaling
from research.programs.scaling import measured
from research.programs.scaling.paper import DESIGNS, Machine, Step, distinct

ONE = ("--rounds", "1")
BATCH = (*ONE, "--batch-size", "3", "--threads", "1")

Run = Callable[..., dict[str, list[dict[str, Any]]]]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    return lambda program, *arguments, **options: run_program(program, tmp_path, capsys, *arguments, **options)


def test_roofline(run: Run) -> None:
    for product, *steps in run(roofline, *BATCH, sizes=TINY, square=16).values():
        assert product["share"] == "100.0%" and product["GFLOP"] == pytest.approx(2 * 16**3 / 1e9)
        assert steps and all(row["GFLOP/s"] == pytest.approx(1000 * row["GFLOP"] / row["ms"]) for row in steps)


@pytest.mark.parametrize("work", [NET, NO_AUX], ids=lambda work: work.name)
def test_the_formula_is_a_little_less_than_the_model_computes(work: Work) -> None:
    """Compare the formula with the FLOPs of a model.

    A model repeats parts of the first layers; the last behaviour has no auxiliary loss.
    """
    sizes = Sizes(items=50, categories=12, max_len=20)
    system = build_own(sizes, work, "reference")
    batch = system.prepare(make_batch(sizes, make_lengths("full", 4, sizes.max_len)))
    with FlopCounterMode(display=False) as counter:
        system.loss(batch).backward()
    needed = step_flops(sizes, 4 * sizes.max_len, 4, auxiliary=work == NET)
    assert 0.95 * needed < counter.get_total_flops() < 1.3 * needed
    assert step_flops(AMAZON, 1000, 0, auxiliary=True) == pytest.approx(273e6, rel=0.01)


def test_lengths(run: Run) -> None:
    of_torch, _, by_max_len = run(lengths, *BATCH, "--backends", "torch", "reference", sizes=TINY).values()
    assert [row["behaviours / first"] for row in of_torch[:4]] == [1, 1, 1, 2]
    assert [row["padded to"] for row in of_torch[1:3]] == [12, 120]
    assert [row["max_len"] for row in by_max_len[:3]] == [12, 36, 120]
    assert all(row["padded to"] == row["max_len"] for row in by_max_len if not row["system"].startswith("ours"))


def test_breakdown(run: Run) -> None:
    for rows in run(breakdown, *BATCH, sizes=TINY).values():
        for row in rows:
            assert sum(row[part] for part in breakdown.COLUMNS) == pytest.approx(row["all"])
            assert row["auxiliary net"] > 0 or row["work"] == NO_AUX.name


def test_a_backward_pass_counts_for_the_part_that_made_it() -> None:
    torch.manual_seed(0)
    system = build_own(TINY, NET, "torch")
    batch = system.prepare(make_batch(TINY, np.array([3, 4])))
    cpu = [ProfilerActivity.CPU]
    with breakdown.marked(system.model), profile(activities=cpu) as profiler, record_function(breakdown.REST):
        system.loss(batch).backward()
    events = profiler.events()
    spent, backward = breakdown.self_times(events), f"{breakdown.BACKWARD}: _RecurrenceBackward"
    recurrence = sum(event.cpu_time_total for event in events if event.name == backward)
    assert spent["first GRU"] + spent["evolution GRU"] > recurrence > 0
    assert not any(module._forward_hooks for module in system.model.modules())


def test_scaling(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, few in (("UPDATES", ("sparse",)), ("FLOATS", (1,)), ("TABLE", 100)):
        monkeypatch.setattr(measured, name, few)
    steps, sums, pieces = list(run(scaling, *ONE, "--rows", "4", sizes=TINY).values())[-3:]
    assert [row["rows"] for row in steps] == [4, 4, 4, 8] and steps[0]["beside one process"] == 1
    assert all(row["samples/s"] == pytest.approx(1000 * row["rows"] / row["ms"]) for row in steps)
    assert len(sums) == 1 and len(pieces) == 3


def test_costs_on_paper_are_those_of_the_formulas() -> None:
    rates = {"bandwidth": 100, "hop": 1, "message": 0.5, "memory": 1000, "compute": 30}
    machine = Machine("plain", **rates, update=0.25, touch=0.75, draw=0.125)
    step = Step(rows=4, behaviours=1, width=2, net_weights=10, sums=3)
    touched, of_all = distinct(100, 12), distinct(100, 48)
    for design, expected in {
        "dense": (2 * 0.75 * 800 / 100 + 4 * 1 + 100 * 0.25, 3200),
        "gathered": (3 * touched * 16 / 100 + 4 * 1 + of_all * 0.75, 2400),
        "owned": (0.75 * touched * 24 / 100 + 4 * 1 + 3 * 4 * 0.5 + of_all / 4 * 0.75, 600),
    }.items():
        assert DESIGNS[design](step, machine, 100, 4) == pytest.approx(expected)
    weights = np.log1p(1 / np.arange(1, 101))
    assert touched == pytest.approx((1 - (1 - weights / weights.sum()) ** 12).sum(), rel=2e-3)


def test_coverage(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (shares, widths) = run(coverage, "--studies", "4", "--runs", "2", "3", "--seed", "7").values()
    assert len(shares) == len(widths) == sum(len(seeds) for _, _, seeds in coverage.CASES.values())
    assert {float(row[f"{runs} runs"]) for row in shares for runs in (2, 3)} <= {0, 0.25, 0.5, 0.75, 1}


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands of full_size run here, which saves their starts, and are not measured."""

    def measure(step: full_size.Step, folder: Path) -> Row:
        monkeypatch.chdir(folder)
        _, program, *arguments = step.command
        if program in ("-m", "-c"):
            name, *arguments = arguments
        monkeypatch.setattr(sys, "argv", [program, *arguments])
        if program == "-m":
            with open(f"{step.name}.log", "w") as output, redirect_stdout(output):
                assert importlib.import_module(name).main(arguments) == 0
        elif program == "-c":
            exec(name, {})
        else:
            with pytest.raises(SystemExit, match="0"):
                runpy.run_path(program, run_name="__main__")
        return {"step": step.title}

    monkeypatch.setattr(full_size, "measure", measure)


@pytest.mark.usefixtures("in_this_process")
def test_full_size(run: Run, tmp_path: Path) -> None:
    """Rows follow from the log, which has the requested size and resembles a 5-core."""
    folder, log = tmp_path / "new", raw_reviews.LOGS["Books"].share(0.002)
    (rows,) = run(full_size, str(folder), "--log", "Books", "--share", "0.002").values()
    made, last, leave_one_out, encoded, epoch = (row["rows"] for row in rows)
    assert made == log.reviews and last == encoded == 2 * log.users and leave_one_out == 2 * (made - log.users)
    assert epoch == json.loads((folder / "report" / "result.json").read_text())["train_rows"] < last
    raw = folder / "data" / "raw"
    reviews = read_amazon(raw / "reviews_Books_5.json.gz", raw / "meta_Books.json.gz", "2014", verbose=False)
    assert reviews.height == log.reviews and reviews["item_id"].n_unique() == log.items
    assert reviews.group_by("user_id").len()["len"].min() >= 5
    assert reviews.select("user_id", "item_id").is_unique().all()


@pytest.mark.usefixtures("in_this_process")
def test_a_log_larger_than_memory(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, few in (("FITS", 2000), ("STEPS", 2), ("BATCH_SIZE", 16)):
        monkeypatch.setattr(taobao, name, few)
    steps, rates = run(full_size, str(tmp_path / "new"), "--log", "Taobao", "--share", "0.00004").values()
    made, built, trained, *fits = (row["rows"] for row in steps)
    assert made == 4000 and built == 2 * (made - 40) and trained == built - 4 * 40 and fits[0] == 2000
    assert all(row[name] > 0 for row in rates for name in ("loader alone, batches/s", "training, steps/s"))


def test_clicks_are_like_those_of_a_shop(tmp_path: Path) -> None:
    assert raw_clicks.main([str(tmp_path / "clicks"), "--share", "0.001"]) == 0
    clicks = pl.read_parquet(tmp_path / "clicks" / "*.parquet")
    popular = clicks.group_by("item").len()["len"].sort(descending=True)
    tenth = popular[:400].sum() / clicks.height
    assert tenth == pytest.approx(0.1**0.4, abs=0.02)  # of the n most popular items: (n / all) ** (1 - 0.6)


def test_a_command_is_measured(tmp_path: Path) -> None:
    """Its own memory, not that of this process, which has torch."""
    code = "held = b'x' * 200_000_000; open('made', 'wb').write(held[:3_000_000]); import time; time.sleep(0.1)"
    small, large = (
        full_size.measure(full_size.Step("a step", name, [sys.executable, "-c", program]), tmp_path)
        for name, program in (("small", ""), ("large", code))
    )
    assert 0.2 < large["private, GB"] <= large["peak memory, GB"] < 0.25 and small["peak memory, GB"] < 0.05
    assert large["written, GB"] == pytest.approx(0.003, abs=0.0001) and large["CPU s"] > 0


def test_auc_of_other_projects(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With this project's DIEN instead of the others', which need not be installed."""
    monkeypatch.setattr(auc_of_other_projects, "PEERS", {"torch": partial(build_own, work=NET, backend="torch")})
    monkeypatch.chdir(make_project(tmp_path, epochs=2, verbose=0))
    (rows,) = run(auc_of_other_projects, "--config", "config", "--learning-rates", "0.01", "0.02").values()
    assert [row["learning rate"] for row in rows] == [0.01, 0.02]
    assert all(row["validation AUC"] == f"{max(row['curve']):.4f}" and 0 < float(row["test AUC"]) < 1 for row in rows)


def test_negatives_of_other_projects_are_from_the_batch() -> None:
    items = torch.tensor([[3, 4, 5], [6, 0, 0]])
    batch = {"item_id": torch.tensor([9, 8]), "cate_id": torch.tensor([2, 1]), "label": torch.tensor([[1.0], [0.0]])}
    made = auc_of_other_projects._prepared(
        batch | {"item_history": items, "cate_history": (items + 10) * (items > 0)}, Sizes(max_len=4)
    )
    negatives, categories = (made[name] for name in NEGATIVES)
    assert ((negatives > 0) == (made["item_history"] > 0)).all()
    assert set(negatives.flatten().tolist()) <= {0, 3, 4, 5, 6}
    assert (categories == (negatives + 10) * (negatives > 0)).all()


def test_pareto(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Report the quality of the comparison, and the size of the served model.

    The served model has no booster and no auxiliary network.
    """
    monkeypatch.chdir(make_project(tmp_path, epochs=1, verbose=0))
    small = {"gru_hidden_size": 3, "dnn_hidden_units": [4], "attention_hidden_units": [5]}
    changes = {"DIEN_amazon": {}, "alone": small, "DIENLight_amazon": small}
    entries = {name: load_config(Path("config"), name.replace("alone", "DIEN_amazon")).params for name in changes}
    study = plan_comparison({name: entries[name] | changes[name] for name in changes}, 2, None, base="alone")
    write_runs(study.runs())
    for one in study.runs():
        assert train(["--config", str(one.config), "--expid", one.expid, "--report", str(one.report)]) == 0
    compared = {row.expid: row for row in compare(study, "")}
    few = ("--behaviours", "2", "--candidates", "3")
    (rows,) = run(pareto, *ONE, "comparisons/amazon", "--against", "alone", *few).values()
    assert [row["experiment"] for row in rows] == list(compared)
    for row in rows:
        same = compared[row["experiment"]]
        assert row["test AUC"] == f"{same.auc:.4f} ± {same.auc_std:.4f}"
        difference = f"{same.auc - compared['alone'].auc:+.4f} [{same.low or 0:+.4f}, {same.high or 0:+.4f}]"
        assert row["- alone"] == ("" if row["experiment"] == "alone" else difference)
    size = {row["experiment"]: row["parameters"] for row in rows}
    assert size["DIENLight_amazon"] == size["alone"] < size["DIEN_amazon"] < compared["DIEN_amazon"].parameters


def test_draw(tmp_path: Path) -> None:
    one = [{"experiment": "light", "parameters": 10, "ms": 2.0, "test AUC": "0.7500 ± 0.0500"}]
    stacked = [{"system": "ours", "work": "net", "all": 8.0, **dict.fromkeys(breakdown.COLUMNS, 1.0)}]
    case = [{"histories": "h", "behaviours": 4, "padded to": 5, "ms": 2.0}]
    by_max_len = [{"system": "ours", "work": "net", "max_len": 10, "ms": 1.0}]
    tables = {"pareto": {"a": one}, "breakdown": {"B": stacked}, "lengths": {"torch": case, "by": by_max_len}}
    assert tables.keys() == draw.PICTURES.keys()
    for program, content in tables.items():
        file = tmp_path / f"{program}.json"
        file.write_text(json.dumps({"program": program, "tables": content}))
        assert draw.main([str(file), "--out", str(tmp_path)]) == 0 and file.with_suffix(".png").stat().st_size
    place = draw.draw_breakdown(tables["breakdown"]).axes[0]
    assert sorted({bar.get_x() for bar in place.patches}) == list(range(len(breakdown.COLUMNS)))
