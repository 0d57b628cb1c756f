"""All the systems that a benchmark can measure here."""

from collections.abc import Callable
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import torch

from model_zoo.DIEN.src import DIEN
from model_zoo.DIEN.src.layers.attentional_gru import BACKENDS, attentional_gru
from model_zoo.DIEN.src.layers.packing import Packing

from .made import Sizes, make_feature_map
from .peers import deepctr, rechub
from .peers import zoo as zoo_peer
from .systems import INNER_PRODUCT, NET, NO_AUX, System, Work, keywords, zoo_system

PEERS = {"deepctr-torch": (deepctr.build, (NET, NO_AUX)), "torch-rechub": (rechub.build, (INNER_PRODUCT,))}
"""PyPI package -> its adapter, and what its DIEN can compute."""


class Entry(NamedTuple):
    """A system that can be built on this machine."""

    name: str
    work: Work
    build: Callable[[Sizes], System]


def build_own(sizes: Sizes, work: Work, backend: str) -> System:
    """This project's DIEN; its negatives are columns of the batch, as the peers' are."""
    auxiliary: dict[str, Any] = {"dien_neg_seq_field": []}
    if work.aux_scorer:
        auxiliary = {"aux_loss_alpha": 1, "aux_scorer": work.aux_scorer, "aux_negatives": "column",
                     "dien_neg_seq_field": [("neg_item_history", "neg_cate_history")]}
    feature_map = make_feature_map(sizes, negatives=work.aux_scorer is not None)
    return zoo_system(DIEN(feature_map, recurrence_backend=backend, **keywords(sizes, work), **auxiliary), trims=True)


def own_backends() -> tuple[list[str], list[str]]:
    """Backends of the recurrence that run on this machine, and why others do not."""
    names, notes = [], []
    for name in BACKENDS:
        try:
            attentional_gru(torch.zeros(1, 1), Packing.of_lengths(torch.ones(1, dtype=torch.int64)), torch.zeros(3, 1),
                            torch.zeros(3, 1), torch.zeros(3), kind="GRU", backend=name)
            names.append(name)
        except RuntimeError as error:
            notes.append(f"recurrence_backend {name} is left out: {error}")
    return names, notes


def entries(zoo: Path | None = None) -> tuple[list[Entry], list[str]]:
    """What can be measured here, this project's first, and notes on what is left out.

    Args:
        zoo: a FuxiCTR checkout, whose DIEN joins.
    """
    backends, notes = own_backends()
    found = [Entry(f"ours, {backend}", work, partial(build_own, work=work, backend=backend))
             for work in (NET, NO_AUX) for backend in ("auto", *backends)]
    found.append(Entry("ours, auto", INNER_PRODUCT, partial(build_own, work=INNER_PRODUCT, backend="auto")))
    for package, (build, works) in PEERS.items():
        try:
            name = f"{package} {version(package)}"
        except PackageNotFoundError:
            notes.append(f"{package} is left out: pip install -r requirements-bench.txt")
            continue
        found += [Entry(name, work, partial(build, work=work)) for work in works]
    if zoo:
        found.append(Entry("the zoo's own", NO_AUX, partial(zoo_peer.build, zoo=zoo)))
    else:
        notes.append("the zoo's own DIEN is left out: --zoo PATH, of a clone of https://github.com/reczoo/FuxiCTR")
    return found, notes
