from pathlib import Path

import numpy as np
import polars as pl
from made_data import entry, prepare_entry, write_samples

from dien_fuxictr.dataset.encoding.behaviour_catalogue import observed_tuples, tuples_of
from dien_fuxictr.dataset.encoding.encoded import EncodedHistory


def history(ids: list[int], start: list[int], length: list[int]) -> EncodedHistory:
    return EncodedHistory(
        np.array(ids, dtype=np.int32), np.array(start), np.array(length), np.zeros(len(start), dtype=bool), "post"
    )


def test_distinct_tuples_of_training_rows() -> None:
    start, length = [0, 0, 5], [3, 5, 2]  # behaviour 7 is in no row; 0 to 2 are in two rows and are counted once
    histories = {
        "item": history([3, 4, 3, 0, 9, 3, 4, 8], start, length),
        "cate": history([1, 2, 1, 1, 1, 2, 0, 1], start, length),
    }
    found = observed_tuples(histories, ["item", "cate"], oov=9)
    assert found["item"].tolist() == [3, 3, 4, 4]
    assert found["cate"].tolist() == [1, 2, 0, 2]
    assert found["count"].tolist() == [2, 1, 1, 1]


def test_items_not_clicked_form_separate_tuples() -> None:
    features = {
        "item_id": {},
        "item_history": {"share_embedding": "item_id"},
        "cate_history": {},
        "neg_item_history": {"share_embedding": "item_history"},
        "neg_cate_history": {"share_embedding": "cate_history"},
    }
    table = ["item_history", "cate_history", "neg_item_history", "neg_cate_history"]
    assert tuples_of(table, features) == [["item_history", "cate_history"], ["neg_item_history", "neg_cate_history"]]


def test_catalogue_is_written_next_to_the_feature_map(tmp_path: Path) -> None:
    samples = write_samples(tmp_path / "in")
    prepare_entry(entry(samples, tmp_path, data_format="parquet"))
    rows = pl.read_parquet(samples / "train.parquet")
    used = set()
    for start, length in rows.select("history_start", "history_length").iter_rows():
        used.update(range(start, start + length))
    items = pl.read_parquet(samples / "behaviours.parquet")["item_history"].gather(sorted(used))
    expected = sorted(items.value_counts()["count"].to_list())
    with np.load(tmp_path / "made" / "behaviour_catalogue" / "item_history.npz") as catalogue:
        assert set(catalogue.files) == {"item_history", "cate_history", "count"}
        assert sorted(catalogue["count"].tolist()) == expected
        assert catalogue["item_history"].min() > 0
