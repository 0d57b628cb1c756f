"""Side fields that a request leaves out are those of the data set's items."""

import copy
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from made_columns import META, categorical, sequence, write_rows
from made_data import entry
from made_rows import requests_of

from dien_fuxictr.dataset.encoding.encoder import Encoder
from dien_fuxictr.dataset.encoding.online import FieldError
from dien_fuxictr.dataset.loading.prepare import prepare_dataset
from dien_fuxictr.experiment import Experiment
from dien_fuxictr.experiment.models import load_feature_map
from dien_fuxictr.serving.bundle import Bundle
from dien_fuxictr.serving.catalogue import Catalogue, Sides, catalogue_of
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
    """But for items that training has not seen, whose category the data set's encoder need not know."""
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
    assert inputs.user["cate_history"].tolist() == [[oov, 0]] and inputs.candidates["cate_id"].tolist() == [oov, oov]
    assert inputs.unknown["cate_history"] == 1 and request == before


@pytest.mark.parametrize("items", [[["a"]], [{"a": 1}], "a", 5])
def test_what_is_no_item_is_named(items: Any, opened: Bundle) -> None:
    with pytest.raises(FieldError, match=r"^(user.item_history|candidates.item_id): must"):
        RequestReader(opened, Limits()).read({"user": {"item_history": []}, "candidates": {"item_id": items}})


def test_what_differs_for_one_item_is_no_side_field(tmp_path: Path) -> None:
    """Categories follow the item, those of the targets do not: the sequences alone are no proof."""
    columns = [
        META,
        categorical(["item_id", "cate_id"]),
        sequence("item_history", share_embedding="item_id"),
        sequence("cate_history", share_embedding="cate_id"),
    ]
    params = prepare_dataset(entry(write_rows(tmp_path / "in"), tmp_path, feature_cols=columns))
    encoder, features = Encoder.load(tmp_path / "made", params), load_feature_map(params).features
    assert catalogue_of(encoder, features, tmp_path / "made") == Catalogue({}, {})


def test_an_experiment_without_side_fields(experiment: Experiment) -> None:
    data_dir = Path(experiment.params["data_root"], "amazon")
    params = {**experiment.params, "group_id": None, "use_features": ["item_id", "item_history", "session_history"]}
    features = load_feature_map(params).features
    assert catalogue_of(Encoder.load(data_dir, params), features, data_dir) == Catalogue({}, {})
