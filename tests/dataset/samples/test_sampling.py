import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_raw import as_log, random_reviews
from plain_samples import transcription

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.dataset.samples.build_options import BuildOptions
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
    {"protocol": "leave_one_out", "test_last": 2},
    {"protocol": "time", "valid_from": 5 * DAY, "test_from": 8 * DAY},
    {"protocol": "window", "target_days": 8, "history_days": 3, "valid_days": 2, "test_days": 2},
]


def name_of(protocol: dict) -> str:
    return "-".join(map(str, protocol.values()))


def options(**given) -> BuildOptions:
    named = {"input": "", "user": "u", "item": "i", "category": "c", "time": "t"}
    return BuildOptions.of({"source": "log", **named, "side": "colour", "side_varies": "colour", **given})


def log_of(rows: list[dict], *more: str) -> pl.DataFrame:
    """Return a log as the reader returns it; a category belongs to an item, a colour to a row."""
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
    """Return samples as tuples.

    They are (label, user, item, category, colour, items of the history, colours of the history).
    """
    histories = samples.behaviours.select("item_history", "colour_history").rows()
    rows = []
    for *sample, start, length in samples.splits[split].iter_rows():
        items, colours = zip(*histories[start : start + length], strict=True) if length else ((), ())
        rows.append((*sample, items, colours))
    return rows


def compare(rows: list[dict], given: BuildOptions, labelled: bool = False, requests: bool = False) -> int:
    """Return the number of compared samples, 0 if a split is empty."""
    log = log_of(rows, *(["label"] if labelled else []), *(["request"] if requests else []))
    expected = transcription(rows, given.stated(), labelled, requests)
    splits = {split for split, *_ in expected}
    if splits != {"any"} and (splits != set(SPLITS) or (not labelled and log["item_id"].n_unique() == 1)):
        with pytest.raises(UserError, match=r"split is empty: (\d+ users|no row)|no negative is left"):
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
        observed = {(f"i{row['item']}", colour) for n, row in enumerate(rows) for colour in (f"x{n}", "unknown")}
        assert {(row[3], row[5]) for row in negative} <= observed
    return len(made)


def given_for(protocol: dict, **more) -> BuildOptions:
    return options(**protocol, negatives="uniform", ties="file", **more)


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=name_of)
@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(rows=st.lists(ROW, min_size=20, max_size=40), max_len=st.integers(1, 6), min_history=st.integers(0, 2))
def test_samples_of_behaviours(protocol: dict, rows: list[dict], max_len: int, min_history: int) -> None:
    compare(rows, given_for(protocol, max_len=max_len, min_history=min_history))


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=name_of)
@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(rows=st.lists(ROW, min_size=20, max_size=40), max_len=st.integers(1, 6), requests=st.booleans())
def test_samples_of_exposures(protocol: dict, rows: list[dict], max_len: int, requests: bool) -> None:
    compare(rows, given_for(protocol, max_len=max_len, min_history=0), True, requests)


@pytest.mark.parametrize(
    "protocol", [*PROTOCOLS, {"protocol": "last"}], ids=lambda given: "-".join(map(str, given.values()))
)
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


@pytest.mark.parametrize("labelled", [False, True])
def test_rows_that_are_no_targets_are_in_histories_only(labelled: bool) -> None:
    rng = np.random.default_rng(0)
    label = pl.Series(rng.integers(2, size=REVIEWS.height)).cast(pl.Int8)
    log = REVIEWS.with_columns(label=label) if labelled else REVIEWS
    log = log.with_columns(target=pl.Series(rng.integers(2, size=REVIEWS.height)).cast(pl.Int8))
    given = options(ties="file", min_history=0)
    every, some = make_samples(log.drop("target"), given), make_samples(log, given)
    assert some.behaviours.equals(every.behaviours)
    keys = ["label", "user_id", "item_id", "history_start", "history_length"]
    positives = [
        pl.concat(part.splits.values()).filter(pl.lit(labelled) | (pl.col("label") == 1)) for part in (every, some)
    ]
    assert set(positives[1].select(keys).rows()) < set(positives[0].select(keys).rows())
    assert positives[1].height == log["target"].sum() and positives[0].height == log.height


def test_the_industrial_window() -> None:
    """49 days of targets, 14 days of history before each, at most 50 behaviours."""
    rng = np.random.default_rng(0)
    rows = [
        {"user": user, "item": int(rng.integers(40)), "time": int(time)}
        for user in range(6)
        for time in rng.integers(0, 80 * DAY, 500)
    ]
    given = options(protocol="window", ties="file")
    assert given.target_days == 49 and given.history_days == 14 and given.max_len == 50
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


def test_exposures_after_the_click_count_as_not_chosen() -> None:
    rows = [("x", 0, "r0", 0), ("a", 1, "r1", 1), ("b", 2, "r1", 0), ("c", 3, "r2", 1), ("a", 4, "r3", 1)]
    items, times, requests, labels = zip(*rows, strict=True)
    log = pl.DataFrame({"user_id": "u", "item_id": items, "cate_id": "c", "time": times, "label": labels})
    splits = {"protocol": "time", "valid_from": 2, "test_from": 4, "min_history": 0}
    of_requests = make_samples(log.with_columns(request=pl.Series(requests)), options(**splits)).behaviours
    assert of_requests["neg_item_history"].to_list() == ["b", "b", "b"]
    nearest_before = make_samples(log, options(**splits)).behaviours
    assert nearest_before["neg_item_history"].to_list() == ["x", "b", "b"]


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
    lengths = samples.splits["test"]["history_length"].to_list()
    assert counts["test"]["mean_history"] == pytest.approx(sum(lengths) / len(lengths), abs=0.005)
    assert samples.splits["test"].schema == {
        "label": pl.Int8,
        "user_id": pl.String,
        "item_id": pl.String,
        "cate_id": pl.String,
        "history_start": pl.Int64,
        "history_length": pl.Int32,
    }
