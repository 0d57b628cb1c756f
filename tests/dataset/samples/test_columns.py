"""Roles of a log's columns: fixed and varying properties, and context."""

import copy
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from made_data import FEATURE_COLS, entry, prepare_entry

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.dataset.samples.build_options import BuildOptions
from dien_fuxictr.dataset.samples.columns import latest_before, leaking_columns
from dien_fuxictr.dataset.samples.complete_rows import check_rows, complete, item_properties
from dien_fuxictr.dataset.samples.leak_audit import audit
from dien_fuxictr.dataset.samples.protocols import DAY
from dien_fuxictr.dataset.samples.samples import Samples
from dien_fuxictr.dataset.samples.sampling import make_samples

NAMED = {"source": "log", "input": "", "user": "u", "item": "i", "category": "c", "time": "t"}


def shop(users: int = 300, items: int = 40, each: int = 8) -> pl.DataFrame:
    """Return a log as the reader returns it.

    Users keep a device; items have a brand, and a price that changes daily.
    """
    rng = np.random.default_rng(0)
    user, item = np.repeat(np.arange(users), each), rng.integers(items, size=users * each)
    time = rng.permuted(np.tile(np.arange(each * 4), (users, 1)), axis=1)[:, :each].ravel() * DAY
    keeps = rng.random(len(user)) < 0.9
    return pl.DataFrame(
        {
            "user_id": [f"u{each}" for each in user],
            "item_id": [f"i{each}" for each in item],
            "cate_id": [f"c{each % 5}" for each in item],
            "time": time,
            "brand": [f"b{each % 7}" for each in item],
            "price": [f"{each % 9 + day // DAY % 3}" for each, day in zip(item, time, strict=True)],
            "device": [f"d{each}" for each in np.where(keeps, user % 4, rng.integers(4, size=len(user)))],
        }
    ).sort("item_id", "time", "user_id")


def made(log: pl.DataFrame, **given) -> Samples:
    return make_samples(log, BuildOptions.of(NAMED | given))


def test_a_column_of_the_user_is_refused_as_side() -> None:
    with pytest.raises(UserError, match=r"^column 'device' is not a property of the item: .* in 68\.5% of the rows"):
        made(shop(), side="brand,price,device", side_varies="price")
    with pytest.raises(UserError, match=r"^column 'price' is not a property of the item: .*--side-varies"):
        made(shop(), side="brand,price")
    log = shop().with_columns(cate_id=pl.col("device"))
    with pytest.raises(UserError, match=r"^column 'c' is not a property of the item"):
        made(log.drop("brand", "price", "device"))


def test_logs_with_labels_keep_their_values() -> None:
    label = pl.Series(np.random.default_rng(0).integers(0, 2, shop().height)).cast(pl.Int8)
    log = shop().with_columns(label=label).with_row_index("row").with_columns(pl.col("row").cast(pl.String))
    samples = made(log, label="l", side="brand,price,device,row", min_history=0)
    rows = pl.concat(samples.splits.values())
    expected = log.select("row", "brand", "price", "device")
    assert rows.select("row", "brand", "price", "device").sort("row").equals(expected.sort("row"))


def test_a_property_has_one_value_and_fills_gaps() -> None:
    log = shop()
    odd = pl.int_range(pl.len()) % 150 == 0  # .7 % of the rows
    gone = pl.int_range(pl.len()) % 5 == 1
    changed = log.with_columns(
        brand=pl.when(odd).then(pl.lit("other")).when(gone).then(pl.lit("unknown")).otherwise("brand")
    )
    plain, repaired = (made(each.drop("price", "device"), side="brand") for each in (log, changed))
    assert repaired.behaviours.equals(plain.behaviours)
    for split, rows in plain.splits.items():
        assert repaired.splits[split].equals(rows)


def test_context_is_that_of_the_positive() -> None:
    samples = made(shop().drop("price"), side="brand", context="device", context_history="device")
    assert samples.behaviours.columns[:4] == ["item_history", "cate_history", "brand_history", "device_history"]
    for rows in samples.splits.values():
        pairs = rows.group_by("user_id", "history_start", "history_length").agg(
            pl.col("device").n_unique(), pl.col("label").sum(), pl.len()
        )
        assert (pairs["device"] == 1).all() and (pairs["len"] == 2).all() and (pairs["label"] == 1).all()
    own = shop().select("user_id", "item_id", "device").unique()
    positives = samples.splits["test"].filter(pl.col("label") == 1).select("user_id", "item_id", "device")
    assert positives.join(own, on=positives.columns, how="anti").is_empty()


def test_context_in_samples_alone() -> None:
    samples = made(shop().drop("price"), side="brand", context="device")
    assert "device_history" not in samples.behaviours.columns and "device" in samples.splits["test"].columns


def test_varying_property_is_the_last_before_the_sample() -> None:
    log = shop().drop("device", "brand")
    samples = made(log, side="price", side_varies="price", ties="file")
    prices: dict[str, list[tuple[int, str]]] = {}
    for row in log.sort("time", "user_id", maintain_order=True).to_dicts():
        prices.setdefault(row["item_id"], []).append((row["time"], row["price"]))
    times = samples.behaviours["time"]
    for rows in samples.splits.values():
        assert rows["label"].sum() * 2 == rows.height
        for row in rows.to_dicts():  # the positive is the behaviour that follows the history
            moment = times[row["history_start"] + row["history_length"]]
            earlier = [price for time, price in prices[row["item_id"]] if time < moment]
            assert row["price"] == (earlier[-1] if earlier else "unknown")
    histories = samples.behaviours.select("user_id", "time", item_id="item_history", price="price_history")
    assert histories.sort(histories.columns).equals(log.select(histories.columns).sort(histories.columns))


def test_last_value_is_strictly_before() -> None:
    log = pl.DataFrame({"item_id": ["a", "a", "b", "a"], "time": [1, 3, 2, 3], "x": ["p", "q", "z", "unknown"]})
    found = latest_before(log, ["x"], pl.Series(["a", "a", "a", "b", "c", "a"]), np.array([1, 3, 4, 9, 9, 2]))
    assert found["x"].to_list() == ["unknown", "p", "q", "z", "unknown", "p"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"context": "device", "side": "device"}, "column 'device' cannot be in both side and context"),
        ({"side_varies": "price"}, "column 'price' in side_varies of .* must be named in side or the category, too"),
        ({"context_history": "hour"}, "column 'hour' in context_history of .* must be named in context, too"),
    ],
)
def test_options_that_contradict_each_other(given: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        BuildOptions.of(NAMED | given)


def test_a_log_without_categories() -> None:
    log = shop().drop("cate_id", "brand", "price", "device")
    samples = make_samples(log, BuildOptions.of({**NAMED, "category": None}))
    assert samples.splits["test"].columns == ["label", "user_id", "item_id", "history_start", "history_length"]
    assert samples.history_columns == ["item_history", "session_history", "day_history"]
    result = audit(samples)
    assert result["left_out"] == ["all rules of the category: the samples have none"]
    assert not any("category" in rule for rule in (*result["trivial"], *result["untrained"]))


def test_new_rows_need_their_context() -> None:
    options = BuildOptions.of(
        NAMED | {"side": "brand,price", "side_varies": "price", "context": "device", "context_history": "device"}
    )
    raw = pl.DataFrame({"u": ["u1", "u2"], "i": ["i1", "i1"], "t": [10 * DAY + 10**9, 40 * DAY + 10**9]})
    with pytest.raises(UserError, match=r"rows: device missing; rows need the columns u, i, t, device"):
        check_rows(raw, Path("rows"), options)
    rows = check_rows(raw.with_columns(device=pl.Series(["d9", None])), Path("rows"), options)
    log = shop().with_columns(pl.col("time") + 10**9)
    samples, behaviours = complete(rows, log, item_properties(log, options), options)
    assert samples["device"].to_list() == ["d9", "unknown"] and samples["brand"].to_list() == ["b1", "b1"]
    of_item = log.filter(pl.col("item_id") == "i1")
    for moment, price in zip(raw["t"], samples["price"], strict=True):
        earlier = of_item.filter(pl.col("time") < moment)
        day = (earlier["time"].max() - 10**9) // DAY
        assert price == f"{1 + day % 3}"
    assert "device_history" in behaviours.columns


def as_before(folder: Path) -> None:
    """Make samples.json one of a build that knew of no context."""
    info = json.loads((folder / "samples.json").read_text())
    for name in ("context", "context_history", "side_varies"):
        info["options"].pop(name)
    (folder / "samples.json").write_text(json.dumps(info))


@pytest.mark.parametrize("loader", ["in_memory", "memory_mapped"])
def test_an_older_set_warns_of_a_users_column(
    loader: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    columns = copy.deepcopy(FEATURE_COLS)
    columns[1]["name"] += ["brand", "device"]
    columns[2] |= {"max_len": 100}
    columns[3] |= {"max_len": 100}
    shop().drop("price").with_columns(pl.col("time") + 10**9).write_parquet(tmp_path / "log.parquet")
    named = {"user": "user_id", "item": "item_id", "category": "cate_id", "time": "time", "side": "brand,device"}
    build = {"source": "log", "input": str(tmp_path / "log.parquet"), **named}
    params = entry(tmp_path, tmp_path, "parquet", feature_cols=columns, build=build, data_loader=loader)
    monkeypatch.setattr("dien_fuxictr.dataset.samples.sampling._values_of_items", lambda *_: {})
    prepare_entry(params)
    assert "is not a property of the item" not in caplog.text
    as_before(tmp_path / "made" / "samples")
    prepare_entry(params)
    assert caplog.text.count("is not a property of the item") == 1 and "side column 'device'" in caplog.text


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_missing_number_is_the_fill_value(form: str, tmp_path: Path) -> None:
    """Fill the price of the first day's samples, which have no earlier price."""
    columns = copy.deepcopy(FEATURE_COLS)
    columns.append({"name": "price", "active": True, "dtype": "float", "type": "numeric", "fill_na": -1})
    shop().drop("device", "brand").with_columns(pl.col("time") + 10**9).write_parquet(tmp_path / "log.parquet")
    named = {"user": "user_id", "item": "item_id", "category": "cate_id", "time": "time"}
    varies = {"side": "price", "side_varies": "price", "min_history": 0, "format": form}
    build = {"source": "log", "input": str(tmp_path / "log.parquet"), **named, **varies}
    prepare_entry(entry(tmp_path, tmp_path, form, feature_cols=columns, build=build))
    with np.load(tmp_path / "made" / "encoded" / "train.npz") as arrays:
        price = arrays["column/price"]
    folder = tmp_path / "made" / "samples"
    read = pl.read_parquet if form == "parquet" else pl.read_csv
    known = read(folder / f"train.{form}")["price"].cast(pl.String).replace("unknown", "-1").cast(pl.Float64)
    assert (known == -1).any() and price.tolist() == known.to_list()


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"options": {}}'])
def test_broken_information_of_samples_is_named(content: str, tmp_path: Path) -> None:
    (tmp_path / "samples.json").write_text(content)
    with pytest.raises(UserError, match=r"samples\.json was not written by a build"):
        leaking_columns(tmp_path)
