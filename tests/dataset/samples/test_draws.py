"""Random parts of samples: negatives, ties, order of rows, and their seed."""

from collections import Counter
from hashlib import blake2b

import numpy as np
import polars as pl
import pytest
from made_raw import as_log, random_reviews
from sklearn.metrics import roc_auc_score

from dien_fuxictr.dataset.samples.build_options import BuildOptions
from dien_fuxictr.dataset.samples.protocols import DAY, SPLITS
from dien_fuxictr.dataset.samples.samples import Samples
from dien_fuxictr.dataset.samples.sampling import make_samples

REVIEWS = as_log(random_reviews())


def options(**given) -> BuildOptions:
    return BuildOptions.of({"source": "amazon", "reviews": "", "meta": "", **given})


@pytest.mark.parametrize(
    "protocol",
    [
        {"protocol": "leave_one_out"},
        {"protocol": "last"},
        {"protocol": "time", "valid_from": 40 * DAY, "test_from": 50 * DAY},
    ],
)
@pytest.mark.parametrize("exclude", [True, False])
def test_no_rule_on_the_item_alone_tells_matched_negatives(protocol: dict, exclude: bool) -> None:
    log = as_log(random_reviews(users=150))
    samples = make_samples(log, options(**protocol, exclude_history=exclude))
    for split, part in samples.splits.items():
        items = {label: part.filter(pl.col("label") == label)["item_id"].to_list() for label in (0, 1)}
        assert Counter(items[0]) == Counter(items[1])
        for seed in range(3):
            rule = dict(zip(log["item_id"].unique(), np.random.default_rng(seed).integers(20, size=100), strict=False))
            score = part["item_id"].replace_strict(rule)
            assert roc_auc_score(part["label"], score) == pytest.approx(0.5, abs=1e-12)
        if exclude:
            for label, _, item, _, history in written_plain(samples, split):
                assert label == 1 or item not in history


def written_plain(samples: Samples, split: str) -> list[tuple]:
    items = samples.behaviours["item_history"].to_list()
    return [(*sample, items[start : start + length]) for *sample, start, length in samples.splits[split].iter_rows()]


@pytest.mark.parametrize("negatives", ["popularity", "uniform"])
def test_other_negatives_come_from_the_whole_log(negatives: str) -> None:
    samples = make_samples(REVIEWS, options(negatives=negatives, exclude_history=True))
    test = samples.splits["test"]
    drawn, chosen = (set(test.filter(pl.col("label") == label)["item_id"]) for label in (0, 1))
    assert drawn - chosen
    assert all(label == 1 or item not in history for label, _, item, _, history in written_plain(samples, "test"))


def equal(one: Samples, other: Samples) -> bool:
    return one.behaviours.equals(other.behaviours) and all(
        one.splits[split].equals(other.splits[split]) for split in SPLITS
    )


@pytest.mark.parametrize("negatives", ["matched", "popularity", "uniform"])
def test_the_seed_decides_everything(negatives: str) -> None:
    first = make_samples(REVIEWS, options(negatives=negatives))
    assert equal(first, make_samples(REVIEWS, options(negatives=negatives)))
    other = make_samples(REVIEWS, options(negatives=negatives, seed=7))
    assert not first.behaviours.equals(other.behaviours)
    for split in SPLITS:
        drawn = [
            part.filter(pl.col("label") == 0)["item_id"].sort() for part in (first.splits[split], other.splits[split])
        ]
        assert not first.splits[split].equals(other.splits[split])
        assert negatives == "matched" or not drawn[0].equals(drawn[1])


@pytest.mark.parametrize(
    ("given", "digest"),
    [
        ({"negatives": "matched"}, "9a1763a906c205de"),
        ({"negatives": "popularity"}, "b2864729be830aab"),
        ({"negatives": "uniform"}, "babb8f32c96659ea"),
        ({"protocol": "last"}, "10f73318a44b7492"),
        ({"min_history": 0}, "dbcd3c6867c6191f"),
    ],
)
def test_samples_of_a_seed_equal_earlier_versions(given: dict, digest: str) -> None:
    """Compare with digests of earlier versions.

    A data set that is built again must have results that can be compared with earlier ones.
    """
    labels = (pl.int_range(pl.len()) % 3 == 0).cast(pl.Int8)
    log = REVIEWS if "min_history" not in given else REVIEWS.with_columns(label=labels)
    samples = make_samples(log, options(**given))
    text = "".join(table.write_csv() for table in (samples.behaviours, *samples.splits.values()))
    assert blake2b(text.encode(), digest_size=8).hexdigest() == digest


def test_one_option_does_not_change_what_another_draws() -> None:
    first, other = (make_samples(REVIEWS, options(negatives=name)) for name in ("matched", "uniform"))
    assert first.behaviours.equals(other.behaviours)
    for split in SPLITS:
        positive = [samples.splits[split].filter(pl.col("label") == 1) for samples in (first, other)]
        assert positive[0].equals(positive[1])


def test_each_split_has_separate_random_numbers() -> None:
    """Draw different negatives in validation and test, which have equal users."""
    samples = make_samples(REVIEWS, options(negatives="uniform"))
    valid, test = (samples.splits[split] for split in ("valid", "test"))
    assert valid.height == test.height
    # An unchanged order would put every user's rows at the same places; by chance only few are.
    assert (valid["user_id"] == test["user_id"]).mean() < 0.2
    drawn = [part.filter(pl.col("label") == 0).sort("user_id")["item_id"] for part in (valid, test)]
    assert (drawn[0] == drawn[1]).mean() < 0.3


def test_the_rows_of_a_split_are_in_random_order() -> None:
    rows = make_samples(REVIEWS, options()).splits["train"]
    ascending = (rows["history_start"].diff().drop_nulls() > 0).mean()
    assert 0.4 < ascending < 0.6
    assert 0.4 < rows["label"].head(rows.height // 2).mean() < 0.6


@pytest.fixture(scope="module")
def tied() -> pl.DataFrame:
    """Return users with ten different items on each of two days, sorted by item."""
    rng = np.random.default_rng(0)
    items = np.concatenate([rng.choice(1000, 10, replace=False) for _ in range(6000)])
    log = pl.DataFrame(
        {
            "user_id": np.repeat(np.arange(3000), 20),
            "item_id": items,
            "cate_id": "c",
            "time": np.tile(np.repeat([0, DAY], 10), 3000),
        }
    )
    ids = pl.col("user_id").cast(pl.String), pl.format("B{}", pl.col("item_id") + 1000)
    return log.with_columns(*ids).sort("item_id")


def next_above(log: pl.DataFrame, ties: str) -> tuple[float, int]:
    """P(next item > this item | same user and time), and the number of such pairs."""
    rows = make_samples(log, options(ties=ties)).behaviours
    same = (pl.col("user_id") == pl.col("user_id").shift(-1)) & (pl.col("time") == pl.col("time").shift(-1))
    above = rows.select(pl.col("item_history").shift(-1) > pl.col("item_history"), same=same).filter("same")
    return above["item_history"].mean(), above.height


def test_random_ties_carry_no_information(tied: pl.DataFrame) -> None:
    """Compare with the variance of ascending pairs in a random order.

    A random order of 10 has 9 neighbouring pairs, and the number of ascending ones has the variance 11/12.
    """
    share, pairs = next_above(tied, "random")
    deviation = np.sqrt(11 / 12 * pairs / 9) / pairs
    assert pairs == 54_000 and 6 * deviation < 0.01
    assert abs(share - 0.5) < 0.01
    assert next_above(tied, "file") == (1.0, pairs)
