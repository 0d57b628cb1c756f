from collections import Counter

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_raw import as_log, random_reviews
from plain_samples import transcription
from sklearn.metrics import roc_auc_score

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.dataset.samples.options import check_options
from dien_fuxictr.dataset.samples.protocols import DAY, SPLITS
from dien_fuxictr.dataset.samples.samples import Samples
from dien_fuxictr.dataset.samples.sampling import make_samples

REVIEWS = as_log(random_reviews())
ROW = st.fixed_dictionaries(
    {
        "user": st.integers(0, 3),
        "item": st.integers(0, 5),
        "time": st.integers(0, 24).map(lambda half: half * DAY // 2),
        "label": st.integers(0, 1),
        "request": st.integers(0, 4),
    }
)
PROTOCOLS = [
    {"protocol": "leave_one_out"},
    {"protocol": "time", "valid_from": 5 * DAY, "test_from": 8 * DAY},
    {"protocol": "window", "target_days": 8, "history_days": 3, "valid_days": 2, "test_days": 2},
]


def options(**given) -> dict:
    return check_options({"source": "amazon", "reviews": "", "meta": "", **given})


def log_of(rows: list[dict], *more: str) -> pl.DataFrame:
    """A log as it is read; each item has one category, and a colour of each row's own."""
    return pl.DataFrame(
        {
            "user_id": [f"u{row['user']}" for row in rows],
            "item_id": [f"i{row['item']}" for row in rows],
            "cate_id": [f"c{row['item'] % 3}" for row in rows],
            "time": [row["time"] for row in rows],
            "colour": [f"x{number}" for number in range(len(rows))],
            **{name: [row[name] for row in rows] for name in more},
        },
        {
            "user_id": pl.String,
            "item_id": pl.String,
            "cate_id": pl.String,
            "time": pl.Int64,
            "colour": pl.String,
            **{name: pl.Int8 if name == "label" else pl.String for name in more},
        },
        strict=False,
    )


def written(samples: Samples, split: str) -> list[tuple]:
    """Samples as (label, user, item, category, colour, items of the history, colours of the history)."""
    histories = samples.behaviours.select("item_history", "colour_history").rows()
    rows = []
    for *sample, start, length in samples.splits[split].iter_rows():
        items, colours = zip(*histories[start : start + length], strict=True) if length else ((), ())
        rows.append((*sample, items, colours))
    return rows


def compare(rows: list[dict], given: dict, labelled: bool = False, requests: bool = False) -> int:
    """The number of samples that were compared, 0 where a split is empty."""
    log = log_of(rows, *(["label"] if labelled else []), *(["request"] if requests else []))
    expected = transcription(rows, given, labelled, requests)
    splits = {split for split, *_ in expected}
    if splits != {"any"} and (splits != set(SPLITS) or (not labelled and log["item_id"].n_unique() == 1)):
        with pytest.raises(UserError, match=r"the (train|valid|test) split is empty: \d+ users|no negative is left"):
            make_samples(log, given)
        return 0
    samples = make_samples(log, given)
    made = [("any" if splits == {"any"} else split, *row) for split in SPLITS for row in written(samples, split)]
    assert sorted(row for row in made if labelled or row[1] == 1) == sorted(expected)
    if not labelled:
        positive, negative = ([row for row in made if row[1] == label] for label in (1, 0))
        assert sorted((row[0], row[2], *row[6:]) for row in negative) == sorted(
            (row[0], row[2], *row[6:]) for row in positive
        )
        observed = {(f"i{row['item']}", f"x{number}") for number, row in enumerate(rows)}
        assert {(row[3], row[5]) for row in negative} <= observed
    return len(made)


def given_for(protocol: dict, **more) -> dict:
    return options(**protocol, negatives="uniform", ties="file", **more)


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda given: given["protocol"])
@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(rows=st.lists(ROW, min_size=20, max_size=40), max_len=st.integers(1, 6), min_history=st.integers(0, 2))
def test_samples_of_behaviours(protocol: dict, rows: list[dict], max_len: int, min_history: int) -> None:
    compare(rows, given_for(protocol, max_len=max_len, min_history=min_history))


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda given: given["protocol"])
@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(rows=st.lists(ROW, min_size=20, max_size=40), max_len=st.integers(1, 6), requests=st.booleans())
def test_samples_of_exposures(protocol: dict, rows: list[dict], max_len: int, requests: bool) -> None:
    compare(rows, given_for(protocol, max_len=max_len, min_history=0), True, requests)


@pytest.mark.parametrize("protocol", [*PROTOCOLS, {"protocol": "last"}], ids=lambda given: given["protocol"])
@pytest.mark.parametrize(("labelled", "requests"), [(False, False), (True, False), (True, True)])
def test_samples_of_a_larger_log(protocol: dict, labelled: bool, requests: bool) -> None:
    rng = np.random.default_rng(0)
    rows = [
        {
            "user": int(rng.integers(30)),
            "item": int(rng.integers(20)),
            "time": int(rng.integers(25)) * DAY // 2,
            "label": int(rng.integers(2)),
            "request": int(rng.integers(6)),
        }
        for _ in range(500)
    ]
    assert compare(rows, given_for(protocol), labelled, requests) >= 30


def test_the_industrial_window() -> None:
    """49 days of targets, 14 days of history before each, at most 50 behaviours."""
    rng = np.random.default_rng(0)
    rows = [
        {"user": user, "item": int(rng.integers(40)), "time": int(time)}
        for user in range(6)
        for time in rng.integers(0, 80 * DAY, 500)
    ]
    given = options(protocol="window", ties="file")
    assert given["target_days"] == 49 and given["history_days"] == 14 and given["max_len"] == 50
    samples = make_samples(log_of(rows), given)
    lengths = np.concatenate([part["history_length"].to_numpy() for part in samples.splits.values()])
    assert lengths.max() == 50
    assert compare(rows, given) > 1000


def test_last_keeps_test_users_unseen_in_every_fold() -> None:
    tested = []
    for fold in range(5):
        samples = make_samples(REVIEWS, options(protocol="last", folds=5, fold=fold))
        users = {split: set(part["user_id"]) for split, part in samples.splits.items()}
        assert not users["test"] & (users["train"] | users["valid"]) and not users["train"] & users["valid"]
        assert all(part.height == 2 * part["user_id"].n_unique() for part in samples.splits.values())
        tested += users["test"]
    assert sorted(tested) == sorted(REVIEWS["user_id"].unique())


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


def test_one_option_does_not_change_what_another_draws() -> None:
    first, other = (make_samples(REVIEWS, options(negatives=name)) for name in ("matched", "uniform"))
    assert first.behaviours.equals(other.behaviours)
    for split in SPLITS:
        positive = [samples.splits[split].filter(pl.col("label") == 1) for samples in (first, other)]
        assert positive[0].equals(positive[1])


def test_each_split_has_random_numbers_of_its_own() -> None:
    """Validation and test have a positive and a negative of every user: equal draws would make equal choices."""
    samples = make_samples(REVIEWS, options(negatives="uniform"))
    valid, test = (samples.splits[split] for split in ("valid", "test"))
    assert valid.height == test.height
    # The same order would put every user's rows at the same places; by chance few are.
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
    """Users with ten different items on each of two days, sorted by item as the real files are."""
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


def test_ties_at_random_tell_nothing_and_those_of_the_file_do(tied: pl.DataFrame) -> None:
    """A random order of 10 has 9 neighbouring pairs, and the number of ascending ones has the variance 11/12."""
    share, pairs = next_above(tied, "random")
    deviation = np.sqrt(11 / 12 * pairs / 9) / pairs
    assert pairs == 54_000 and 6 * deviation < 0.01
    assert abs(share - 0.5) < 0.01
    assert next_above(tied, "file") == (1.0, pairs)


def test_behaviours_of_exposures_know_what_was_passed_over() -> None:
    """Two requests; the second shows what the first was clicked for."""
    rows = [
        ("a", 1, "r1", 1),
        ("b", 1, "r1", 0),
        ("c", 2, "r2", 0),
        ("a", 2, "r2", 0),
        ("c", 3, "r2", 1),
        ("a", 4, "r3", 1),
        ("d", 5, "r4", 1),
        ("e", 6, "r5", 0),
        ("e", 7, "r6", 1),
    ]
    items, times, requests, labels = zip(*rows, strict=True)
    log = pl.DataFrame(
        {"user_id": "u", "item_id": items, "cate_id": items, "time": times, "label": labels, "request": requests}
    ).with_columns(cate_id=pl.format("c{}", "item_id"))
    samples = make_samples(log, options(min_history=0))
    assert samples.behaviours.columns == [
        "item_history",
        "cate_history",
        "neg_item_history",
        "neg_cate_history",
        "session_history",
        "day_history",
        "time",
        "user_id",
    ]
    passed = {"a": "b", "c": "a", "d": "a", "e": "a"}  # at 4 "a" was clicked: nearest before is "c"
    for item, _, negative, category, _, _, time, _ in samples.behaviours.iter_rows():
        expected = "c" if time == 4 else passed[item]
        assert (negative, category) == (expected, f"c{expected}")


def test_behaviours_without_anything_passed_over() -> None:
    log = log_of([{"user": 0, "item": item, "time": item, "label": int(item != 5)} for item in range(6)], "label")
    samples = make_samples(log, options(min_history=0))
    assert samples.behaviours.select(pl.col("^neg_.*$").n_unique()).row(0) == (1, 1, 1)
    assert samples.behaviours["neg_item_history"][0] == "" and samples.behaviours["neg_colour_history"][0] == ""


def test_counts() -> None:
    samples = make_samples(REVIEWS, options())
    counts = samples.info["counts"]
    users = REVIEWS["user_id"].n_unique()
    assert (counts["users"], counts["items"], counts["categories"]) == (users, REVIEWS["item_id"].n_unique(), 4)
    assert counts["behaviours"] == REVIEWS.height
    assert counts["test"]["rows"] == 2 * users and counts["test"]["positives"] == users
    mean = np.mean([len(row[-1]) for row in written_plain(samples, "test")])
    assert counts["test"]["mean_history"] == pytest.approx(mean, abs=0.005)
    assert samples.splits["test"].schema == {
        "label": pl.Int8,
        "user_id": pl.String,
        "item_id": pl.String,
        "cate_id": pl.String,
        "history_start": pl.Int64,
        "history_length": pl.Int32,
    }
