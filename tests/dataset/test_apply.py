"""New rows of a log: histories as the build of the data set makes them."""

import copy
import logging
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from made_data import FEATURE_COLS, entry, prepare_entry
from made_raw import as_log, random_reviews, write_raw

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.dataset.apply import apply_build, with_log
from dien_fuxictr.dataset.encoding.encoder import Encoder
from dien_fuxictr.dataset.loading.entry import DatasetEntry

START = 1_704_067_200
"""2024-01-01, in seconds."""
NAMES = {"user": "uid", "item": "iid", "category": "cid", "time": "ts", "side": "brand"}
OWN_NAMES = {"user_id": "uid", "item_id": "iid", "time": "ts"}


def click_log(labelled: bool = False) -> pl.DataFrame:
    """Return clicks, or exposures in requests of some hours, with ties.

    A tie is a day with two clicks of a user.
    """
    log = as_log(random_reviews(days=40)).select(
        uid="user_id", iid="item_id", cid="cate_id", ts=pl.col("time") + START, brand=pl.col("item_id").str.slice(0, 2)
    )
    if not labelled:
        return log
    rng = np.random.default_rng(0)
    return log.with_columns(
        clicked=pl.Series(rng.integers(0, 2, log.height)),
        request=pl.col("ts") // (3 * 86_400),
        ts=pl.col("ts") + pl.Series(rng.integers(0, 3600, log.height)),
        brand=pl.int_range(pl.len()).cast(pl.String),  # distinguishes rows
    )


def built(folder: Path, log: pl.DataFrame, **options) -> dict:
    """Return the entry of a set that is built from the log."""
    log.write_parquet(folder / "log.parquet")
    columns = copy.deepcopy(FEATURE_COLS)
    columns[1]["name"].append("brand")
    build = {"source": "log", "input": str(folder / "log.parquet"), **NAMES, "max_len": 5, **options}
    params = entry(folder, folder / "root", "parquet", feature_cols=columns, build=build)
    prepare_entry(params)
    return params


def samples_of(params: dict) -> tuple[pl.DataFrame, pl.DataFrame]:
    folder = Path(params["data_root"], "made", "samples")
    return pl.read_parquet(folder / "test.parquet"), pl.read_parquet(folder / "behaviours.parquet")


def entry_with(params: dict, log: Path) -> DatasetEntry:
    return DatasetEntry.of(with_log(params, log))


def applied(params: dict, rows: pl.DataFrame, folder: Path, name: str = "rows.parquet") -> pl.DataFrame:
    rows.write_parquet(folder / "candidates.parquet")
    apply_build(
        entry_with(params, folder / "log.parquet"),
        folder / "candidates.parquet",
        folder / name,
        verbose=False,
    )
    return pl.read_parquet(folder / name) if name.endswith("parquet") else pl.read_csv(folder / name)


def histories(test: pl.DataFrame, behaviours: pl.DataFrame, name: str) -> list[list]:
    spans = zip(test["history_start"], test["history_length"], strict=True)
    return [behaviours[name].slice(*span).to_list() for span in spans]


@pytest.mark.parametrize(
    "options",
    [
        {"protocol": "leave_one_out", "max_len": 5},
        {"protocol": "window", "target_days": 30, "history_days": 9, "valid_days": 5, "test_days": 12, "max_len": 2},
        {"protocol": "last", "folds": 2, "ties": "file", "max_len": 4},
    ],
    ids=lambda options: options["protocol"],
)
def test_rows_of_the_test_split_get_their_histories(options: dict, tmp_path: Path) -> None:
    """Give test rows their histories, if the user did nothing else at their time.

    Behaviours of equal times precede a row only in the build.
    """
    params = built(tmp_path, click_log(), **options)
    test, behaviours = samples_of(params)
    time = behaviours["time"].gather(test["history_start"] + test["history_length"])  # of the positive
    rows = applied(params, test.select(uid="user_id", iid="item_id").with_columns(ts=time), tmp_path)
    assert rows.select("user_id", "item_id", "cate_id", "brand").equals(
        test.select("user_id", "item_id", "cate_id", "brand")
    )
    names = [name for name in behaviours.columns if name.endswith("_history")]
    assert names == ["item_history", "cate_history", "brand_history", "session_history", "day_history"]
    kinds = {"tied": 0, "equal": 0, "cut": 0}
    for number, (moment, times) in enumerate(zip(time, histories(test, behaviours, "time"), strict=True)):
        earlier = sum(other < moment for other in times)
        kinds["tied" if earlier < len(times) else "equal"] += 1
        kinds["cut"] += len(times) == options["max_len"]
        for name in names:
            expected = histories(test[number], behaviours, name)[0][:earlier]
            tokens = rows[name][number].to_list()
            assert tokens == expected if earlier == len(times) else tokens[len(tokens) - earlier :] == expected
    assert min(kinds.values()) > 1, kinds


def test_histories_in_a_random_order(tmp_path: Path) -> None:
    rows = pl.DataFrame({"uid": [f"u{user}" for user in range(30)], "iid": "i03", "ts": "2024-05-01"})
    made = []
    for order in ("time", "shuffled"):
        (folder := tmp_path / order).mkdir()
        made.append(applied(built(folder, click_log(), history_order=order), rows, folder)["item_history"].to_list())
    assert made[0] != made[1] and sorted(made[0][0]) == sorted(made[1][0])


@pytest.mark.parametrize("of_request", [True, False])
def test_exposures_of_the_test_split(of_request: bool, tmp_path: Path) -> None:
    """Here histories end strictly before the request in the build, too."""
    log = click_log(labelled=True)
    cuts = {"valid_from": START + 25 * 86_400, "test_from": START + 30 * 86_400}
    params = built(
        tmp_path,
        log,
        label="clicked",
        request="request" if of_request else None,
        protocol="time",
        min_history=0,
        **cuts,
    )
    test, behaviours = samples_of(params)
    begun = pl.col("ts").min().over("uid", "request") if of_request else pl.col("ts")
    rows = test.select(brand="brand").join(
        log.select("uid", "iid", "brand", ts=begun), on="brand", how="left", maintain_order="left"
    )
    made = applied(params, rows, tmp_path)
    assert made.select("user_id", "item_id", "cate_id", "brand").equals(
        test.select("user_id", "item_id", "cate_id", "brand")
    )
    names = [name for name in behaviours.columns if name.endswith("_history")]
    assert "neg_item_history" in names and test["history_length"].max() == 5 and test["history_length"].min() == 0
    for name in names:
        assert made[name].to_list() == histories(test, behaviours, name), name


def test_missing_properties_of_a_row_are_completed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = click_log().sample(fraction=1, shuffle=True, seed=0)
    last = pl.col("ts") == pl.col("ts").filter(pl.col("iid") == "i03").max()  # a row of the item has another value
    log = log.with_columns(brand=pl.when(last & (pl.col("iid") == "i03")).then(pl.lit("renamed")).otherwise("brand"))
    params = built(tmp_path, log)
    late = START + 90 * 86_400
    rows = pl.DataFrame(
        {
            "iid": ["i03", "i03", "new", "new", "new^er"],
            "ts": [str(late * 1000 + 5)] * 5,  # milliseconds: the build has no unit either
            "uid": ["u1", "nobody", "u2", "u3", "nobody"],
            "cid": ["", "mine", "shoes", None, ""],
            "note": [1, 2, 3, 4, 5],
            "history_start": [0] * 5,
            "history_length": [1] * 5,
            "item_id": "x",
        }
    )
    with caplog.at_level(logging.INFO):
        made = applied(params, rows, tmp_path)
    assert made.columns[:4] == ["user_id", "item_id", "cate_id", "brand"]
    assert made.columns[-5:] == ["iid", "ts", "uid", "cid", "note"]
    assert made["cate_id"].to_list() == ["c3", "mine", "shoes", "unknown", "unknown"]
    assert made["brand"].to_list() == ["i0", "i0", "unknown", "unknown", "unknown"]
    assert made["item_id"].to_list() == ["i03", "i03", "new", "new", "new^er"]
    assert made["note"].to_list() == [1, 2, 3, 4, 5]
    of_u1 = log.filter(pl.col("uid") == "u1").sort("ts")["iid"].to_list()[-5:]
    assert sorted(made["item_history"][0]) == sorted(of_u1) and made["item_history"][1].to_list() == []
    assert "left out history_start, history_length, item_id: the build writes columns with these names" in caplog.text
    assert "rows.parquet: 5 rows; 4 users, 1 of them without history; 3 items, 2 of them not in the log" in (
        caplog.text
    )


def test_items_without_reviews_are_looked_up_in_the_metadata(tmp_path: Path) -> None:
    reviews = [(user, item, time + START) for user, item, time in random_reviews()]
    categories: dict[str, list[str] | None] = {item: ["all", f"c{item}"] for _, item, _ in reviews}
    files = write_raw(tmp_path, reviews, categories | {"unreviewed": ["all", "c9"], "bare": None})
    build = {"source": "amazon", "reviews": str(files[0]), "meta": str(files[1])}
    params = entry(tmp_path, tmp_path / "root", "parquet", build=build)
    rows = pl.DataFrame({"user_id": "u1", "item_id": ["i07", "unreviewed", "bare", "other"], "time": "2025-01-01"})
    rows.write_csv(tmp_path / "rows.csv")
    apply_build(entry_with(params, files[0]), tmp_path / "rows.csv", tmp_path / "out.csv", verbose=False)
    made = pl.read_csv(tmp_path / "out.csv")
    assert made["cate_id"].to_list() == ["ci07", "c9", "unknown", "unknown"]
    assert made["time"].to_list() == ["2025-01-01"] * 4


def test_unknown_items_are_read_from_the_file_of_items(tmp_path: Path) -> None:
    log = click_log().drop("cid")
    log.write_parquet(tmp_path / "log.parquet")
    known = pl.DataFrame({"iid": ["new", "i03", "new"], "cid": ["c9", "c^3", "c8"], "brand": ["b9", "b3", "b"]})
    known.write_csv(tmp_path / "items.csv")
    build = {"source": "log", "input": "", **NAMES, "side": "brand", "items": str(tmp_path / "items.csv")}
    params = entry(tmp_path, tmp_path / "root", "parquet", build=build)
    made = applied(params, pl.DataFrame({"uid": "u1", "iid": ["i03", "new", "other"], "ts": "2024-05-01"}), tmp_path)
    assert made["cate_id"].to_list() == ["c^3", "c9", "unknown"]
    assert made["brand"].to_list() == ["i0", "b9", "unknown"]


def test_ids_with_the_splitter_are_kept_or_rejected(tmp_path: Path) -> None:
    """Keep ids with the splitter in Parquet; refuse them in histories of CSV."""
    log = click_log().with_columns(pl.col("iid").replace("i03", "SKU^0044"), pl.col("uid").replace("u1", "u^1"))
    params = built(tmp_path, log)
    rows = log.select("uid", "iid", ts=pl.col("ts").max() + 86_400)
    made = applied(params, rows, tmp_path)
    assert made["user_id"].equals(rows["uid"]) and made["item_id"].equals(rows["iid"])
    holding = made["item_history"].list.contains("SKU^0044")
    assert set(made["item_history"].explode(empty_as_null=False)) <= set(log["iid"]) and 0 < holding.sum() < len(
        holding
    )
    file, out = tmp_path / "log.parquet", tmp_path / "rows.csv"
    with pytest.raises(UserError) as refused:
        applied(params, rows, tmp_path, "rows.csv")
    assert str(refused.value) == (
        f"a value holds '^', which joins the histories of a CSV file: iid = 'SKU^0044' in {file}; "
        "--out FILE.parquet keeps every value"
    )
    assert not out.exists()
    without = applied(params, rows.filter(~holding), tmp_path, "rows.csv")
    assert without["item_history"].to_list() == ["^".join(row) for row in made.filter(~holding)["item_history"]]


def test_all_forms_of_the_output_are_encoded_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write all forms in parts, with the separators of the set."""
    monkeypatch.setattr("dien_fuxictr.dataset.apply.CSV_ROWS", 7)
    params = built(tmp_path, click_log()) | {"sep": ";"}
    for column in params["feature_cols"][2:]:
        column["splitter"] = "/"
    prepare_entry(params, rebuild=True)
    rows = click_log().select("uid", "iid", "ts")
    encoder = Encoder.load(tmp_path / "root" / "made", params)
    encoded = []
    for name in ("a.csv", "a.csv.gz", "a.parquet"):
        rows.write_csv(tmp_path / "candidates.csv")
        apply_build(entry_with(params, tmp_path / "log.parquet"), tmp_path / "candidates.csv", tmp_path / name)
        encoded.append(encoder.encode_rows(tmp_path / name))
    for other in encoded[1:]:
        for name, column in encoded[0].columns.items():
            assert np.array_equal(column, other.columns[name])
        for table, same in zip(encoded[0].tables, other.tables, strict=True):
            assert np.array_equal(table.length, same.length) and table.length.max() == 5 and len(same.length) > 100
            assert all(np.array_equal(ids, same.columns[name]) for name, ids in table.columns.items())
    assert sum(encoder.unseen[name] for name in ("item_history", "cate_history")) == 0
    # CSV cannot represent a nested column.
    rows.with_columns(list=pl.lit([1])).write_parquet(tmp_path / "nested.parquet")
    with pytest.raises(UserError, match=r"cannot write .*/n\.csv: CSV format does not support nested data"):
        apply_build(entry_with(params, tmp_path / "log.parquet"), tmp_path / "nested.parquet", tmp_path / "n.csv")
    assert not (tmp_path / "n.csv").exists()


ROW = {"uid": "u1", "iid": "i01", "ts": "2024-05-01"}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"uid": "u1"}], r"c\.csv: iid, ts missing; rows need the columns uid, iid, ts and have uid"),
        ([ROW, ROW | {"uid": ""}], r"c\.csv: row 2 has no usable uid \(''\)$"),
        ([ROW, ROW, ROW | {"iid": None}], r"c\.csv: row 3 has no usable iid \(None\)"),
        ([ROW, ROW | {"ts": "soon"}], r"c\.csv: row 2 has no usable ts \('soon'\)"),
        ([ROW | {"ts": "1024-05-01"}], r"c\.csv: row 1: ts '1024-05-01' is of the year 1024"),
        ([], r"c\.csv has no rows"),
    ],
)
def test_rows_that_are_refused(rows: list[dict], message: str, tmp_path: Path) -> None:
    params = built(tmp_path, click_log())
    pl.DataFrame(rows or {name: [] for name in ROW}).write_csv(tmp_path / "c.csv")
    with pytest.raises(UserError, match=message):
        apply_build(entry_with(params, tmp_path / "log.parquet"), tmp_path / "c.csv", tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


def test_a_set_that_was_built_with_other_options(tmp_path: Path) -> None:
    params = built(tmp_path, click_log())
    other = params | {"build": params["build"] | {"max_len": 4, "seed": 1}}
    with pytest.raises(UserError, match=r"was built with other options \(build\.max_len: 5 -> 4; build\.seed: \(abs"):
        applied(other, pl.DataFrame(ROW), tmp_path)
    # `apply` is used with another log, or with one that has grown.
    click_log().head(100).write_parquet(tmp_path / "log.parquet")
    assert applied(params, pl.DataFrame(ROW), tmp_path).height == 1


@pytest.mark.parametrize("labelled", [False, True])
def test_log_of_new_rows_only_is_noted(labelled: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    log = click_log(labelled).unique(maintain_order=True)
    params = built(tmp_path, log, **({"label": "clicked", "min_history": 0} if labelled else {}))
    later = log.with_columns(pl.col("ts") + 86_400 * 50)
    pl.concat([log, later]).write_parquet(tmp_path / "log.parquet")
    applied(params, pl.DataFrame(ROW), tmp_path, "longer.parquet")
    log.write_parquet(tmp_path / "log.parquet")
    applied(params, pl.DataFrame(ROW), tmp_path, "same.parquet")
    assert "behaviours of this log only" not in caplog.text
    later[:40].write_parquet(tmp_path / "log.parquet")
    applied(params, pl.DataFrame(ROW), tmp_path, "later.parquet")
    clicks = [int(rows["clicked"].sum()) if labelled else rows.height for rows in (later[:40], log)]
    users = [rows["uid"].n_unique() for rows in (later[:40], log)]
    assert (
        f"{tmp_path / 'log.parquet'} has {users[0]} users (the data set: {users[1]}) and {clicks[0]} behaviours "
        f"(the data set: {clicks[1]}): histories have behaviours of this log only"
    ) in caplog.text


def test_files_and_entries_that_are_refused(tmp_path: Path) -> None:
    params = built(tmp_path, click_log())
    rows, log = tmp_path / "rows.csv", tmp_path / "log.parquet"
    pl.DataFrame(ROW).write_csv(rows)

    def failure(**given) -> str:
        with pytest.raises(UserError) as caught:
            given = {"params": params, "log": log, "rows": rows, "out": tmp_path / "out.csv"} | given
            apply_build(entry_with(given["params"], given["log"]), given["rows"], given["out"])
        return str(caught.value)

    content = rows.read_bytes()
    assert failure(out=rows) == f"--out {rows} already exists; name a new file" and rows.read_bytes() == content
    assert "out.txt must end in .csv, .csv.gz, .parquet" in failure(out=tmp_path / "out.txt")
    assert "--rows none.csv does not exist" in failure(rows=Path("none.csv"))
    assert "--log none.csv does not exist" in failure(log=Path("none.csv"))
    assert "build is missing in data set made" in failure(params={**params, "build": None})
    assert "source = 'logs' in the build must be amazon or log" in failure(
        params={**params, "build": {"source": "logs"}}
    )
    (tmp_path / "cut.csv").write_text("uid,iid,ts\nu1,i1\n")
    assert "cut.csv: line 2 has 2 fields where the header has 3" in failure(rows=tmp_path / "cut.csv")
    (tmp_path / "no.parquet").write_text("uid")
    assert "no.parquet cannot be read: " in failure(rows=tmp_path / "no.parquet")
