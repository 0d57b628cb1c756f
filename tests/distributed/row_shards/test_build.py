"""Tables are built shard by shard, with equal values for any number of shards.

They have the constructor's distributions and pretrained vectors.
"""

import json
import tracemalloc
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import polars as pl
import pytest
import torch
from made import DEFAULTS, features, make_batch, make_feature_map
from made_float64 import BOUND, SETTINGS, batches, prepared
from made_models import MODELS, make_model
from made_training import training_options
from made_workers import together
from torch import Tensor, nn

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.distributed.row_shards.pretrained_rows import PretrainedRows
from dien_fuxictr.distributed.row_shards.row_shard import RowShard, row_shards
from dien_fuxictr.distributed.row_shards.sharded_model import build_in_shards
from dien_fuxictr.distributed.row_shards.sharded_weight_store import store_of
from dien_fuxictr.experiment.process_group import SINGLE_PROCESS, ProcessGroup
from dien_fuxictr.experiment.training.trainer import Trainer
from dien_fuxictr.experiment.training_setup import prepare_training
from model_zoo.DIEN.src import DIEN
from model_zoo.DIN.src import DIN

SIZE = 5000
KNOWN = 50
"""Number of words with pretrained vectors of 3 numbers; every second word is an item."""


def large() -> dict[str, dict]:
    spec = features()
    for feature in spec.values():
        if "vocab_size" in feature:
            feature["vocab_size"] = SIZE
    return spec


def written(workers: ProcessGroup, folder: Path, build: Any) -> dict[str, Tensor]:
    """Return the initial weights."""
    torch.manual_seed(5)
    store_of(build_in_shards(build, workers), workers).write_weights(folder / f"{workers.count}.model")
    return torch.load(folder / f"{workers.count}.model", weights_only=True)


def test_initial_weights_do_not_depend_on_the_number_of_workers(tmp_path):
    def build() -> DIEN:
        return DIEN(make_feature_map(large()), **DEFAULTS)

    alone, plain = written(SINGLE_PROCESS, tmp_path, build), build().state_dict()
    assert alone.keys() == plain.keys()
    for count in (2, 3):
        for its in together(count, tmp_path, lambda workers: written(workers, tmp_path, build)):
            assert all(torch.equal(its[name], value) for name, value in alone.items())
    table = alone["embedding_layer.embedding_layers.item_id.weight"]
    assert not table[0].any() and table[1:].std().item() == pytest.approx(1e-4, rel=0.02)
    assert len(table.unique(dim=0)) == SIZE


@pytest.mark.parametrize("name", MODELS)
def test_every_model_begins_with_its_distributions(name, tmp_path):
    def build() -> Any:
        return make_model(name, large() if name not in ("WideDeep", "PNN", "FM", "DeepFM") else None)

    found, plain = written(SINGLE_PROCESS, tmp_path, build), build().state_dict()
    assert found.keys() == plain.keys()
    for key, value in plain.items():
        assert found[key].shape == value.shape and found[key].dtype == value.dtype
        if "embedding_layers" in key and value.numel() > 1000:
            assert found[key].std().item() == pytest.approx(value.std().item(), rel=0.05), key


def test_frequent_ids_spread_over_the_workers():
    for size in (240, 1000, 10**5, 10**7):
        table = RowShard((size, 1), lambda ids, _: ids.unsqueeze(1).float())  # pyright: ignore[reportArgumentType]
        ids = torch.arange(min(size, 10**5))
        places = table.places(ids)
        assert torch.equal(table.ids(places), ids)
        owners = torch.bincount(places[: size // 10] * 4 // size, minlength=4)
        assert owners.max() - owners.min() <= 3 + size / 10**6, size


def test_an_unknown_id_is_an_error():
    table = RowShard((5, 1), lambda ids, _: ids.unsqueeze(1).float())  # pyright: ignore[reportArgumentType]
    for ids in ([5], [-1, 2]):
        with pytest.raises(IndexError, match="ids must be from 0 to 4, are from"):
            table(torch.tensor(ids))


class Odd(DIN):
    """Fills its table in another way."""

    kind = ""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        table = self.embedding_layer.embedding_layer.embedding_layers["item_id"]
        if self.kind == "whole":
            table.weight.data.copy_(torch.rand(table.weight.shape, device="cpu"))
        elif self.kind == "truncated":
            nn.init.trunc_normal_(table.weight)
        else:
            self.output = nn.Linear(4, 30)
            self.output.weight = table.weight


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("whole", "fills an embedding table by copy_, of which one process would need all rows"),
        ("truncated", "truncated normal"),
        ("tied", "output.weight is tied to an embedding table"),
    ],
)
def test_a_model_that_does_not_fit_is_refused(kind, said, monkeypatch):
    monkeypatch.setitem(MODELS, "DIN", Odd)
    monkeypatch.setattr(Odd, "kind", kind)
    with pytest.raises(UserError, match=said):
        build_in_shards(lambda: make_model("DIN"), SINGLE_PROCESS)


def test_a_table_that_is_read_whole_is_a_clear_error():
    model = build_in_shards(lambda: make_model("FM"), SINGLE_PROCESS)
    store = store_of(model, SINGLE_PROCESS)
    callback = prepare_training(store, training_options({"embedding_updates": "sparse"}))
    name, table = next(iter(row_shards(model).items()))
    score = model.forward
    model.forward = lambda batch: {"y_pred": score(batch)["y_pred"] * table.weight.mean().sigmoid()}

    with pytest.raises(UserError, match=f"reads the whole table {name}"):
        Trainer(model.train(), callback=callback, store=store).train_step(make_batch([1, 2]))


def pretrained_spec(folder: Path, usage: str, freeze: bool) -> dict[str, dict]:
    vectors = np.random.default_rng(0).random((KNOWN, 3))
    words = np.array([f"w{i}" for i in range(KNOWN)])
    np.savez(folder / "vectors.npz", key=words, value=vectors)
    vocabulary = {f"w{2 * i}": i + 1 for i in range(28)}
    (folder / "feature_vocab.json").write_text(json.dumps({"item_id": vocabulary, "cate_id": vocabulary}))
    spec = features()
    del spec["price"]
    pretrained = {"pretrained_emb": "vectors.npz", "pretrain_dim": 3, "pretrain_usage": usage, "freeze_emb": freeze}
    spec["item_id"] |= {**pretrained, "oov_idx": 29}
    return spec


@pytest.mark.parametrize(("usage", "freeze"), [("init", False), ("sum", True), ("concat", False)])
def test_pretrained_tables_train_like_the_zoos(usage, freeze, tmp_path):
    spec = pretrained_spec(tmp_path, usage, freeze)

    def build() -> DIEN:
        model = DIEN(make_feature_map(spec, tmp_path), **{**DEFAULTS, **SETTINGS, "embedding_updates": "sparse"})
        model.get_labels = lambda inputs: inputs["label"].view(-1, 1)
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if "bias" in name:  # if the gradient is 0 except for rounding, Adam amplifies the rounding
                    weight.normal_(std=0.1)
        return model.double()

    def train(workers: ProcessGroup, in_shards: bool) -> list[float]:
        torch.manual_seed(0)
        model = build_in_shards(build, workers) if in_shards else build()
        store = store_of(model, workers)
        callback = prepared(store, {"embedding_updates": "sparse"})
        if in_shards:
            with torch.no_grad():
                for name, block in row_shards(model).items():
                    if "pretrain_embedding" not in name:
                        block.weight.normal_(std=0.5)
            store.write_weights(tmp_path / "X.model")
        store.read_weights(tmp_path / "X.model")
        trainer = Trainer(model.train(), callback=callback, store=store)
        torch.manual_seed(1)
        return [trainer.train_step(batch) for batch in batches(20)]

    losses, *_ = together(2, tmp_path, lambda workers: train(workers, True))
    assert losses == pytest.approx(train(SINGLE_PROCESS, False), abs=BOUND, rel=0)
    prefix = "embedding_layer.embedding_layers.item_id."
    table = torch.load(tmp_path / "X.model", weights_only=True)[f"{prefix}pretrain_embedding.weight"]
    whole = build().state_dict()[f"{prefix}pretrain_embedding.weight"]
    known = torch.arange(1, KNOWN // 2 + 1)
    assert torch.equal(table[known].float(), whole[known].float()) and table[known].all()
    if freeze:
        assert torch.equal(table, whole)
    else:
        unknown = table[KNOWN // 2 + 1 :]
        assert len(unknown) and unknown.all() and unknown.abs().max() < 1e-3


@pytest.mark.parametrize("form", ["npz", "h5", "parquet"])
def test_vectors_are_read_some_at_a_time(form, tmp_path):
    words, vectors = np.array([f"w{i}" for i in range(20_000)]), np.random.default_rng(0).random((20_000, 8))
    path = tmp_path / f"vectors.{form}"
    if form == "npz":
        np.savez(path, key=words, value=vectors)
    elif form == "h5":
        with h5py.File(path, "w") as file:
            file["key"], file["value"] = words.astype("S"), vectors
    else:
        pl.DataFrame({"key": words, "value": vectors}).write_parquet(path)
    found = torch.zeros(4, 8)
    for ids, rows in PretrainedRows(str(path), 8, {"w3": 0, "w5000": 1, "w19999": 3}).rows():
        found[ids] = rows
    np.testing.assert_array_equal(found.numpy(), np.float32([vectors[3], vectors[5000], np.zeros(8), vectors[19999]]))
    tracemalloc.start()
    for _ in PretrainedRows(str(path), 8, {}).rows():
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < (vectors.nbytes + words.nbytes) / (1 if form == "parquet" else 2)


def test_vectors_that_cannot_be_read_by_rows_are_refused(tmp_path):
    np.savez(tmp_path / "x.npz", key=np.array(["a", "b"]), value=np.asfortranarray(np.eye(2)))
    with pytest.raises(UserError, match="stored row by row"):
        list(PretrainedRows(str(tmp_path / "x.npz"), 2, {}).rows())
    np.savez(tmp_path / "x.npz", key=np.array(["a", "b"]), value=np.ones((2, 3)))
    with pytest.raises(UserError, match=r"pretrain_dim = 2 does not match .* have the shape \(3,\)"):
        list(PretrainedRows(str(tmp_path / "x.npz"), 2, {}).rows())
