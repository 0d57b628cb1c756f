"""Tables in row shards are trained as whole tables are."""

from typing import Any

import pytest
import torch
from fuxictr.pytorch.models import BaseModel
from made import TWO, features
from made_float64 import Run, assert_an_ulp_matters_little, assert_same, batches, made, nudge, prepared
from made_float64 import train as train_whole
from made_models import MODELS, POOLED, make_model, pooled_features
from made_workers import together

from dien_fuxictr.distributed.row_shards.sharded_model import build_in_shards
from dien_fuxictr.distributed.row_shards.sharded_weight_store import store_of
from dien_fuxictr.experiment.process_group import SINGLE_PROCESS, ProcessGroup
from dien_fuxictr.experiment.training.trainer import Trainer

STEPS, FEW = 60, 20
SPARSE = {"embedding_updates": "sparse"}
CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "regularised": {"embedding_regularizer": "l1_l2(0.001,0.01)", "net_regularizer": 0.01},
    "regularised where looked up": {"embedding_regularization": "mini_batch_aware", "embedding_regularizer": 0.1},
    "two sequences": {**TWO, "aux_negatives": "popularity"},
    "averaged": {"weight_averaging": "ema"},
}


def train(workers: ProcessGroup, data_dir, file, steps: int, in_shards: bool, **settings: Any) -> Run:
    """Train from the initial weights in `file`; the first sharded training writes it."""
    settings = {**SPARSE, **settings}
    model = build_in_shards(lambda: made(data_dir, **settings), workers) if in_shards else made(data_dir, **settings)
    store = store_of(model, workers)
    callback = prepared(store, {"seed": 1, **settings})
    if in_shards and not file.exists():
        workers.wait()
        store.write_weights(file)
    store.read_weights(file)
    trainer = Trainer(model, max_gradient_norm=1.0, callback=callback, store=store)
    model.train()
    torch.manual_seed(1)
    every = batches(steps)
    callback.before_training(every)
    losses = [trainer.train_step(batch) for batch in every]
    store.write_weights(file.with_suffix(f".{workers.count}"))
    return losses, torch.load(file.with_suffix(f".{workers.count}"), weights_only=True)


@pytest.mark.parametrize(
    ("count", "steps", "cases"),
    [
        (1, STEPS, ["regularised"]),
        (2, STEPS, ["regularised"]),
        (3, FEW, [*CASES]),
    ],
    ids=["one", "two", "three"],
)
def test_losses_and_weights_are_those_of_whole_tables(count, steps, cases, tmp_path, data_dir):
    files = {case: tmp_path / f"{place}.model" for place, case in enumerate(cases)}

    def work(workers: ProcessGroup) -> list[Any]:
        return [train(workers, data_dir, files[case], steps, True, **CASES[case]) for case in cases]

    every = together(count, tmp_path, work) if count > 1 else [work(SINGLE_PROCESS)]
    for place, case in enumerate(cases):
        alone = train(SINGLE_PROCESS, data_dir, files[case], steps, False, **CASES[case])
        for its in every:
            assert_same(its[place], alone, case)


@pytest.mark.parametrize("case", CASES)
def test_an_ulp_in_the_weights_matters_little(case, data_dir):
    steps = STEPS if case == "regularised" else FEW
    settings = {**SPARSE, **CASES[case]}
    assert_an_ulp_matters_little(lambda seed: train_whole(data_dir, steps, nudged=seed, **settings), case)


def test_shards_with_keys_that_use_own_rows(tmp_path, data_dir):
    def work(workers: ProcessGroup) -> list[Any]:
        workers.follow("shard", sync_batch_norm=False)
        return [
            train(workers, data_dir, tmp_path / "model", 12, in_shards, net_dropout=0.5) for in_shards in (True, False)
        ]

    for in_shards, whole in together(2, tmp_path, work):
        assert_same(in_shards, whole)


def of_model(name: str, workers: ProcessGroup, file, in_shards: bool, nudged: int | None = None) -> Run:
    """Return a few steps of a model, from the initial weights in `file`.

    A seed adds a `nudge`.
    """

    def build() -> BaseModel:
        spec = pooled_features() if name in POOLED else features()
        del spec["price"]  # the zoo converts numbers to float32
        model = make_model(name, spec, batch_norm=True).double()
        model.get_labels = lambda inputs: inputs["label"].view(-1, 1)
        with torch.no_grad():
            for key, weight in model.named_parameters():
                if "bias" in key:  # if the gradient is 0 except for rounding, Adam amplifies the rounding
                    weight.normal_(std=0.1)
        return model

    model = build_in_shards(build, workers) if in_shards else build()
    store = store_of(model, workers)
    callback = prepared(store, SPARSE)
    if in_shards:
        store.write_weights(file)
    store.read_weights(file)
    if nudged is not None:
        nudge(model, nudged)
    trainer = Trainer(model.train(), callback=callback, store=store)
    torch.manual_seed(1)
    losses = [trainer.train_step(batch) for batch in batches(4)]
    store.write_weights(file.with_suffix(".trained"))
    return losses, torch.load(file.with_suffix(".trained"), weights_only=True)


def test_every_model_is_trained_so(tmp_path):
    def work(workers: ProcessGroup) -> list[Any]:
        return [of_model(name, workers, tmp_path / f"{name}.model", True) for name in MODELS]

    (its, _) = together(2, tmp_path, work)
    for place, name in enumerate(MODELS):
        assert_same(its[place], of_model(name, SINGLE_PROCESS, tmp_path / f"{name}.model", False), name)


@pytest.mark.parametrize("name", MODELS)
def test_an_ulp_in_a_models_weights_matters_little(name, tmp_path):
    file = tmp_path / "X.model"
    of_model(name, SINGLE_PROCESS, file, True)
    assert_an_ulp_matters_little(lambda seed: of_model(name, SINGLE_PROCESS, file, False, seed), name)
