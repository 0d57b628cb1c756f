"""The systems that are measured: this project's always, a peer's where it is installed."""

import importlib.util
from dataclasses import replace
from functools import partial
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import made_sizes
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import entries as all_entries
from benchmarks.entries import PEERS, build_own, entries, own_backends
from benchmarks.runner import padded_for
from benchmarks.synthetic_batches import AMAZON, Sizes, make_batch, make_lengths, trimmed
from benchmarks.systems import INNER_PRODUCT, NET, NO_AUX, System, Work
from research.programs.flops import behaviour_flops, row_flops, step_flops

TINY = replace(made_sizes.TINY, max_len=7)


def moved_by_a_step(system: System) -> list[bool]:
    """Which weights a training step moves; the scores after it are probabilities."""
    batch = system.prepare(padded_for(system, make_batch(TINY, make_lengths("amazon", 5, TINY.max_len)), "own"))
    system.model.train()
    before = [weight.clone() for weight in system.model.parameters()]
    system.step(batch)
    moved = [not torch.equal(old, new) for old, new in zip(before, system.model.parameters(), strict=True)]
    system.model.eval()
    scores = system.predict(batch)
    assert scores.shape == (5,)
    assert ((scores > 0) & (scores < 1)).all()
    return moved


@pytest.mark.parametrize("work", [NET, NO_AUX, INNER_PRODUCT], ids=lambda work: work.name)
def test_ours_trains_its_weights(work: Work) -> None:
    moved = moved_by_a_step(build_own(TINY, work, "auto"))
    assert sum(moved) >= len(moved) - 3  # a bias before a softmax or a batch normalisation may stay


@pytest.mark.parametrize("package", PEERS)
def test_a_peer_trains_and_has_as_many_weights(package: str) -> None:
    build, works = PEERS[package]
    if not importlib.util.find_spec(package.replace("-", "_")):
        pytest.skip(f"{package} is not installed: pip install -r requirements-bench.txt")
    for work in works:
        assert any(moved_by_a_step(build(TINY, work)))
        assert build(AMAZON, work).parameters == pytest.approx(build_own(AMAZON, work, "auto").parameters, rel=0.01)


def test_a_missing_peer_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(package: str) -> str:
        raise PackageNotFoundError(package)

    monkeypatch.setattr(all_entries, "version", missing)
    found, notes = entries()
    assert {entry.name.split(",")[0] for entry in found} == {"ours"}
    for package in PEERS:
        assert f"{package} is left out: pip install -r requirements-bench.txt" in notes
    assert any("--zoo PATH" in note for note in notes)


def test_a_backend_that_does_not_run_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    def require(backend: str) -> None:
        if backend in ("compiled", "triton"):
            raise RuntimeError("nothing to run it")

    monkeypatch.setattr(all_entries, "require", require)
    for device, missing in (("cpu", "compiled"), ("cuda", "triton")):
        names, notes = own_backends(device)
        assert names == ["torch", "reference"]
        assert notes == [f"recurrence_backend {missing} is left out: nothing to run it"]
        assert {entry.name for entry in entries(device=device)[0] if entry.name.startswith("ours")} == {"ours, torch"}


@pytest.mark.parametrize("works", [(NET,), (NO_AUX, INNER_PRODUCT)], ids=str)
def test_only_what_is_to_be_computed(works: tuple[Work, ...]) -> None:
    every, notes = entries(Path("zoo"))
    assert entries(Path("zoo"), works=works)[1] == notes
    assert [(entry.name, entry.work) for entry in entries(Path("zoo"), works=works)[0]] == [
        (entry.name, entry.work) for entry in every if entry.work in works
    ]


def test_the_reference_is_not_raced() -> None:
    assert "reference" in own_backends()[0]
    assert all("reference" not in entry.name for entry in entries()[0])


def test_a_system_moves_with_its_batches() -> None:
    system = build_own(TINY, NO_AUX, "torch").to("meta")
    batch = system.prepare(make_batch(TINY, make_lengths("full", 2, TINY.max_len)))
    assert {x.device.type for x in [*batch.values(), *system.model.parameters()]} == {"meta"}


def test_who_gets_a_trimmed_batch() -> None:
    batch = make_batch(TINY, make_lengths("amazon", 2, 3))
    short = trimmed(batch)["item_history"].size(1)
    system = partial(System, torch.nn.Identity(), None, None, None, None)
    for trims, trimmable, widths in (
        (True, True, [short, short, 7]),
        (False, True, [7, short, 7]),
        (False, False, [7, 7, 7]),
    ):
        got = [
            padded_for(system(trims, trimmable), batch, trim)["item_history"].size(1) for trim in ("own", "all", "none")
        ]
        assert got == widths


def test_the_formula_gives_the_figures_of_the_authors_sizes() -> None:
    assert behaviour_flops(AMAZON, auxiliary=True) == pytest.approx(273_000, rel=0.01)
    assert row_flops(AMAZON, sum_pooling=True) == pytest.approx(313_000, rel=0.02)
    assert row_flops(AMAZON) == pytest.approx(222_000, rel=0.01)


@pytest.mark.parametrize("work", [NET, NO_AUX], ids=lambda work: work.name)
def test_the_formula_is_a_little_less_than_what_the_model_computes(work: Work) -> None:
    """Less by what a model repeats of the first layers, more by the auxiliary loss that a last behaviour lacks."""
    sizes = Sizes(items=50, categories=12, max_len=20)
    rows = 4
    system = build_own(sizes, work, "reference")
    batch = system.prepare(make_batch(sizes, make_lengths("full", rows, sizes.max_len)))
    system.model.train()
    with FlopCounterMode(display=False) as counter:
        system.loss(batch).backward()
    needed = step_flops(sizes, rows * sizes.max_len, rows, auxiliary=work == NET)
    assert 0.95 * needed < counter.get_total_flops() < 1.3 * needed
