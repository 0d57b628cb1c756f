"""Ids keep characters and numbers from the log to the scores, on every way."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from made_columns import META, categorical, sequence
from made_experiment import HISTORIES, MODEL, made_experiment
from made_requests import spread_dien

from dien_fuxictr import Experiment
from dien_fuxictr.common.errors import UserError
from dien_fuxictr.dataset.apply import apply_build, with_log
from dien_fuxictr.dataset.encoding.encoder import Encoder
from dien_fuxictr.dataset.loading.entry import DatasetEntry
from dien_fuxictr.experiment.evaluation.new_rows import write_scores
from dien_fuxictr.experiment.training import checkpoint
from dien_fuxictr.serving.bundle import open_bundle
from dien_fuxictr.serving.examples import users_of_test
from dien_fuxictr.serving.export_model import inputs_of
from dien_fuxictr.serving.request import Limits, RequestReader, scorer_of
from dien_fuxictr.serving.write import write_bundle
from dien_fuxictr.studies.evolution.words import words_of
from model_zoo.DIEN.src.export_module import PaddedDIEN, loop_evolve, loop_extract

COLUMNS = [
    META,
    categorical(["item_id", "cate_id"]),
    sequence("item_history", share_embedding="item_id", max_len=100),
    sequence("cate_history", share_embedding="cate_id", max_len=100),
]
RESERVED = {"__PAD__", "__OOV__"}
SPECIAL = ["^", "a^b", "a|b", "|", ",", '"', 'a"b', "\n", "\r\n", "a\rb", " a", "a ", "a", "\t", "\0", "a\0", "\ufeff"]
SPECIAL += ["nan", "None", "null", "NULL", "unknown", "true", "7", "07", "7.0", "1e3", "é", "e\u0301", "𝄞", "[]", "{0}"]
START, DAY = 1_704_067_200, 86_400
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=5)
ids = (st.sampled_from(SPECIAL) | texts).filter(lambda word: word not in RESERVED)


def log_of(items: list[str], users: list[str], categories: list[str]) -> pl.DataFrame:
    """Seven behaviours per user, on items that each have one category."""
    rows = [
        (user, items[(3 * number + step * (number + 1)) % len(items)], START + DAY * step + number)
        for number, user in enumerate(users)
        for step in range(7)
    ]
    of_item = {item: categories[number % len(categories)] for number, item in enumerate(items)}
    log = pl.DataFrame(rows, ["uid", "iid", "ts"], orient="row")
    return log.with_columns(cid=pl.col("iid").replace_strict(of_item))


def experiment_of(log: pl.DataFrame, form: str, loader: str, folder: Path) -> tuple[Experiment, Path]:
    file = folder / f"log.{form}"
    folder.mkdir()
    log.write_csv(file) if form == "csv" else log.write_parquet(file)
    build = {"source": "log", "input": str(file), "user": "uid", "item": "iid", "category": "cid", "time": "ts"}
    build |= {"negatives": "uniform"}
    experiment = made_experiment(folder, MODEL, COLUMNS, data_format="parquet", data_loader=loader, build=build)
    torch.manual_seed(0)
    checkpoint.save(spread_dien(experiment.model).state_dict(), experiment.checkpoint)
    return experiment, file


def request_of(rows: pl.DataFrame) -> dict[str, Any]:
    """Return the request of one user's rows, as JSON."""
    request = {
        "user": {name: rows[name][0].to_list() for name in HISTORIES},
        "candidates": {name: rows[name].to_list() for name in ("item_id", "cate_id")},
    }
    return json.loads(json.dumps(request))


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    items=st.lists(ids, min_size=4, max_size=9, unique=True),
    users=st.lists(ids, min_size=2, max_size=4, unique=True),
    categories=st.lists(ids, min_size=1, max_size=4, unique=True),
    new=ids,
    form=st.sampled_from(["parquet", "csv"]),
    loader=st.sampled_from(["in_memory", "memory_mapped"]),
)
@example(items=SPECIAL, users=SPECIAL, categories=SPECIAL, new="x^y", form="parquet", loader="in_memory")
@example(items=SPECIAL, users=SPECIAL, categories=SPECIAL, new="x^y", form="csv", loader="memory_mapped")
def test_ids_survive_from_log_to_scores(
    items: list[str],
    users: list[str],
    categories: list[str],
    new: str,
    form: str,
    loader: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("ids") / "set"
    log = log_of(items, users, categories)
    experiment, file = experiment_of(log, form, loader, folder)
    encoder = Encoder.load(folder / "data" / "made", experiment.params)

    # Each word of the training rows, and no other word, has its own number.
    vocabularies = {name: encoder.vocabularies[name] for name in ("user_id", "item_id", "cate_id")}
    for name, raw in (("user_id", "uid"), ("item_id", "iid"), ("cate_id", "cid")):
        known = vocabularies[name].keys() - RESERVED
        assert known <= set(log[raw])
        assert sorted(vocabularies[name].values()) == list(range(len(known) + 2))
    assert vocabularies["user_id"].keys() - RESERVED == set(users)
    assert len(vocabularies["item_id"]) > 4

    # Rows of new times have the log's words.
    candidates = [*log["iid"].unique(maintain_order=True), new]
    rows = pl.DataFrame({"uid": users}).join(pl.DataFrame({"iid": candidates}), how="cross")
    rows = rows.with_columns(ts=pl.lit(START + DAY * 50))
    rows.write_parquet(folder / "rows.parquet")
    params = with_log(experiment.config.params | {"data_root": str(folder / "data")}, file)
    apply_build(DatasetEntry.of(params), folder / "rows.parquet", folder / "made.parquet", verbose=False)
    made = pl.read_parquet(folder / "made.parquet")
    assert made["user_id"].to_list() == rows["uid"].to_list() and made["item_id"].to_list() == rows["iid"].to_list()
    for user in users:
        own = log.filter(pl.col("uid") == user).sort("ts")
        row = made.filter(pl.col("user_id") == user).row(0, named=True)
        assert row["item_history"] == own["iid"].to_list() and row["cate_history"] == own["cid"].to_list()

    # `--predict` reads rows by their numbers, and writes scores next to the numbers.
    split = encoder.encode_rows(folder / "made.parquet")
    for name in ("item_id", "cate_id"):
        numbers, unknown = vocabularies[name], vocabularies[name]["__OOV__"]
        assert split.columns[name].tolist() == [numbers.get(word, unknown) for word in made[name]]
        (table,) = split.tables
        history = f"{name.removesuffix('_id')}_history"
        for row, words in enumerate(made[history]):
            span = slice(table.start[row], table.start[row] + table.length[row])
            assert table.columns[history][span].tolist() == [numbers.get(word, unknown) for word in words]
    scores = experiment.predict(folder / "made.parquet")
    assert len(np.unique(scores.round(7))) > len(users)
    np.testing.assert_array_equal(experiment.predict(made), scores)
    write_scores(scores, folder / "made.parquet", folder / "scores.csv", experiment.params)
    written = pl.read_csv(folder / "scores.csv", infer_schema=False)
    assert (
        written["user_id"].to_list() == rows["uid"].to_list() and written["item_id"].to_list() == rows["iid"].to_list()
    )

    # A CSV file has the same rows, or is refused with the id that CSV cannot represent.
    if several := [word for word in {*log["iid"], *log["cid"]} if "^" in word]:
        with pytest.raises(UserError) as refused:
            apply_build(DatasetEntry.of(params), folder / "rows.parquet", folder / "made.csv", verbose=False)
        assert any(f"id = {word!r} in {file}; --out FILE" in str(refused.value) for word in several)
    else:
        apply_build(DatasetEntry.of(params), folder / "rows.parquet", folder / "made.csv", verbose=False)
        np.testing.assert_array_equal(experiment.predict(folder / "made.csv"), scores)

    # A server and the exported models of its bundle give the same scores.
    write_bundle(experiment, folder / "bundle", users_of_test(experiment, 5))
    bundle = open_bundle(folder / "bundle")
    reader, score = RequestReader(bundle, Limits()), scorer_of(bundle.model)
    exported = PaddedDIEN(bundle.model, loop_extract, loop_evolve)
    read = inputs_of(bundle.model.feature_map, exported)
    for user in users:
        of_user = (made["user_id"] == user).to_numpy()
        inputs = reader.read(request_of(made.filter(of_user)))
        np.testing.assert_allclose(score(inputs), scores[of_user], rtol=0, atol=1e-5)
        arrays = {name: torch.as_tensor(values) for name, values in (inputs.user | inputs.candidates).items()}
        with torch.no_grad():
            got = exported({name: arrays[name] for name in read}, torch.zeros(inputs.count).long())
        np.testing.assert_allclose(got.numpy(), scores[of_user], rtol=0, atol=1e-5)
    assert (loader == "memory_mapped") == (not bundle.examples)
    for request in bundle.examples:
        assert set(request["user"]["item_history"]) <= set(items) and set(request["candidates"]["item_id"]) <= set(
            items
        )
        assert len(score(reader.read(request))) == len(request["candidates"]["item_id"])

    # `run_evolution.py` finds the ids by their words.
    words = words_of(encoder, "item_id", np.arange(len(vocabularies["item_id"])))
    assert {word: number for number, word in words.items()} == {
        word: number for word, number in vocabularies["item_id"].items() if word not in RESERVED
    }
