"""`history_order: shuffled`: samples of `time`, with each history shuffled."""

import numpy as np
import polars as pl
import pytest
from made_raw import as_log, random_reviews

from dien_fuxictr.dataset.samples.build_options import BuildOptions
from dien_fuxictr.dataset.samples.leak_audit import audit
from dien_fuxictr.dataset.samples.samples import Samples
from dien_fuxictr.dataset.samples.sampling import make_samples

REVIEWS = as_log(random_reviews(users=60, days=200)).with_columns(colour=pl.format("x{}", pl.int_range(pl.len())))
PROTOCOLS = [
    {"protocol": "leave_one_out", "targets_per_user": 2, "test_last": 2},
    {"protocol": "last", "folds": 3},
    {"protocol": "window", "target_days": 150, "history_days": 60, "valid_days": 30, "test_days": 30},
]


def made(order: str, log: pl.DataFrame = REVIEWS, **more) -> Samples:
    given = {
        "source": "log",
        "input": "",
        "user": "",
        "item": "",
        "category": "",
        "time": "",
        "side": "colour",
        "side_varies": "colour",
    }
    return make_samples(log, BuildOptions.of({**given, "max_len": 6, "history_order": order, **more}))


def parts_of(samples: Samples) -> list[pl.DataFrame]:
    return [*samples.splits.values(), *([] if samples.left_out is None else [samples.left_out])]


def histories(samples: Samples, part: pl.DataFrame) -> list[list[tuple]]:
    """Return the behaviours of each row, with all that is known of them."""
    behaviours = samples.behaviours.drop("behaviour", strict=False).rows()
    return [
        behaviours[start : start + length] for start, length in part.select("history_start", "history_length").rows()
    ]


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda given: given["protocol"])
@pytest.mark.parametrize("labelled", [False, True])
def test_only_the_order_changes(protocol: dict, labelled: bool) -> None:
    label = pl.Series(np.random.default_rng(0).integers(0, 3, REVIEWS.height) > 0).cast(pl.Int8)
    log = REVIEWS.with_columns(label=label) if labelled else REVIEWS
    given = protocol | {"min_history": 0}
    ordered, other, again = (made(order, log, **given) for order in ("time", "shuffled", "shuffled"))
    assert ordered.info["counts"] == other.info["counts"]
    changed = total = 0
    for before, after, same in zip(parts_of(ordered), parts_of(other), parts_of(again), strict=True):
        assert before.drop("history_start").equals(after.drop("history_start")) and after.equals(same)
        for one, two in zip(histories(ordered, before), histories(other, after), strict=True):
            assert sorted(one) == sorted(two)
            changed += one != two
            total += len(one) > 1
    assert changed > 0.6 * total > 20
    assert other.behaviours.equals(again.behaviours)


def test_a_positive_and_its_negative_have_one_order() -> None:
    samples = made("shuffled", max_len=100)
    train = samples.splits["train"]
    spans = train.group_by("user_id", "history_length").agg(pl.col("history_start").n_unique(), pl.len())
    assert (spans["history_start"] == 1).all() and (spans["len"] == 2).all()


def test_every_order_is_as_likely() -> None:
    log = pl.DataFrame(
        [(f"u{user:04d}", f"i{item}", "c", 1_700_000_000 + item, "x") for user in range(1200) for item in range(6)],
        ["user_id", "item_id", "cate_id", "time", "colour"],
        orient="row",
    )
    test = (samples := made("shuffled", log, negatives="uniform")).splits["test"]
    rows = [
        tuple(name for name, *_ in history[:3]) for history in histories(samples, test.filter(pl.col("label") == 1))
    ]
    counts = pl.Series(["".join(row) for row in rows]).value_counts()["count"]
    assert len(counts) == 60 and counts.max() < 45  # 20 expected


def test_what_rules_without_order_score_stays() -> None:
    results = [audit(made(order)) for order in ("time", "shuffled")]
    for result in results:
        for rules in (result["trivial"], result["untrained"]):
            for rule in [rule for rule in rules if "last" in rule]:
                del rules[rule]
    results = [{key: value for key, value in result.items() if key != "warnings"} for result in results]
    assert results[0] == results[1]
