"""Form of a request: scores equal those of rows, errors name the field."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_rows import requests_of

from dien_fuxictr import open_experiment
from dien_fuxictr.dataset.encoding.online import FieldError
from dien_fuxictr.serving.bundle import Bundle, open_bundle
from dien_fuxictr.serving.request import Limits, RequestReader, scorer_of
from dien_fuxictr.serving.write import write_bundle

REQUEST: dict[str, Any] = {
    "user": {"item_history": ["a", "b"], "cate_history": ["x", "y"]},
    "candidates": {"item_id": ["a", "b", "c"], "cate_id": ["x", "y", "z"]},
}


@pytest.fixture
def reader(opened: Bundle) -> RequestReader:
    return RequestReader(opened, Limits(candidates=5, behaviours=60))


@pytest.mark.parametrize("expid", ["DIEN_amazon", "WideDeep_amazon"])
def test_every_test_row_scores_as_by_predict(expid: str, project: Path, tmp_path: Path) -> None:
    experiment = open_experiment(expid)
    write_bundle(experiment, tmp_path / "bundle", [])
    bundle = open_bundle(tmp_path / "bundle")
    reader, score = RequestReader(bundle, Limits()), scorer_of(bundle.model)
    samples = project / "data" / "amazon" / "samples"
    expected = experiment.predict(samples / "test.parquet").tolist()
    scores = [value for request in requests_of(samples) for value in score(reader.read(request)).tolist()]
    assert len(scores) > 100
    assert scores == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("expid", ["DIEN_amazon", "WideDeep_amazon"])
@pytest.mark.parametrize(
    ("items", "categories"), [((), (-1,)), ((2,), ()), ((), (0, 1)), ((1, -2), (1, 3)), ((-1,), ()), ((0,), (0,))]
)
def test_null_in_a_history_scores_as_by_predict(
    expid: str, items: tuple[int, ...], categories: tuple[int, ...], project: Path, tmp_path: Path
) -> None:
    """Score null in a history like null in Parquet lists and empty text tokens."""
    experiment = open_experiment(expid)
    write_bundle(experiment, tmp_path / "bundle", [])
    bundle = open_bundle(tmp_path / "bundle")
    request = next(
        each for each in requests_of(project / "data/amazon/samples") if len(each["user"]["item_history"]) > 5
    )
    count = len(request["candidates"]["item_id"])
    whole = scorer_of(bundle.model)(RequestReader(bundle, Limits()).read(request))
    for name, places in (("item_history", items), ("cate_history", categories)):
        for place in places:
            request["user"][name][place] = None
    lists = pl.DataFrame({name: [tokens] * count for name, tokens in request["user"].items()} | request["candidates"])
    texts = lists.with_columns(
        pl.col(name).list.eval(pl.element().fill_null("")).list.join("^") for name in request["user"]
    )
    lists.write_parquet(tmp_path / "lists.parquet")
    texts.write_csv(tmp_path / "texts.csv")
    reader = RequestReader(bundle, Limits())
    scores = scorer_of(bundle.model)(inputs := reader.read(request))
    for file in ("lists.parquet", "texts.csv"):
        np.testing.assert_allclose(scores, experiment.predict(tmp_path / file), rtol=0, atol=1e-6)
    assert np.abs(scores - whole).max() > 1e-6
    expected = np.zeros(len(request["user"]["item_history"]), dtype=int)
    for places in (items, categories):
        expected[list(places)] += 1
    assert reader.unknown_fields(request, inputs)["behaviours"]["item_history"].tolist() == expected.tolist()
    assert (inputs.unknown["item_history"], inputs.unknown["cate_history"]) == (len(items), len(categories))


def test_reserved_words_are_unknown_ids(reader: RequestReader) -> None:
    words = ["__PAD__", "__OOV__", "new"]
    request: dict[str, Any] = {
        "user": {"item_history": words, "cate_history": words},
        "candidates": {"item_id": words},
    }
    for of_user in words:
        request["user"]["cate_id"] = of_user
        inputs = reader.read(request)
        for name in ("item_id", "cate_id", "item_history", "cate_history"):
            ids = (inputs.user | inputs.candidates)[name]
            assert np.unique(ids).tolist() == [reader.online.oov[name]]
        told = reader.unknown_fields(request, inputs)
        assert told["user"] == 1 and told["candidates"].tolist() == [1, 1, 1]
        assert told["behaviours"]["item_history"].tolist() == [2, 2, 2]
        assert inputs.unknown == {"item_id": 3, "cate_id": 1, "item_history": 3, "cate_history": 3}


def test_padding_as_a_fill_value_is_unknown(opened: Bundle) -> None:
    encoder = copy.copy(opened.encoder)
    encoder.columns = [{**column, "fill_na": "__PAD__"} for column in encoder.columns]
    reader = RequestReader(Bundle(**{**vars(opened), "encoder": encoder}), Limits())
    request = {"user": {"item_history": ["__PAD__"] * 2}, "candidates": {"item_id": ["__PAD__", None]}}
    inputs = reader.read(request)
    assert inputs.unknown == {"item_id": 2, "cate_id": 2, "item_history": 2, "cate_history": 2}


def test_inputs(reader: RequestReader, opened: Bundle) -> None:
    known = [token for token in opened.encoder.vocabularies["item_id"] if not token.startswith("__")][:3]
    request = copy.deepcopy(REQUEST)
    request["user"] |= {"item_history": [known[0], "new", known[1]], "cate_history": ["new"] * 3, "user_id": 7}
    request["candidates"]["item_id"] = [known[2], "new", None]
    inputs = reader.read(request)
    vocabulary = opened.encoder.vocabularies["item_id"]
    oov = vocabulary["__OOV__"]
    assert inputs.user["item_history"].tolist() == [[vocabulary[known[0]], oov, vocabulary[known[1]]]]
    assert inputs.candidates["item_id"].tolist() == [vocabulary[known[2]], oov, oov]
    assert inputs.count == 3 and inputs.candidates["item_id"].dtype == np.int64
    assert inputs.ids == {"item_id": 3, "cate_id": 3, "item_history": 3, "cate_history": 3}
    assert inputs.unknown == {"item_id": 2, "cate_id": 3, "item_history": 1, "cate_history": 3}
    assert reader.read(request).unknown == inputs.unknown, "nothing is kept"


def test_fields_that_are_unknown(reader: RequestReader, opened: Bundle) -> None:
    items, categories = (
        [token for token in opened.encoder.vocabularies[name] if not token.startswith("__")]
        for name in ("item_id", "cate_id")
    )
    request = {
        "user": {
            "item_history": [items[0], None, "new", items[1], "new"],
            "cate_history": [categories[0], None, "new", "new", categories[1]],
        },
        "candidates": {"item_id": [items[0], "new", items[1], None], "cate_id": [categories[0], "new", "x", "y"]},
    }
    told = reader.unknown_fields(request, reader.read(request))
    assert told["user"] == 0 and told["candidates"].tolist() == [0, 2, 1, 2]
    assert {name: counts.tolist() for name, counts in told["behaviours"].items()} == {"item_history": [0, 2, 2, 1, 1]}
    request["user"]["cate_id"] = "new"
    del request["candidates"]["cate_id"]
    told = reader.unknown_fields(request, reader.read(request))
    assert told["user"] == 1 and told["candidates"].tolist() == [0, 1, 0, 1]


def test_behaviours_that_are_cut_are_not_unknown(opened: Bundle) -> None:
    reader = RequestReader(opened, Limits())
    request = {"user": {"item_history": ["new"] * 53}, "candidates": {"item_id": ["new"]}}
    told = reader.unknown_fields(request, reader.read(request))
    assert told["behaviours"]["item_history"].tolist() == [0] * 3 + [2] * 50, "the latest 50 are kept"
    for nothing in (None, []):
        request = {"user": {"item_history": nothing}, "candidates": {"item_id": []}}
        told = reader.unknown_fields(request, reader.read(request))
        assert told["candidates"].tolist() == told["behaviours"]["item_history"].tolist() == []


@pytest.mark.parametrize("nothing", [None, [], [""]])
def test_no_history(nothing: Any, reader: RequestReader) -> None:
    inputs = reader.read({**REQUEST, "user": {"item_history": nothing, "cate_history": nothing}})
    assert inputs.user["item_history"].tolist() == [[0]] and inputs.ids["item_history"] == 0


def test_single_values_may_be_in_either_part(reader: RequestReader) -> None:
    request = copy.deepcopy(REQUEST)
    del request["candidates"]["cate_id"]
    request["user"]["cate_id"] = "x"
    inputs = reader.read(request)
    assert inputs.user["cate_id"].shape == (1,) and inputs.candidates.keys() == {"item_id"}


@pytest.mark.parametrize("padding", ["post", "pre"])
def test_histories_that_are_not_trimmed(padding: str, opened: Bundle) -> None:
    encoder = copy.copy(opened.encoder)
    encoder.columns = [
        {**column, "padding": padding} if column["type"] == "sequence" else column for column in encoder.columns
    ]
    params = {**opened.params, "trim_histories": False}
    bundle = Bundle(**{**vars(opened), "encoder": encoder, "params": params})
    (ids,) = RequestReader(bundle, Limits()).read(REQUEST).user["item_history"].tolist()
    assert len(ids) == 50
    assert [bool(i) for i in ids] == ([True] * 2 + [False] * 48 if padding == "post" else [False] * 48 + [True] * 2)


def changed(path: str, value: Any) -> dict[str, Any]:
    """Return the request with another value at a path, or without it."""
    request = copy.deepcopy(REQUEST)
    *parents, name = path.split(".")
    place = request
    for parent in parents:
        place = place[parent]
    if value is KeyError:
        del place[name]
    else:
        place[name] = value
    return request


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("user", KeyError, "user: is missing"),
        ("candidates", 5, "candidates: must be an object"),
        ("users", {}, "users: is unknown; a request has user and candidates"),
        ("user.item_history", KeyError, "user.item_history: is missing; null or an empty list"),
        ("user.item_history", "a^b", "user.item_history: must be a list or null"),
        ("user.item_history", ["a", 1.5], "user.item_history: must hold text or whole numbers, has 1.5"),
        (
            "user.item_history",
            ["a"],
            r"user.cate_history: must have as many behaviours as item_history \(1\), has 2; they are aligned",
        ),
        ("user.item_history", ["a"] * 61, "user.item_history: must have at most 60 behaviours, has 61"),
        (
            "user.item_history",
            ["^" * 1_900_000],
            r"user.cate_history: must have as many behaviours as item_history \(1\), has 2; ",
        ),
        ("user.item_histroy", [], "user.item_histroy: is unknown; did you mean item_history"),
        ("user.item_id", "a", "user.item_id: must not be in candidates too"),
        ("candidates.cate_history", [], "candidates.cate_history: is a sequence; it must be in user"),
        ("candidates.item_id", KeyError, "candidates.item_id: is missing; it must be here or in user, with null"),
        ("candidates.item_id", ["a"], r"must have as many values as item_id \(1\), has 3"),
        ("candidates.item_id", "a", "candidates.item_id: must be a list, one value per candidate"),
        ("candidates.item_id", ["a", ["b"], "c"], r"candidates.item_id: must hold text or whole numbers, has \['b'\]"),
        ("candidates", {}, "candidates: must not be empty; it needs one or more of item_id, cate_id"),
        (
            "candidates",
            {"item_id": ["a"] * 6, "cate_id": ["a"] * 6},
            "candidates.item_id: must have at most 5 candidates, has 6",
        ),
    ],
)
def test_what_is_wrong(path: str, value: Any, message: str, reader: RequestReader) -> None:
    with pytest.raises(FieldError, match=message):
        reader.read(changed(path, value))


@pytest.mark.parametrize("request_", [None, [], 5, "text"])
def test_what_is_no_object(request_: Any, reader: RequestReader) -> None:
    with pytest.raises(FieldError, match="request: must be an object with user and candidates"):
        reader.read(request_)


NAMES = st.sampled_from(["item_history", "cate_history", "item_id", "cate_id", "user_id", "other"])
ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)
PART = st.dictionaries(NAMES, st.lists(st.text(max_size=2), min_size=2, max_size=2) | ANY, max_size=5) | ANY


@settings(max_examples=300, deadline=None)
@given(st.fixed_dictionaries({}, optional={"user": PART, "candidates": PART}) | ANY)
def test_any_json_is_read_or_refused(opened: Bundle, request_: Any) -> None:
    try:
        inputs = RequestReader(opened, Limits()).read(request_)
    except FieldError as error:
        assert error.field and error.problem
    else:
        assert len(scorer_of(opened.model)(inputs)) == inputs.count


def test_requests_of_rows(project: Path) -> None:
    samples = project / "data" / "amazon" / "samples"
    rows = pl.read_parquet(samples / "test.parquet")
    assert sum(len(request["candidates"]["item_id"]) for request in requests_of(samples)) == rows.height
