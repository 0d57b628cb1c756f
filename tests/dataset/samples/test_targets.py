"""`targets_per_user`: fewer training rows, and nothing else changes."""

import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from made_raw import as_log, random_reviews

from dien_fuxictr.dataset.samples.build_options import BuildOptions
from dien_fuxictr.dataset.samples.samples import Samples
from dien_fuxictr.dataset.samples.sampling import make_samples, rank_strata

REVIEWS = as_log(random_reviews(users=60, days=200))
COUNTS = (1, 2, 3, 4, 64, None)


def made(targets: int | None, log: pl.DataFrame = REVIEWS, **more) -> Samples:
    given = {"source": "amazon", "reviews": "", "meta": "", "max_len": 3, "targets_per_user": targets, **more}
    return make_samples(log, BuildOptions.of(given))


def rows_of(frame: pl.DataFrame) -> Counter:
    return Counter(frame.rows())


@pytest.mark.parametrize("negatives", ["matched", "popularity", "uniform"])
def test_only_training_rows_change_and_fewer_are_a_part_of_more(negatives: str) -> None:
    samples = {targets: made(targets, negatives=negatives, test_last=2) for targets in COUNTS}
    every = samples[None]
    for targets, fewer in samples.items():
        for split in ("valid", "test"):
            assert fewer.splits[split].equals(every.splits[split])
        assert fewer.behaviours.equals(every.behaviours)
        left_out = [fewer.left_out] if fewer.left_out is not None else []
        assert (targets in (64, None)) == (not left_out)
        whole = pl.concat([fewer.splits["train"], *left_out])
        positives = pl.col("label") == 1
        assert rows_of(whole.filter(positives)) == rows_of(every.splits["train"].filter(positives))
        # Vocabularies are in the order of these counts.
        assert Counter(whole["item_id"]) == Counter(every.splits["train"]["item_id"]) or negatives != "matched"
        assert negatives == "matched" or rows_of(whole) == rows_of(every.splits["train"])
    for few, many in itertools.pairwise(COUNTS[:-1]):
        parts = [rows_of(samples[targets].splits["train"]) for targets in (few, many)]
        assert parts[0] < parts[1]


@pytest.mark.parametrize("targets", [1, 2, 3])
def test_most_recent_targets_of_each_user_stay(targets: int) -> None:
    every, fewer = (made(count, max_len=100).splits["train"].filter(pl.col("label") == 1) for count in (None, targets))
    of_user = {user: sorted(rows["history_length"], reverse=True) for (user,), rows in every.group_by("user_id")}
    kept = {user: sorted(rows["history_length"], reverse=True) for (user,), rows in fewer.group_by("user_id")}
    assert kept == {user: lengths[:targets] for user, lengths in of_user.items()}
    assert any(len(lengths) > targets for lengths in of_user.values())


@pytest.mark.parametrize("targets", [1, 2, 4])
def test_items_of_the_rows_that_stay_are_matched(targets: int) -> None:
    """Match items of remaining rows, although later behaviours have other items."""
    log = REVIEWS.with_columns(item_id=pl.format("i{}", pl.col("time") // 86_400 // 10 % 20), cate_id=pl.lit("c"))
    items = [
        Counter(rows["item_id"])
        for _, rows in made(targets, log).splits["train"].partition_by("label", as_dict=True).items()
    ]
    assert items[0] == items[1] and len(items[0]) > 3


def test_exposures_of_the_most_recent_requests_stay() -> None:
    rng = np.random.default_rng(0)
    log = REVIEWS.with_columns(
        label=pl.Series(rng.integers(0, 2, REVIEWS.height)).cast(pl.Int8),
        request=(pl.col("time") // 86_400 // 20).cast(pl.String),
    )
    every, fewer = (made(count, log, min_history=0) for count in (None, 1))
    assert fewer.left_out is not None
    assert rows_of(pl.concat([fewer.splits["train"], fewer.left_out])) == rows_of(every.splits["train"])
    spans = fewer.splits["train"].select("user_id", "history_start", "history_length").unique()
    assert spans["user_id"].is_unique().all() and spans.height > 20


def test_strata_double() -> None:
    rank = np.arange(1, 18)
    assert rank_strata(rank, 8).tolist() == [0, 1, 2, 2, 3, 3, 3, 3, *[4] * 9]
    assert rank_strata(rank, 2).tolist() == [0, 1, *[2] * 15]
    assert rank_strata(rank, 2**63 - 1).max() == 5


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_files(form: str, tmp_path: Path) -> None:
    samples = made(1)
    samples.save_csv(tmp_path, verbose=False) if form == "csv" else samples.save(tmp_path)
    assert (tmp_path / f"left_out.{form}").is_file()
    if form == "parquet":
        loaded = Samples.load(tmp_path).left_out
        assert loaded is not None and samples.left_out is not None and loaded.equals(samples.left_out)
