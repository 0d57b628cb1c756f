import inspect
import itertools
import threading
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from fuxictr.features import FeatureMap
from fuxictr.pytorch.dataloaders import RankDataLoader
from fuxictr.pytorch.dataloaders.npz_dataloader import NpzDataLoader
from made_data import entry, prepare_entry, write_samples

from dien_fuxictr.dataset.encoding.encoded import EncodedSplit, HistoryTable
from dien_fuxictr.dataset.loading.loader import InMemoryDataLoader, prefetched

LENGTHS = np.array([3, 0, 1, 2, 5])


@pytest.fixture
def feature_map() -> FeatureMap:
    made = FeatureMap("made", "")
    made.labels = ["label"]
    made.features = OrderedDict(
        item={"type": "categorical"},
        price={"type": "numeric"},
        vector={"type": "embedding"},
        history={"type": "sequence", "max_len": 6},
        side={"type": "sequence", "max_len": 6},
        other={"type": "sequence", "max_len": 3},
    )
    return made


def split(padding: str = "post") -> EncodedSplit:
    ids = np.arange(1, 12, dtype=np.int32)
    with_padding = np.append(ids, np.int32(0))
    start = np.cumsum(LENGTHS) - LENGTHS
    columns = {
        "item": np.arange(10, 15, dtype=np.int32),
        "price": np.linspace(0, 1, 5, dtype=np.float32),
        "vector": np.ones((5, 2), dtype=np.float32),
        "label": np.array([0, 1, 0, 1, 1], dtype=np.float32),
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
        "item": torch.int64,
        "history": torch.int64,
        "side": torch.int64,
        "other": torch.int64,
        "price": torch.float32,
        "vector": torch.float32,
        "label": torch.float32,
    }


def test_default_batch_size_is_the_zoos(feature_map: FeatureMap) -> None:
    size = inspect.signature(NpzDataLoader).parameters["batch_size"].default
    assert InMemoryDataLoader.from_encoded(feature_map, split()).batch_size == size


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
            real, rest = (
                (batch[name][:, -width:], batch[name][:, :-width])
                if padding == "pre"
                else (batch[name][:, :width], batch[name][:, width:])
            )
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


def made_of_lengths(lengths: np.ndarray) -> EncodedSplit:
    ids = np.zeros(lengths.max() + 1, dtype=np.int32)
    table = HistoryTable({"history": ids}, np.zeros_like(lengths), lengths, "post")
    return EncodedSplit({"item": np.arange(len(lengths), dtype=np.int32)}, [table])


def test_buckets_gather_rows_of_similar_length(feature_map: FeatureMap, monkeypatch: pytest.MonkeyPatch) -> None:
    feature_map.features = OrderedDict((name, feature_map.features[name]) for name in ("item", "history"))
    feature_map.labels = []
    lengths = np.random.default_rng(0).integers(0, 100, 90)

    def epoch(buckets: int, shuffle: bool = True) -> list[np.ndarray]:
        monkeypatch.setattr("dien_fuxictr.dataset.loading.loader.BUCKET", buckets)
        torch.manual_seed(3)
        loader = InMemoryDataLoader.from_encoded(
            feature_map, made_of_lengths(lengths), batch_size=8, shuffle=shuffle, bucket_by_length=True
        )
        return [batch["item"].numpy() for batch in loader]

    for buckets in (1, 4, 100):
        batches = epoch(buckets)
        assert sorted(np.concatenate(batches)) == list(range(90)) and sorted(map(len, batches)) == [2] + [8] * 11
        assert all(map(np.array_equal, batches, epoch(buckets)))
    # All rows in one bucket: batches are slices of one sorted order, yielded in another order.
    spans = [(lengths[rows].min(), lengths[rows].max()) for rows in batches]
    assert spans != sorted(spans)
    spans.sort()
    assert all(earlier[1] <= later[0] for earlier, later in itertools.pairwise(spans))
    spread = [np.mean([np.ptp(lengths[rows]) for rows in epoch(buckets)]) for buckets in (100, 4, 1)]
    assert spread == sorted(spread)
    assert np.concatenate(epoch(100, shuffle=False)).tolist() == list(range(90))


def test_bucketed_passes_follow_the_global_generator(feature_map: FeatureMap) -> None:
    loader = InMemoryDataLoader.from_encoded(feature_map, split(), batch_size=2, shuffle=True, bucket_by_length=True)
    torch.manual_seed(7)
    state = torch.get_rng_state()
    first, second = ([batch["item"].tolist() for batch in loader] for _ in range(2))
    torch.set_rng_state(state)
    torch.empty((), dtype=torch.int64).random_()  # a pass draws one number
    assert [batch["item"].tolist() for batch in loader] == second and first != second


def test_the_order_is_drawn_as_the_iterator_starts(feature_map: FeatureMap) -> None:
    loader = InMemoryDataLoader.from_encoded(feature_map, split(), batch_size=2, shuffle=True)
    torch.manual_seed(7)
    expected = [batch["item"].tolist() for batch in loader]
    torch.manual_seed(7)
    batches = iter(loader)
    torch.rand(9)
    assert [batch["item"].tolist() for batch in batches] == expected


def test_batches_for_a_gpu_are_pinned_and_prefetched(feature_map: FeatureMap, monkeypatch: pytest.MonkeyPatch) -> None:
    pinned = []
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: pinned.append(tensor) or tensor)
    expected = list(InMemoryDataLoader.from_encoded(feature_map, split(), batch_size=2))
    batches = iter(InMemoryDataLoader.from_encoded(feature_map, split(), batch_size=2, gpu=0))
    made = [next(batches), *batches]
    assert [batch["history"].tolist() for batch in made] == [batch["history"].tolist() for batch in expected]
    assert {id(tensor) for batch in made for tensor in batch.values()} == set(map(id, pinned))


def test_prefetching_keeps_order_and_errors() -> None:
    assert list(prefetched(iter(range(1, 10)))) == list(range(1, 10))
    assert list(prefetched(iter(()))) == []

    def broken() -> Iterator[int]:
        yield 1
        raise OSError("unreadable")

    items = prefetched(broken())
    assert next(items) == 1
    with pytest.raises(OSError, match="unreadable"):
        next(items)

    before = threading.active_count()
    endless = prefetched(itertools.count(1))
    assert next(endless) == 1 and threading.active_count() == before + 1
    endless.close()
    assert threading.active_count() == before


def test_two_items_are_prepared_ahead() -> None:
    prepared = itertools.count(1)
    items = prefetched(prepared)
    assert next(items) == 1
    items.close()  # waits for the thread
    assert next(prepared) == 4


def test_the_zoo_hands_it_over(tmp_path: Path) -> None:
    params = prepare_entry(entry(write_samples(tmp_path / "in"), tmp_path, data_format="parquet"))
    feature_map = FeatureMap("made", str(tmp_path / "made"))
    feature_map.load(str(tmp_path / "made" / "feature_map.json"), params)
    loaders = RankDataLoader(feature_map, stage="both", **params)
    assert all(isinstance(loader, InMemoryDataLoader) for loader in loaders)
    assert [sum(len(batch["label"]) for batch in loader) for loader in loaders] == [
        loader.num_samples for loader in loaders
    ]
    # Splits map the same stored behaviours from disk.
    files = {table.columns["item_history"].filename for loader in loaders for table, _ in loader._tables}
    assert len(files) == 1
