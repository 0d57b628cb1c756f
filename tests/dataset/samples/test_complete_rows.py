"""Histories of new rows at any time, compared with a search row by row."""

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dien_fuxictr.dataset.samples.build_options import BuildOptions
from dien_fuxictr.dataset.samples.complete_rows import complete, item_properties
from dien_fuxictr.dataset.samples.protocols import DAY

MOMENT = st.integers(0, 24).map(lambda half: half * DAY // 2)
BEHAVIOUR = st.fixed_dictionaries(
    {"user": st.integers(0, 3), "item": st.integers(0, 5), "time": MOMENT, "label": st.integers(0, 1)}
)
ROW = st.fixed_dictionaries(
    {"user": st.integers(0, 4), "item": st.integers(0, 7), "time": st.integers(-DAY, 14 * DAY) | MOMENT}
)
STRINGS = {"user_id": pl.String, "item_id": pl.String, "time": pl.Int64}
PROTOCOLS = [
    {"protocol": "leave_one_out"},
    {"protocol": "window", "target_days": 8, "history_days": 3, "valid_days": 2, "test_days": 2},
]


def frame(rows: list[dict], **more: pl.Expr) -> pl.DataFrame:
    named = [{"user_id": f"u{row['user']}", "item_id": f"i{row['item']}", "time": row["time"]} for row in rows]
    return pl.DataFrame(named, STRINGS).with_columns(**more)


@pytest.mark.parametrize("labelled", [False, True])
@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda protocol: protocol["protocol"])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(log=st.lists(BEHAVIOUR, min_size=1, max_size=40), rows=st.lists(ROW, min_size=1, max_size=12))
def test_histories_are_what_is_strictly_before(
    protocol: dict, labelled: bool, log: list[dict], rows: list[dict]
) -> None:
    named = {"input": "", "user": "u", "item": "i", "category": "c", "time": "t", "side": "place"}
    varies = {} if labelled else {"side_varies": "place"}  # in a log with labels, the values say it
    options = BuildOptions.of({"source": "log", **named, **varies, "max_len": 3, "ties": "file", **protocol})
    number = pl.int_range(pl.len()).cast(pl.String)
    label = {"label": pl.Series([row["label"] for row in log], dtype=pl.Int8)} if labelled else {}
    read = frame(log, cate_id="c" + pl.col("item_id"), place=number, **label)
    samples, behaviours = complete(frame(rows), read, item_properties(read, options), options)
    assert samples["user_id"].to_list() == [f"u{row['user']}" for row in rows]
    items = {row["item"] for row in log}
    for row, sample in zip(rows, samples.to_dicts(), strict=True):
        earliest = row["time"] - 3 * DAY if protocol["protocol"] == "window" else -DAY
        expected = [
            str(place)
            for place, behaviour in sorted(enumerate(log), key=lambda entry: entry[1]["time"])
            if behaviour["user"] == row["user"]
            and earliest <= behaviour["time"] < row["time"]
            and (behaviour["label"] or not labelled)
        ][-3:]
        span = sample["history_start"], sample["history_length"]
        assert behaviours["place_history"].slice(*span).to_list() == expected
        earlier = [
            (behaviour["time"], behaviour["user"], place)
            for place, behaviour in enumerate(log)
            if behaviour["item"] == row["item"] and behaviour["time"] < row["time"]
        ]
        commonest = min(
            (str(place) for place, other in enumerate(log) if other["item"] == row["item"]), default="unknown"
        )
        does_vary = not labelled or len(items) < 0.99 * len(log)
        latest = str(max(earlier)[-1]) if earlier else "unknown"
        assert sample["place"] == (latest if does_vary else commonest)
        assert sample["cate_id"] == (f"ci{row['item']}" if row["item"] in items else "unknown")
