"""Each process has its part of a table's rows; nothing of a table's size exists."""

from typing import Any

import torch
from made import features, make_batch, make_feature_map
from made_models import DEFAULTS
from made_training import training_options
from made_workers import together
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dien_fuxictr.distributed.row_shards.row_shard import row_shards
from dien_fuxictr.distributed.row_shards.sharded_model import build_in_shards
from dien_fuxictr.distributed.row_shards.sharded_weight_store import store_of
from dien_fuxictr.experiment.evaluation.evaluate import evaluate
from dien_fuxictr.experiment.process_group import ProcessGroup
from dien_fuxictr.experiment.training.trainer import Trainer
from dien_fuxictr.experiment.training_setup import prepare_training
from model_zoo.DIEN.src import DIEN

ROWS, DIM, FLOAT = 200_000, 4, 4
BLOCK = ROWS // 2 * DIM * FLOAT
"""Bytes of one worker's rows."""


class Allocations(TorchDispatchMode):
    """Notes the largest new storage that a function of torch returns, in bytes.

    Tensors on the meta device and views of a mapped file need no memory.

    Attributes:
        largest: of all. of: the function's name.
    """

    MAPPED = ("aten::from_file", "aten::set_")

    def __init__(self) -> None:
        super().__init__()
        self.largest, self.of = 0, ""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {self.storage(x).data_ptr() for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)}
        result = func(*args, **(kwargs or {}))
        name = func.name().split(".")[0]
        for x in tree_leaves(result) if name not in self.MAPPED else ():
            if isinstance(x, Tensor) and not x.is_meta and self.storage(x).data_ptr() not in given:
                self.largest, self.of = max((self.largest, self.of), (self.storage(x).nbytes(), name))
        return result

    @staticmethod
    def storage(x: Tensor) -> torch.UntypedStorage:
        return (x._values() if x.is_sparse else x).untyped_storage()


def build() -> DIEN:
    spec = features()
    for feature in spec.values():
        if feature.get("share_embedding", "item_id") == "item_id" and feature["type"] in ("categorical", "sequence"):
            feature["vocab_size"] = ROWS
    return DIEN(make_feature_map(spec), **{**DEFAULTS, "aux_loss_alpha": 1, "weight_averaging": "ema"})


def largest_of(workers: ProcessGroup, folder: Any) -> tuple[dict[str, int], tuple[int, str]]:
    """Train; return rows per large table and the largest allocation."""
    with Allocations() as seen:
        model = build_in_shards(build, workers)
        settings = {"embedding_updates": "sparse", "embedding_regularizer": 0.1, "weight_averaging": "ema"}
        store = store_of(model, workers)
        callback = prepare_training(store, training_options(settings))
        trainer = Trainer(model, callback=callback, store=store)
        model.train()
        trainer.train_step(make_batch([3, 0, 6, 2]))
        with callback.evaluated():
            batches = [make_batch([3, 1, 6, 2], seed=seed) for seed in range(3)]
            evaluate(model, batches, ["AUC"], workers, store.is_collective)
            store.write_weights(folder / "X.model")
        store.read_weights(folder / "X.model")
        averages, state = callback.averages_of_shards(), folder / "X.resume"
        store.read_state(state, store.write_state(state, averages), averages)
    return {name: len(t.weight) for name, t in row_shards(model).items()}, (seen.largest, seen.of)


def test_nothing_is_larger_than_a_block(tmp_path):
    for rows, (largest, of) in together(2, tmp_path, lambda workers: largest_of(workers, tmp_path)):
        assert rows["embedding_layer.embedding_layers.item_id.weight"] == ROWS // 2
        assert largest == BLOCK, of
    weights = torch.load(tmp_path / "X.model", weights_only=True)
    assert weights["embedding_layer.embedding_layers.item_id.weight"].shape == (ROWS, DIM)


def test_the_measure_sees_a_whole_table():
    with Allocations() as seen:
        build()
    assert seen.largest == 2 * BLOCK
