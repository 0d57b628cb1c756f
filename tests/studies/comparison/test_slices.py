from pathlib import Path

import numpy as np
import polars as pl
import pytest
from made_data import entry, prepare_entry, write_samples

from dien_fuxictr.studies.comparison.slices import slice_test_rows, split_by_value


def test_parts_hold_whole_values_and_about_equally_many_rows() -> None:
    values = np.random.default_rng(0).geometric(0.1, 5000)
    slices = split_by_value("length", values)
    assert all(len(np.unique(slices.part[values == value])) == 1 for value in np.unique(values))
    assert len(slices.names) == 5
    heaviest = np.bincount(values).max() / len(values)
    beyond = np.bincount(slices.part).cumsum() / len(values) - np.arange(1, 6) / 5
    assert (beyond >= 0).all() and (beyond <= heaviest).all()
    ends = [name.split("-") for name in slices.names]
    assert [int(low) for low, *_ in ends[1:]] == [int(part[-1]) + 1 for part in ends[:-1]]


def test_few_values() -> None:
    slices = split_by_value("length", np.array([4, 4, 4, 7]))
    assert slices.names == ["4", "7"] and slices.part.tolist() == [0, 0, 0, 1]


def test_slices_of_a_data_set_against_its_samples(tmp_path: Path) -> None:
    samples = write_samples(tmp_path / "samples", users=60)
    params = entry(samples, tmp_path / "root", data_format="parquet")
    prepare_entry(params)
    length, clicks = slice_test_rows(tmp_path / "root" / "made")
    train, test = (pl.read_parquet(samples / f"{split}.parquet") for split in ("train", "test"))
    counts = train.filter(pl.col("label") == 1)["item_id"].value_counts()
    popularity = dict(counts.iter_rows())
    values = {
        "history length": test["history_length"].clip(upper_bound=6).to_numpy(),
        "clicks of the item in training": np.array([popularity.get(item, 0) for item in test["item_id"]]),
    }
    for slices in (length, clicks):
        expected = split_by_value(slices.title, values[slices.title])
        assert slices.names == expected.names and slices.part.tolist() == expected.part.tolist()


def test_a_data_set_that_was_encoded_elsewhere(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        slice_test_rows(tmp_path)
