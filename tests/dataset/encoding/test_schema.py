from pathlib import Path

import pytest

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.common.key_types import Contract
from dien_fuxictr.dataset.encoding.schema import COLUMN, SPEC, active_columns, check_columns, check_mappings
from dien_fuxictr.dataset.encoding.schema import LABEL as LABEL_KEYS

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
    ("contract", "column", "message"),
    [
        (COLUMN, {"type": "categorical", "dtype": "str"}, "name is missing in .*'categorical'.* of feature_cols in f"),
        (COLUMN, {**ITEM, "type": None}, "type is missing in 'item_id' of feature_cols in f"),
        (COLUMN, {"name": "a", "type": "meta"}, "dtype is missing in 'a' of feature_cols in f"),
        (LABEL_KEYS, {"name": "label"}, "dtype is missing in 'label' of"),
        (SPEC, {"feature_encoder": None}, "name is missing in .* of"),
        (COLUMN, {**ITEM, "name": 5}, "name = 5 in 5 of .* must be the name of a column, or a list of names"),
        (COLUMN, {**ITEM, "active": "maybe"}, "active = 'maybe' in 'item_id' of .* must be True or False"),
        (COLUMN, {**ITEM, "dtype": "string"}, "dtype = 'string' in 'item_id' of .* must be str or int or float"),
        (COLUMN, {**ITEM, "dtype": bool}, "dtype = <class 'bool'> in 'item_id' of .* must be str or int or float"),
        (COLUMN, {**ITEM, "dtype": "__import__('os').getcwd()"}, "dtype = .*getcwd.* must be str or int or float"),
        (COLUMN, {**ITEM, "type": "category"}, "type = 'category' in .* must be categorical, sequence, numeric, embe"),
        (COLUMN, {**HISTORY, "padding": "left"}, "padding = 'left' in 'item_history' of .* must be post or pre"),
        (COLUMN, {**HISTORY, "max_len": -1}, "max_len = -1 in 'item_history' of .* must be a whole number from 0"),
        (COLUMN, {**HISTORY, "max_len": 10**9}, "max_len = 1000000000 in .* must be a whole number from 0 to 1000000"),
        (
            COLUMN,
            {**HISTORY, "min_categr_count": "few"},
            "min_categr_count = 'few' in .* must be a whole number, 0 or more",
        ),
        (
            COLUMN,
            {**HISTORY, "paddding": "pre"},
            "unknown key 'paddding' in 'item_history' of .*did you mean 'padding'",
        ),
        (SPEC, {"name": "a", "share_embeding": "b"}, "unknown key 'share_embeding' .*did you mean 'share_embedding'"),
        (COLUMN, {**HISTORY, "maxlen": 3}, "unknown key 'maxlen' .*did you mean 'max_len'"),
        (COLUMN, {**ITEM, 5: 1}, "the key 5 in 'item_id' of .* must be text"),
        (COLUMN, {**ITEM, "type": "numeric", "normalizer": "log"}, "normalizer = 'log' .* must be StandardScaler or"),
        (COLUMN, {**ITEM, "embedding_dim": 0}, "embedding_dim = 0 in .* must be a whole number from 1"),
    ],
)
def test_wrong_columns(contract: Contract, column: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_mappings(contract, [ITEM, column] if contract is COLUMN else column, "feature_cols in f")


def test_old_keys_are_unknown_and_number_text_is_accepted() -> None:
    column = {**HISTORY, "max_len": "5", "na_value": 0}
    assert check_mappings(COLUMN, [column], "f") == ["na_value ('item_history' of f)"]
    assert column["max_len"] == 5
    assert check_mappings(SPEC, None, "f") == []


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ([ITEM, ITEM], "column item_id is listed twice"),
        ([{**ITEM, "category_processor": "hash_bucket"}], "item_id: category_processor=hash_bucket is not supported"),
        ([{**ITEM, "preprocess": "lower"}], "preprocess=lower of column item_id is unknown"),
        ([{**ITEM, "pretrained_emb": "absent.h5"}], "column item_id: pretrained_emb=absent.h5 does not exist"),
        ([{**ITEM, "pretrained_emb": "README.md"}], "pretrained_emb=README.md must be a .npz, .h5 or .parquet file"),
    ],
)
def test_wrong_keys(columns: list[dict], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_columns(columns, LABEL)


def test_integer_ids_and_string_history_are_refused() -> None:
    with pytest.raises(UserError, match="item_id is read as int but shares its embedding with item_history"):
        check_columns([{**ITEM, "dtype": "int"}, HISTORY], LABEL)
    with pytest.raises(UserError, match="other_id is read as int but shares its embedding with item_id"):
        check_columns([ITEM, {**ITEM, "name": "other_id", "dtype": "int", "share_embedding": "item_id"}], LABEL)
    check_columns([ITEM, HISTORY], LABEL)


def test_a_pretrained_file_that_exists(tmp_path: Path) -> None:
    file = tmp_path / "emb.npz"
    file.touch()
    check_columns([{**ITEM, "pretrained_emb": str(file)}], LABEL)
