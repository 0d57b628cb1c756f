"""Side fields that a request leaves out are those of the data set's items."""

import copy
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from made_columns import META, categorical, sequence, write_rows
from made_data import entry, prepare_entry
from made_rows import requests_of

from dien_fuxictr import Experiment
from dien_fuxictr.dataset.encoding.encoder import Encoder
from dien_fuxictr.dataset.encoding.online import FieldError
from dien_fuxictr.experiment.models import load_feature_map
from dien_fuxictr.serving.bundle import Bundle
from dien_fuxictr.serving.item_sides import Catalogue, Sides, catalogue_of
from dien_fuxictr.serving.request import Limits, RequestReader

FIELDS = {"cate_id": Sides("item_id", "cate_id"), "cate_history": Sides("item_history", "cate_id")}


def without_categories(request: dict[str, Any]) -> dict[str, Any]:
    return {
        part: {name: values for name, values in fields.items() if not name.startswith("cate")}
        for part, fields in request.items()
    }


def test_every_item_of_the_data_set_has_its_category(opened: Bundle, project: Path) -> None:
    behaviours = pl.read_parquet(project / "data" / "amazon" / "samples" / "behaviours.parquet")
    vocabularies = opened.encoder.vocabularies
    assert opened.catalogue.fields == FIELDS and opened.catalogue.words.keys() == {"cate_id"}
    words = opened.catalogue.words["cate_id"]
    assert len(words) == len(vocabularies["item_id"]) - 2
    for item, category in behaviours.select("item_history", "cate_history").unique().rows():
        if item in vocabularies["item_id"]:
            assert words[item] == category


def test_requests_without_categories_are_those_with(opened: Bundle, project: Path) -> None:
    """Compare requests without categories, except for items unknown to training.

    The encoder of the data set need not know their categories.
    """
    reader, compared = RequestReader(opened, Limits()), 0
    for request in requests_of(project / "data" / "amazon" / "samples"):
        expected = reader.read(request)
        if not expected.unknown["item_history"] and not expected.unknown["item_id"]:
            got = reader.read(without_categories(request))
            for part in ("user", "candidates"):
                for name, values in getattr(expected, part).items():
                    assert values.tolist() == getattr(got, part)[name].tolist()
            compared += 1
    assert compared > 50


def test_of_items_that_are_not_known(opened: Bundle) -> None:
    request = {"user": {"item_history": ["new", None, ""]}, "candidates": {"item_id": ["new", None]}}
    before = copy.deepcopy(request)
    inputs = RequestReader(opened, Limits()).read(request)
    oov = opened.encoder.vocabularies["cate_id"]["__OOV__"]
    assert inputs.user["cate_history"].tolist() == [[oov, 0, 0]] and inputs.candidates["cate_id"].tolist() == [oov, oov]
    assert inputs.unknown["cate_history"] == 3 and request == before


@pytest.mark.parametrize("items", [[["a"]], [{"a": 1}], "a", 5])
def test_what_is_no_item_is_named(items: Any, opened: Bundle) -> None:
    with pytest.raises(FieldError, match=r"^(user.item_history|candidates.item_id): must"):
        RequestReader(opened, Limits()).read({"user": {"item_history": []}, "candidates": {"item_id": items}})


def test_what_differs_for_one_item_is_no_side_field(tmp_path: Path) -> None:
    """Refuse a side field if the targets' categories do not follow the item."""
    columns = [
        META,
        categorical(["item_id", "cate_id"]),
        sequence("item_history", share_embedding="item_id"),
        sequence("cate_history", share_embedding="cate_id"),
    ]
    params = prepare_entry(entry(write_rows(tmp_path / "in"), tmp_path, feature_cols=columns))
    encoder, features = Encoder.load(tmp_path / "made", params), load_feature_map(params).features
    assert catalogue_of(encoder, features, tmp_path / "made") == Catalogue({}, {})


def catalogue_with(rows: list[tuple[str, str | None, str, str]], folder: Path) -> tuple[Catalogue, Encoder]:
    """Return the catalogue of a data set with these rows.

    A row is item, category, history of items, history of categories.
    """
    names = ("item_id", "cate_id", "item_history", "cate_history")
    frame = pl.DataFrame(rows, schema=dict.fromkeys(names, pl.String), orient="row")
    frame = frame.with_columns(label=pl.int_range(pl.len()) % 2, user_id=pl.lit("u"))
    (folder / "in").mkdir()
    for split in ("train", "valid", "test"):
        frame.write_csv(folder / "in" / f"{split}.csv")
    columns = [
        META,
        categorical(["item_id", "cate_id"]),
        sequence("item_history", share_embedding="item_id"),
        sequence("cate_history", share_embedding="cate_id"),
    ]
    params = prepare_entry(entry(folder / "in", folder, feature_cols=columns))
    encoder = Encoder.load(folder / "made", params)
    return catalogue_of(encoder, load_feature_map(params).features, folder / "made"), encoder


ROWS = [("a", "x", "b^c", "y^x"), ("b", "y", "a", "x"), ("c", "x", "a^b", "x^y")]


def test_a_row_without_a_category_loses_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    catalogue, _ = catalogue_with([*ROWS, ("a", None, "c^b^a", "x^y^")], tmp_path)
    assert catalogue == Catalogue({"cate_id": {"a": "x", "b": "y", "c": "x"}}, FIELDS)
    assert not [record for record in caplog.records if "catalogue" in record.message]


def test_items_without_a_category_count_as_unknown(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    catalogue, _ = catalogue_with([*ROWS, ("d", None, "d^b", "^y"), ("b", "y", "a^d", "x^")], tmp_path)
    assert catalogue == Catalogue({"cate_id": {"a": "x", "b": "y", "c": "x"}}, FIELDS)
    assert caplog.messages[-1] == (
        "the catalogue lacks cate_id of 1 of 4 items, which have no value in the data set: where requests leave it "
        "out, it counts as unknown"
    )
    parts = {"user": {"item_history": ["d", "a"]}, "candidates": {"item_id": ["b", "d"]}}
    catalogue.complete(parts)
    assert parts["user"]["cate_history"] == ["__OOV__", "x"] and parts["candidates"]["cate_id"] == ["y", "__OOV__"]


def test_items_of_two_categories_need_theirs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    catalogue, _ = catalogue_with([*ROWS, ("b", "x", "a", "x")], tmp_path)
    assert catalogue == Catalogue({"cate_id": {"a": "x", "b": None, "c": "x"}}, FIELDS)
    assert caplog.messages[-1] == (
        "the catalogue lacks cate_id of 1 of 3 items, which have several values in the data set (b): requests with "
        "such items must hold cate_id and cate_history"
    )
    parts = {"user": {"item_history": ["a", None, "c"]}, "candidates": {"item_id": ["a", "new"]}}
    catalogue.complete(parts)
    assert parts["user"]["cate_history"] == ["x", None, "x"] and parts["candidates"]["cate_id"] == ["x", "__OOV__"]
    for part, fields in (("user", {"item_history": ["a", "b"]}), ("candidates", {"item_id": ["b"]})):
        with pytest.raises(FieldError, match=rf"^{part}.cate_.*: is missing, and item_.* 'b' has several values"):
            catalogue.complete({part: fields})


def test_a_field_that_no_item_determines(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    catalogue, _ = catalogue_with([(i, c, i, c) for i in "ab" for c in "xy"], tmp_path)
    assert catalogue == Catalogue({}, {})
    assert (
        caplog.messages[-1] == "the catalogue has no cate_id for any item: requests must hold cate_id and cate_history"
    )


def test_an_experiment_without_side_fields(experiment: Experiment) -> None:
    data_dir = Path(experiment.params["data_root"], "amazon")
    params = {**experiment.params, "group_id": None, "use_features": ["item_id", "item_history", "session_history"]}
    features = load_feature_map(params).features
    assert catalogue_of(Encoder.load(data_dir, params), features, data_dir) == Catalogue({}, {})


def test_columns_of_no_item_are_never_filled(tmp_path: Path) -> None:
    catalogue, encoder = catalogue_with(ROWS, tmp_path)
    assert catalogue.fields == FIELDS
    params = {"dataset_id": "made", "data_root": str(tmp_path), "model_id": "m"}
    features = load_feature_map(params).features
    assert catalogue_of(encoder, features, tmp_path / "made", {"cate_id"}) == Catalogue({}, {})
