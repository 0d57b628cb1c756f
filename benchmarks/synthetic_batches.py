"""Feature maps and batches of all benchmarks, in the sizes of the paper's data."""

from dataclasses import dataclass

import numpy as np
import torch
from fuxictr.features import FeatureMap
from torch import Tensor

LENGTHS = ("amazon", "full")
MEAN_LENGTH = 9
HISTORIES = {"item_history": "item_id", "cate_history": "cate_id"}
NEGATIVES = {"neg_item_history": "item_id", "neg_cate_history": "cate_id"}
SEQUENCES = (*HISTORIES, *NEGATIVES)


@dataclass(frozen=True)
class Sizes:
    """Sizes of a data set and its model; by default the authors' Amazon Electronics.

    Attributes:
        items, categories, contexts: sizes of vocabularies, with padding (0) and unknown (the last id).
        embedding: size of an id's embedding; a behaviour, an item with its category, has two of them.
        attention_units, aux_units, mlp_units: hidden layers of DIN's attention unit, of the auxiliary network and of
        the MLP.
        max_len: longest history of the data set.
    """

    items: int = 63_001
    categories: int = 801
    contexts: int = 26
    embedding: int = 18
    attention_units: tuple[int, ...] = (80, 40)
    aux_units: tuple[int, ...] = (100, 50)
    mlp_units: tuple[int, ...] = (200, 80)
    max_len: int = 100

    @property
    def behaviour(self) -> int:
        """Return the size of a behaviour's embedding, and of the states of both GRUs."""
        return 2 * self.embedding

    @property
    def vocabularies(self) -> dict[str, int]:
        """Return feature -> size of its vocabulary."""
        return {"item_id": self.items, "cate_id": self.categories, "context": self.contexts}


AMAZON = Sizes()


def make_feature_map(sizes: Sizes, negatives: bool) -> FeatureMap:
    """Return the feature map of target, context and histories.

    Args:
        sizes: sizes of the vocabularies.
        negatives: whether it has columns of negatives.
    """
    feature_map = FeatureMap("made", "")
    for name, size in sizes.vocabularies.items():
        feature_map.features[name] = {"source": "", "type": "categorical", "padding_idx": 0, "vocab_size": size}
    for name, root in (HISTORIES | NEGATIVES if negatives else HISTORIES).items():
        feature_map.features[name] = {
            "source": "",
            "type": "sequence",
            "share_embedding": root,
            "padding_idx": 0,
            "vocab_size": sizes.vocabularies[root],
            "max_len": sizes.max_len,
        }
    feature_map.labels = ["label"]
    feature_map.default_emb_dim = sizes.embedding
    feature_map.num_fields = feature_map.get_num_fields()
    feature_map.set_column_index()
    return feature_map


def make_lengths(kind: str, rows: int, max_len: int, seed: int = 0) -> np.ndarray:
    """Return numbers of behaviours, (rows,).

    Args:
        kind: `full`, all of them max_len; or `amazon`, 1 + geometric with mean 9 in all, cut at max_len.
        rows: number of rows.
        max_len: largest number.
        seed: seed of the draws.
    """
    if kind == "full":
        return np.full(rows, max_len)
    return np.random.default_rng(seed).geometric(1 / MEAN_LENGTH, rows).clip(max=max_len)


def make_batch(sizes: Sizes, lengths: np.ndarray, seed: int = 0) -> dict[str, Tensor]:
    """Return a batch of the zoo's loaders, post-padded to max_len.

    Ids are uniform; a category is that of its item.
    """
    generator = torch.Generator().manual_seed(seed)
    rows = len(lengths)
    mask = torch.arange(sizes.max_len) < torch.from_numpy(lengths).view(-1, 1)

    def items(*shape: int) -> Tensor:
        return torch.randint(1, sizes.items - 1, shape, generator=generator)

    def categories(items: Tensor) -> Tensor:
        return 1 + items % (sizes.categories - 2)

    batch = {
        "item_id": items(rows),
        "context": torch.randint(1, sizes.contexts - 1, (rows,), generator=generator),
        "item_history": items(rows, sizes.max_len) * mask,
        "neg_item_history": items(rows, sizes.max_len) * mask,
        "label": torch.randint(0, 2, (rows,), generator=generator).float(),
    }
    batch["cate_id"] = categories(batch["item_id"])
    for name in ("cate_history", "neg_cate_history"):
        batch[name] = categories(batch[name.replace("cate", "item")]) * mask
    return batch


def trimmed(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the batch padded to its longest history, like `InMemoryDataLoader`."""
    longest = int((batch["item_history"] > 0).sum(dim=1).max())
    return {name: x[:, :longest].contiguous() if name in SEQUENCES else x for name, x in batch.items()}
