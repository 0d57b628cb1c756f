"""Systems that a benchmark can measure here."""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from dien_fuxictr.experiment.training.optimizers import fuse
from model_zoo.DIEN.src import DIEN
from model_zoo.DIEN.src.kernels.backends import require

from .other_projects import deepctr, rechub
from .other_projects import zoo as zoo_peer
from .synthetic_batches import Sizes, make_feature_map
from .systems import INNER_PRODUCT, NET, NO_AUX, System, Work, keywords, zoo_system

T = TypeVar("T")
OURS = "ours, "
"""How the names of this project's entries begin; what follows is the backend of the recurrence."""
BACKENDS = {"cpu": ("compiled", "torch", "reference"), "cuda": ("triton", "torch", "reference")}
"""Device -> backends, the fastest first."""
COLUMNS: dict[str, Any] = {
    "aux_negatives": "column",
    "dien_neg_seq_field": [("neg_item_history", "neg_cate_history")],
}
"""Keywords of this project's DIEN with negatives in columns of the batch, as in the other projects."""
PEERS = {
    "deepctr-torch": (deepctr.build, {("din_attention", "net"), ("din_attention", None)}),
    "torch-rechub": (rechub.build, {("bilinear_attention", "inner_product")}),
}
"""PyPI package -> its adapter, and the attention and auxiliary loss that its DIEN can compute."""


class Entry(NamedTuple):
    """A system that can be built on this machine.

    Attributes:
        keeps_freed: whether its own trainer lets the C library keep freed memory.
    """

    name: str
    work: Work
    build: Callable[[Sizes], System]
    keeps_freed: bool = False


def build_own(sizes: Sizes, work: Work, backend: str) -> System:
    """Build this project's DIEN, trained as by `run_expid.py`.

    Its negatives are columns of the batch, as for the other projects.
    """
    own: dict[str, Any] = {"recurrence_backend": backend, "dien_neg_seq_field": []}
    if work.aux_scorer:
        own |= {"aux_loss_alpha": 1, "aux_scorer": work.aux_scorer, **COLUMNS}
    feature_map = make_feature_map(sizes, negatives=work.aux_scorer is not None)
    system = zoo_system(DIEN(feature_map, **keywords(sizes, work), **own), trims=True)
    fuse(system.optimizer)
    return system


def own_backends(device: str = "cpu") -> tuple[list[str], list[str]]:
    """Return the backends of a device, the fastest first, and why others are missing.

    The reference comes last; it evaluates the equations, slowly.
    """
    names, notes = [], []
    for name in BACKENDS[device]:
        try:
            require(name)
            names.append(name)
        except RuntimeError as error:
            notes.append(f"recurrence_backend {name} is left out: {error}")
    return names, notes


def add_backends(parser: argparse.ArgumentParser) -> list[str]:
    """Add `--backends` of the CPU; return notes on those that are left out."""
    names, notes = own_backends()
    parser.add_argument(
        "--backends",
        nargs="+",
        choices=names,
        default=names[:-1],
        help=f"backends of the recurrence: {', '.join(names)}; default all but reference",
    )
    return notes


def entries(
    zoo: Path | None = None, device: str = "cpu", works: Sequence[Work] = (NET, NO_AUX, INNER_PRODUCT)
) -> tuple[list[Entry], list[str]]:
    """Return what can be measured here, and notes on what is left out.

    This project's systems come first, without the reference.

    Args:
        zoo: a FuxiCTR checkout whose DIEN is included.
        device: device of all systems, `cpu` or `cuda`.
        works: work that the systems compute.
    """
    backends, notes = own_backends(device)
    found = [
        Entry(OURS + backend, work, partial(build_own, work=work, backend=backend), keeps_freed=True)
        for work, raced in ((NET, backends[:-1]), (NO_AUX, backends[:-1]), (INNER_PRODUCT, backends[:1]))
        for backend in raced
    ]
    others, left_out = peers(zoo, works)
    every = [*(entry for entry in found if entry.work in works), *others]
    return [entry._replace(build=partial(_on, device, entry.build)) for entry in every], [*notes, *left_out]


def peers(zoo: Path | None, works: Sequence[Work]) -> tuple[list[Entry], list[str]]:
    """Return the other projects that can be measured here, and notes on what is left out.

    Args:
        zoo: a FuxiCTR checkout whose DIEN is included.
        works: work that they compute.
    """
    found: list[Entry] = []
    notes: list[str] = []
    for name, (build, own) in installed(PEERS, notes):
        found += [
            Entry(name, work, partial(build, work=work)) for work in works if (work.attention, work.aux_scorer) in own
        ]
    if zoo:
        found += [
            Entry(name, work, partial(zoo_peer.build, work=work, zoo=zoo, fused=fused))
            for work in works
            if not work.aux_scorer
            for name, fused in (("the zoo's own", False), ("the zoo's own, fused Adam", True))
        ]
    else:
        notes.append("the zoo's own DIEN is left out: --zoo PATH, of a clone of https://github.com/reczoo/FuxiCTR")
    return found, notes


def installed(peers: Mapping[str, T], notes: list[str]) -> Iterator[tuple[str, T]]:
    """Yield `PACKAGE VERSION` and value of each installed PyPI package.

    The notes get a line for each other package.
    """
    for package, peer in peers.items():
        try:
            yield f"{package} {version(package)}", peer
        except PackageNotFoundError:
            notes.append(f"{package} is left out: pip install -r requirements-bench.txt")


def _on(device: str, build: Callable[[Sizes], System], sizes: Sizes) -> System:
    return build(sizes).to(device)
