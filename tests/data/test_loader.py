from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from fuxictr.features import FeatureMap
from fuxictr.pytorch.dataloaders import RankDataLoader
from made_data import entry, write_samples

from data.dataset import prepare_dataset
from data.encoded import EncodedSplit, HistoryTable
from data.loader import InMemoryDataLoader

LENGTHS = np.array([3, 0, 1, 2, 5])


@pytest.fixture
def feature_map() -> FeatureMap:
    made = FeatureMap("made", "")
    made.labels = ["label"]
    made.features = OrderedDict(
        item={"type": "categorical"}, price={"type": "numeric"}, vector={"type": "embedding"},
        history={"type": "sequence", "max_len": 6}, side={"type": "sequence", "max_len": 6},
        other={"type": "sequence", "max_len": 3},
    )
    return made


def split(padding: str = "post") -> EncodedSplit:
    ids = np.arange(1, 12, dtype=np.int32)
    with_padding = np.append(ids, np.int32(0))
    start = np.cumsum(LENGTHS) - LENGTHS
    columns = {
        "item": np.arange(10, 15, dtype=np.int32), "price": np.linspace(0, 1, 5, dtype=np.float32),
        "vector": np.ones((5, 2), dtype=np.float32), "label": np.array([0, 1, 0, 1, 1], dtype=np.float32),
    }
    shared = HistoryTable({"history": with_padding, "side": with_padding * 100}, start, LENGTHS, padding)
    other = HistoryTable({"other": with_padding}, np.array([4, 4, 5, 6, 4]), np.array([1, 0, 1, 0, 1]), padding)
    return EncodedSplit(columns, [shared, other])


def test_batches_are_dicts_of_padded_tensors(feature_map: FeatureMap) -> None:
    loader = InMemoryDataLoader.from_encoded(feature_map, split(), batch_size=4)
    first, second = list(loader)
    assert first.keys() == {"item", "price", "vector", "label", "history", "side", "other"}
    assert (len(loader), loader.num_batches, loader.num_samples, loader.num_blocks) == (2, 2, 5, 1)
    assert first["history"].tolist() == [[1, 2, 3], [0, 0, 0], [4, 0, 0], [5, 6, 0]]
    assert first["side"].tolist() == [[100, 200, 300], [0, 0, 0], [400, 0, 0], [500, 600, 0]]
    assert first["other"].tolist() == [[5], [0], [6], [0]]
    assert second["history"].tolist() == [[7, 8, 9, 10, 11]]
    assert first["item"].tolist() == [10, 11, 12, 13] and first["vector"].shape == (4, 2)
    assert {name: tensor.dtype for name, tensor in first.items()} == {
        "item": torch.int64, "history": torch.int64, "side": torch.int64, "other": torch.int64,
        "price": torch.float32, "vector": torch.float32, "label": torch.float32,
    }


def test_pre_padding(feature_map: FeatureMap) -> None:
    batch = next(iter(InMemoryDataLoader.from_encoded(feature_map, split("pre"), batch_size=4)))
    assert batch["history"].tolist() == [[1, 2, 3], [0, 0, 0], [0, 0, 4], [0, 5, 6]]


@pytest.mark.parametrize("padding", ["pre", "post"])
def test_untrimmed_batches_have_max_len(padding: str, feature_map: FeatureMap) -> None:
    loader = InMemoryDataLoader.from_encoded(feature_map, split(padding), batch_size=2, trim_histories=False)
    trimmed = InMemoryDataLoader.from_encoded(feature_map, split(padding), batch_size=2)
    for batch, expected in zip(loader, trimmed, strict=True):
        assert batch["history"].shape[1] == 6 and batch["other"].shape[1] == 3
        for name in ("history", "side", "other"):
            width = expected[name].shape[1]
            real, rest = (batch[name][:, -width:], batch[name][:, :-width]) if padding == "pre" else (
                batch[name][:, :width], batch[name][:, width:])
            assert torch.equal(real, expected[name]) and not rest.any()


def test_all_empty_histories_keep_one_position(feature_map: FeatureMap) -> None:
    made = split()
    made.tables[0].length = np.zeros(5, dtype=np.int64)
    batch = next(iter(InMemoryDataLoader.from_encoded(feature_map, made, batch_size=5)))
    assert batch["history"].tolist() == [[0]] * 5


def test_unused_features_are_left_out(feature_map: FeatureMap) -> None:
    feature_map.features = OrderedDict((name, feature_map.features[name]) for name in ("item", "side"))
    batch = next(iter(InMemoryDataLoader.from_encoded(feature_map, split(), batch_size=5)))
    assert batch.keys() == {"item", "side", "label"}


def test_shuffling_follows_the_global_generator(feature_map: FeatureMap) -> None:
    loader = InMemoryDataLoader.from_encoded(feature_map, split(), batch_size=2, shuffle=True)

    def epoch() -> list[int]:
        return torch.cat([batch["item"] for batch in loader]).tolist()

    torch.manual_seed(7)
    state = torch.get_rng_state()
    first, second = epoch(), epoch()
    assert sorted(first) == sorted(second) == [10, 11, 12, 13, 14] and first != second
    torch.set_rng_state(state)
    assert (epoch(), epoch()) == (first, second)
    rows = {int(item): row for batch in loader for item, row in zip(batch["item"], batch["history"], strict=True)}
    assert rows[14].tolist() == [7, 8, 9, 10, 11]


def test_the_zoo_hands_it_over(tmp_path: Path) -> None:
    params = prepare_dataset(entry(write_samples(tmp_path / "in"), tmp_path, data_format="parquet"))
    feature_map = FeatureMap("made", str(tmp_path / "made"))
    feature_map.load(str(tmp_path / "made" / "feature_map.json"), params)
    loaders = RankDataLoader(feature_map, stage="both", **params)
    assert all(isinstance(loader, InMemoryDataLoader) for loader in loaders)
    assert [sum(len(batch["label"]) for batch in loader) for loader in loaders] == [
        loader.num_samples for loader in loaders]
    # Splits map the same stored behaviours from disk.
    files = {table.columns["item_history"].filename for loader in loaders for table, _ in loader._tables}
    assert len(files) == 1
