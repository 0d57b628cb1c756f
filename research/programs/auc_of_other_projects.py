"""Measure the AUC of other projects' DIEN on an experiment's own samples.

Samples, sizes, batches, patience and highest number of epochs are equal, as is the auxiliary loss: one negative per
behaviour, drawn from the batch like `aux_negatives: in_batch`. Losses, initial weights and regularisation are their
own; each learning rate is tried. The test set is scored by the weights that validate best.
"""

import argparse
import copy
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from fuxictr.features import FeatureMap
from torch import Tensor
from tqdm import tqdm

from benchmarks.entries import installed
from benchmarks.epoch import add_experiment
from benchmarks.other_projects import deepctr, rechub
from benchmarks.report import Row, new_json, publish
from benchmarks.synthetic_batches import HISTORIES, NEGATIVES, Sizes
from benchmarks.systems import NET, System
from dien_fuxictr import open_experiment
from dien_fuxictr.common.errors import UserError, run_command
from dien_fuxictr.experiment.evaluation.metrics import evaluate_metrics

PEERS: dict[str, Callable[[Sizes], System]] = {
    "deepctr-torch": partial(deepctr.build, work=NET),
    "torch-rechub": rechub.build_by_field,
}
Batch = dict[str, Tensor]


def main(arguments: Sequence[str] | None = None) -> int:
    """Train and print; return an exit code, 2 for a missing or different experiment."""
    parser = argparse.ArgumentParser(
        prog="python -m research.programs.auc_of_other_projects",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_experiment(parser)
    parser.add_argument(
        "--learning-rates",
        type=float,
        nargs="+",
        default=[1e-3, 3e-3],
        metavar="X",
        help="learning rates to try; default 0.001 0.003",
    )
    parser.add_argument("--json", type=new_json, metavar="FILE", help="write all results to FILE")
    options = parser.parse_args(arguments)
    return run_command(lambda: _run(options, arguments), "interrupted")


def _run(options: argparse.Namespace, arguments: Sequence[str] | None) -> int:
    torch.set_num_threads(1)
    experiment = open_experiment(options.expid, options.config, overrides=dict(options.settings))
    data, params, feature_map = experiment.prepare(), experiment.params, experiment.model.feature_map
    sizes = _sizes(feature_map, params)
    train, valid = data.train_loaders(feature_map)
    test = data.test_loader(feature_map)
    prepare = partial(_prepared, sizes=sizes)
    rows: list[Row] = []
    notes: list[str] = []
    for name, build in installed(PEERS, notes):
        for rate in options.learning_rates:
            torch.manual_seed(params["seed"])
            system = build(sizes)
            for group in system.optimizer.param_groups:
                group["lr"] = rate
            where = f"{name}, {rate:g}"
            rows.append(
                {"system": name, "learning rate": rate} | _trained(system, prepare, train, valid, test, params, where)
            )
    tables = {f"DIEN on the samples of {options.expid}": rows}
    publish("research.programs.auc_of_other_projects", tables, notes, options.json, arguments=arguments)
    return 0


def _sizes(feature_map: FeatureMap, params: dict[str, Any]) -> Sizes:
    """Return the sizes of the data set and of the experiment's model."""
    fields = feature_map.features
    if not {*HISTORIES, *HISTORIES.values()} <= fields.keys():
        raise UserError(
            f"the data set must have {', '.join([*HISTORIES, *HISTORIES.values()])}; the other projects read them"
        )
    return Sizes(
        items=fields["item_id"]["vocab_size"],
        categories=fields["cate_id"]["vocab_size"],
        contexts=2,
        embedding=params["embedding_dim"],
        mlp_units=tuple(params["dnn_hidden_units"]),
        attention_units=tuple(params["attention_hidden_units"]),
        max_len=fields["item_history"]["max_len"],
    )


def _prepared(batch: Batch, sizes: Sizes) -> Batch:
    """Return the batch with a constant context, padding to max_len, and negatives."""
    own = {name: batch[name] for name in HISTORIES.values()}
    own["label"] = batch["label"].float().view(-1)
    own["context"] = torch.ones(len(own["label"]), dtype=torch.int64)
    own |= {name: F.pad(batch[name], (0, sizes.max_len - batch[name].size(1))) for name in HISTORIES}
    places = own["item_history"].nonzero(as_tuple=True)
    drawn = torch.randint(len(places[0]), (len(places[0]),))
    for name, negatives in zip(HISTORIES, NEGATIVES, strict=True):
        own[negatives] = torch.zeros_like(own[name])
        own[negatives][places] = own[name][places][drawn]
    return own


def _trained(
    system: System,
    prepare: Callable[[Batch], Batch],
    train: Iterable[Batch],
    valid: Iterable[Batch],
    test: Iterable[Batch],
    params: dict[str, Any],
    where: str,
) -> Row:
    """AUC on validation and test of the epoch that validates best."""
    curve: list[float] = []
    best: dict[str, Tensor] = {}
    start = time.perf_counter()
    for _ in tqdm(range(params["epochs"]), where, leave=False, disable=None):
        system.model.train()
        for batch in train:
            system.step(system.prepare(prepare(batch)))
        curve.append(_auc(system, prepare, valid))
        if curve[-1] == max(curve):
            best = copy.deepcopy(system.model.state_dict())
        if len(curve) - 1 - int(np.argmax(curve)) >= params["early_stop_patience"]:
            break
    seconds = time.perf_counter() - start
    system.model.load_state_dict(best)
    return {
        "validation AUC": f"{max(curve):.4f}",
        "test AUC": f"{_auc(system, prepare, test):.4f}",
        "epoch": f"{1 + int(np.argmax(curve))} of {len(curve)}",
        "s/epoch": seconds / len(curve),
        "curve": curve,
    }


def _auc(system: System, prepare: Callable[[Batch], Batch], loader: Iterable[Batch]) -> float:
    system.model.eval()
    scores, labels = [], []
    for batch in loader:
        made = prepare(batch)
        scores.append(system.predict(system.prepare(made)).double())
        labels.append(made["label"])
    return evaluate_metrics(torch.cat(labels).numpy(), torch.cat(scores).numpy(), ["AUC"])["AUC"]


if __name__ == "__main__":
    sys.exit(main())
