"""Ten leaks in samples: the audit names the rule and the column of each."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from dien_fuxictr.dataset.samples.build_options import BuildOptions
from dien_fuxictr.dataset.samples.columns import roles_of
from dien_fuxictr.dataset.samples.leak_audit import audit
from dien_fuxictr.dataset.samples.protocols import DAY
from dien_fuxictr.dataset.samples.samples import Samples
from dien_fuxictr.dataset.samples.sampling import make_samples

NAMED = {"source": "log", "input": "", "user": "u", "item": "i", "category": "c", "time": "t"}
USERS = 3000


def log() -> pl.DataFrame:
    """Six behaviours of each user, items by popularity."""
    rng = np.random.default_rng(0)
    user = np.repeat(np.arange(USERS), 6)
    item = np.minimum(rng.exponential(20, len(user)).astype(int), 99)
    return pl.DataFrame(
        {
            "user_id": [f"u{each}" for each in user],
            "item_id": [f"i{each * 37 % 100}" for each in item],
            "cate_id": [f"c{each * 37 % 100 % 7}" for each in item],
            "time": np.tile(np.arange(6), USERS) * DAY,
            "brand": [f"b{each * 37 % 100 % 11}" for each in item],
            "device": [f"d{each % 5}" for each in user],
        }
    )


@pytest.fixture(scope="module")
def clean() -> Samples:
    return make_samples(log().drop("device"), BuildOptions.of({**NAMED, "side": "brand"}))


def test_no_leak_is_found_without_a_planted_one(clean: Samples) -> None:
    assert audit(clean)["warnings"] == []


def with_column(samples: Samples, values: dict[int, list[str]], share: float = 0.2) -> Samples:
    """Add a column x, which for some rows depends on the label.

    The other rows have a value of label 0.
    """
    rng = np.random.default_rng(1)
    splits = {}
    for name, rows in samples.splits.items():
        drawn = [rng.choice(values[label], rows.height) for label in (0, 1)]
        telling = (rows["label"].to_numpy() == 1) & (rng.random(rows.height) < share)
        splits[name] = rows.with_columns(x=pl.Series(np.where(telling, drawn[1], drawn[0])))
    return replace(samples, splits=splits)


def identity(samples: Samples) -> Samples:
    return with_column(samples, {0: [f"v{each}" for each in range(50)], 1: ["v17"]}, 0.1)


def frequency(samples: Samples) -> Samples:
    return with_column(samples, {0: ["often"] * 9 + [f"rare{each}" for each in range(30)], 1: ["often"]})


def missingness(samples: Samples) -> Samples:
    return with_column(samples, {0: ["a", "b", "c"], 1: ["unknown"]}, 0.1)


def value_range(samples: Samples) -> Samples:
    prices = [f"{price / 100}" for price in range(100, 5000)]
    return with_column(samples, {0: prices, 1: prices[2300:2600]})


def time_of_day(samples: Samples) -> Samples:
    moments = [str(1_700_000_000 + 977 * each) for each in range(5000)]
    return with_column(samples, {0: moments, 1: [each for each in moments if int(each) // 3600 % 24 in (3, 4)]})


def row_order(samples: Samples) -> Samples:
    return replace(samples, splits={**samples.splits, "test": samples.splits["test"].sort("label")})


def alternation(samples: Samples) -> Samples:
    test = samples.splits["test"].sort("user_id", "label")
    return replace(samples, splits={**samples.splits, "test": test})


def user_column(samples: Samples) -> Samples:
    """Add a column of the user as older builds did, which knew no contexts.

    A negative has the device of the row that it was drawn from.
    """
    rng = np.random.default_rng(2)
    devices = dict(log().select("user_id", "device").unique().rows())
    splits = {}
    for name, rows in samples.splits.items():
        own = np.array([devices[user] for user in rows["user_id"]])
        device = np.where(rows["label"].to_numpy() == 1, own, rng.permutation(own))
        splits[name] = rows.with_columns(device=pl.Series(device))
    behaviours = samples.behaviours.with_columns(
        device_history=pl.Series([devices[user] for user in samples.behaviours["user_id"]])
    )
    return Samples(behaviours, splits, {})


def duplicated_row(samples: Samples) -> Samples:
    test = samples.splits["test"]
    test = pl.concat([test, test.filter((pl.col("label") == 1) & (pl.int_range(pl.len()) % 3 == 0))])
    return replace(samples, splits={**samples.splits, "test": test.sample(fraction=1, shuffle=True, seed=0)})


def popularity_of_a_side_value(_: Samples) -> Samples:
    return make_samples(log().drop("device"), BuildOptions.of({**NAMED, "side": "brand", "negatives": "uniform"}))


def category(samples: Samples) -> Samples:
    splits = {
        name: rows.with_columns(
            cate_id=pl.when((pl.col("label") == 0) & (pl.col("cate_id") == "c3"))
            .then(pl.lit("c4"))
            .otherwise("cate_id")
        )
        for name, rows in samples.splits.items()
    }
    return replace(samples, splits=splits)


PLANTED = {
    identity: "x positive rate",
    frequency: "x frequency",
    missingness: "x missing",
    row_order: "row number",
    alternation: "row number odd",
    value_range: "x positive rate",
    time_of_day: "x hour of day",
    user_column: "device seen in history",
    duplicated_row: "copies of the row",
    popularity_of_a_side_value: "brand frequency",
    category: "category positive rate",
}


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_a_planted_leak_is_named(plant, clean: Samples) -> None:
    found = [warning.split("'")[1] for warning in audit(plant(clean))["warnings"]]
    assert PLANTED[plant] in found


def test_a_property_of_the_item_is_no_leak() -> None:
    """A brand that users keep to is an interest: it is shown, without a warning."""
    own = log().with_columns(brand=pl.col("device"), item_id=pl.format("{}{}", "item_id", "device")).drop("device")
    result = audit(make_samples(own, BuildOptions.of({**NAMED, "side": "brand"})))
    assert result["untrained"]["brand seen in history"] > 0.8 and result["warnings"] == []


def test_roles_without_options_are_those_of_the_item() -> None:
    roles = roles_of(log().columns, BuildOptions.of({"source": "amazon", "reviews": "r", "meta": "m"}))
    assert roles.properties == ["cate_id", "brand", "device"] and not roles.context
