"""Feature maps and batches made for the tests."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fuxictr.features import FeatureMap

VOCABULARY = {"item_id": 30, "cate_id": 8, "query": 12}
TIMES = {"session_history": 0.3, "day_history": 0.6}
"""Time tokens, and how often a behaviour begins a new one."""


def features(max_len: int = 6, **dims: int) -> dict[str, dict]:
    """Return features of every kind: item with category, query, histories, negatives.

    There are also times, a numeric and a meta column.
    """
    spec: dict[str, dict] = {"user_id": {"type": "meta"}, "price": {"source": "", "type": "numeric"}}
    for name, size in VOCABULARY.items():
        spec[name] = {"source": "", "type": "categorical", "padding_idx": 0, "vocab_size": size}
    shared = {
        "item_history": "item_id",
        "cate_history": "cate_id",
        "query_history": "query",
        "neg_item_history": "item_id",
        "neg_cate_history": "cate_id",
    }
    for name, root in shared.items():
        spec[name] = {
            "source": "",
            "type": "sequence",
            "share_embedding": root,
            "padding_idx": 0,
            "vocab_size": VOCABULARY[root],
            "max_len": max_len,
        }
    for name in TIMES:
        spec[name] = {"source": "", "type": "sequence", "padding_idx": 0, "vocab_size": 12, "max_len": max_len}
    for name, dim in dims.items():
        spec[name]["embedding_dim"] = dim
    return spec


def make_feature_map(spec: dict[str, dict], data_dir: Path | str = "", dataset_id: str = "made") -> FeatureMap:
    feature_map = FeatureMap(dataset_id, str(data_dir))
    feature_map.features.update(spec)
    feature_map.labels = ["label"]
    feature_map.default_emb_dim = 4
    feature_map.num_fields = feature_map.get_num_fields()
    feature_map.set_column_index()
    return feature_map


def make_batch(lengths: list[int], max_len: int = 6, seed: int = 0) -> dict[str, torch.Tensor]:
    """Return post-padded histories of the given lengths, without OOV ids.

    OOV is the last id of a vocabulary.
    """
    generator = torch.Generator().manual_seed(seed)

    def ids(name: str, *shape: int) -> torch.Tensor:
        return torch.randint(1, VOCABULARY[name] - 1, shape, generator=generator)

    rows = len(lengths)
    mask = torch.arange(max_len) < torch.tensor(lengths).view(-1, 1)
    batch = {name: ids(name, rows) for name in VOCABULARY}
    for name, root in (
        ("item_history", "item_id"),
        ("cate_history", "cate_id"),
        ("query_history", "query"),
        ("neg_item_history", "item_id"),
        ("neg_cate_history", "cate_id"),
    ):
        batch[name] = ids(root, rows, max_len) * mask
    batch["price"] = torch.rand(rows, generator=generator)
    batch["user_id"] = torch.arange(rows)
    batch["label"] = torch.randint(0, 2, (rows,), generator=generator).float()
    for name, share in TIMES.items():
        begins = torch.rand(rows, max_len, generator=generator) < share
        batch[name] = (begins.cumsum(dim=1) % 10 + 1) * mask
    return batch


DEFAULTS: dict[str, Any] = {
    "optimizer": "adam",
    "loss": "binary_crossentropy",
    "metrics": ["AUC"],
    "verbose": 0,
    "model_root": "unused",
    "embedding_dim": 4,
    "dnn_hidden_units": [8, 4],
    "attention_hidden_units": [6, 3],
    "aux_hidden_units": [6, 3],
    "dien_target_field": ("item_id", "cate_id"),
    "dien_sequence_field": ("item_history", "cate_history"),
    "dien_neg_seq_field": [],
}

TWO: dict[str, Any] = {
    "dien_target_field": [("item_id", "cate_id"), "query"],
    "dien_sequence_field": [("item_history", "cate_history"), "query_history"],
}
"""Fields of a DIEN of two sequences."""

SEQUENCES = ["item_history", "cate_history", "query_history", "neg_item_history", "neg_cate_history", *TIMES]


def train_loss(model: Any, batch: dict[str, torch.Tensor], seed: int = 0) -> tuple[torch.Tensor, dict]:
    """Return the loss of one training step, and each parameter's gradient by name."""
    torch.manual_seed(seed)
    result = model.train()(batch)
    loss = model.compute_loss(result, model.get_labels(batch))
    model.zero_grad()
    loss.backward()
    return loss, {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def moved(batch: dict[str, torch.Tensor], place: Callable[[int, int], Any]) -> dict[str, torch.Tensor]:
    """Return histories with padding at other places.

    ``place`` maps a row's real steps to positions.
    """
    other = {name: x.clone() for name, x in batch.items()}
    for name in SEQUENCES:
        for row in range(len(other[name])):
            real = batch[name][row][batch[name][row] > 0]
            other[name][row] = 0
            other[name][row, place(len(real), other[name].size(1))] = real
    return other


def write_catalogues(data_dir: Path) -> None:
    """Write the behaviour catalogues of items and of queries.

    The number of an item gives its category.
    """
    folder = data_dir / "behaviour_catalogue"
    folder.mkdir()
    items, queries = (np.arange(1, VOCABULARY[name] - 1) for name in ("item_id", "query"))
    np.savez(folder / "item_history.npz", item_history=items, cate_history=items % 6 + 1, count=items)
    np.savez(folder / "query_history.npz", query_history=queries, count=queries)


ZOO_BASE = """
Base:
    model_root: './checkpoints/'
    num_workers: 0
    verbose: 0
    early_stop_patience: 2
    pickle_feature_encoder: True
    save_best_only: True
    eval_steps: null
    debug_mode: False
    group_id: null
    use_features: null
    feature_specs: null
    feature_config: null
"""
"""`Base` of the zoo's model_config.yaml, without progress bars and worker processes."""
