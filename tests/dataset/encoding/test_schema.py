from pathlib import Path

import pytest

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.dataset.encoding.schema import active_columns, check_columns

LABEL = [{"name": "label", "dtype": "float"}]
ITEM = {"name": "item_id", "type": "categorical", "dtype": "str"}
HISTORY = {"name": "item_history", "type": "sequence", "dtype": "str", "share_embedding": "item_id"}


def test_name_lists_inactive_columns_and_types() -> None:
    columns = active_columns(
        [
            {"name": ["a", "b"], "type": "categorical", "dtype": int},
            {"name": "c", "type": "meta", "dtype": "str"},
            {"name": "d", "active": False, "type": "numeric", "dtype": "float"},
        ]
    )
    assert [(column["name"], column["dtype"]) for column in columns] == [("a", "int"), ("b", "int"), ("c", "str")]


@pytest.mark.parametrize(
    "column",
    [
        {"type": "categorical", "dtype": "str"},
        {"name": "a", "type": "categorical"},
        {"name": "a", "dtype": "str"},
    ],
)
def test_incomplete_columns(column: dict) -> None:
    with pytest.raises(UserError, match=r"has no name or no (type|dtype)"):
        active_columns([column])


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ([ITEM, ITEM], "column item_id is listed twice"),
        ([{**ITEM, "dtype": "string"}], "column item_id: dtype=string is not known; allowed: str, int, float"),
        ([{**ITEM, "type": "category"}], "column item_id: type=category is not known; allowed: categorical"),
        ([ITEM, {**HISTORY, "padding": "left"}], "column item_history: padding=left is not known; allowed: post, pre"),
        ([ITEM, {**HISTORY, "max_len": -1}], "column item_history: max_len=-1 must be a whole number"),
        ([{**ITEM, "type": "numeric", "normalizer": "log"}], "normalizer=log is not known; allowed: StandardScaler"),
        ([{**ITEM, "category_processor": "hash_bucket"}], "item_id: category_processor=hash_bucket is not supported"),
        ([{**ITEM, "preprocess": "lower"}], "preprocess=lower of column item_id is not known"),
        ([{**ITEM, "pretrained_emb": "absent.h5"}], "column item_id: pretrained_emb=absent.h5 does not exist"),
    ],
)
def test_wrong_keys(columns: list[dict], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_columns(columns, LABEL)


def test_integer_ids_beside_a_history_of_strings() -> None:
    with pytest.raises(UserError, match="item_id is read as int but shares its embedding with item_history"):
        check_columns([{**ITEM, "dtype": "int"}, HISTORY], LABEL)
    with pytest.raises(UserError, match="other_id is read as int but shares its embedding with item_id"):
        check_columns([ITEM, {**ITEM, "name": "other_id", "dtype": "int", "share_embedding": "item_id"}], LABEL)
    check_columns([ITEM, HISTORY], LABEL)


def test_a_pretrained_file_that_exists(tmp_path: Path) -> None:
    file = tmp_path / "emb.npz"
    file.touch()
    check_columns([{**ITEM, "pretrained_emb": str(file)}], LABEL)
