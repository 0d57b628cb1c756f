"""Checks of `feature_cols` and `label_col` before anything is read."""

from pathlib import Path

from dien_fuxictr.common.errors import UserError

from .reading import DTYPES, source_of

_TYPES = ("categorical", "sequence", "numeric", "embedding", "meta")
_NORMALIZERS = ("StandardScaler", "MinMaxScaler")


def active_columns(feature_cols: list[dict]) -> list[dict]:
    """The active columns, one name each (a column may list several), dtypes by name.

    Raises:
        UserError: a column has no name, type or dtype.
    """
    columns = []
    for column in feature_cols:
        names = column.get("name")
        for name in names if isinstance(names, list) else [names]:
            columns.append(named_dtype({"active": True, **column, "name": name}))
            if name is None or "type" not in column:
                raise UserError(f"a column of feature_cols has no name or no type: {column}")
    return [column for column in columns if column["active"]]


def label_columns(label_col: dict | list[dict]) -> list[dict]:
    """The labels as a list, dtypes by name.

    Raises:
        UserError: a label has no name or dtype.
    """
    return [named_dtype(label) for label in (label_col if isinstance(label_col, list) else [label_col])]


def named_dtype(column: dict) -> dict:
    """The column with its dtype as a name (`str`), which YAML has and JSON keeps, not as a Python type.

    Raises:
        UserError: it has no name or dtype.
    """
    dtype = column.get("dtype")
    if dtype is None or "name" not in column:
        raise UserError(f"a column of feature_cols or label_col has no name or no dtype: {column}")
    return {**column, "dtype": dtype.__name__ if isinstance(dtype, type) else dtype}


def check_columns(columns: list[dict], labels: list[dict]) -> None:
    """Check active columns, one name each.

    Raises:
        UserError: a key with a value that is not supported, two columns of one name, a pretrained file that does not
            exist, or an embedding shared by integers and strings.
    """
    by_name = {}
    for column in [*labels, *columns]:
        name = column["name"]
        if name in by_name:
            raise UserError(f"column {name} is listed twice in feature_cols or label_col")
        by_name[name] = column
        _one_of(name, "dtype", column["dtype"], tuple(DTYPES))
        source_of(column)
    for column in columns:
        name = column["name"]
        _one_of(name, "type", column["type"], _TYPES)
        if column["type"] == "sequence":
            _one_of(name, "padding", column.get("padding", "post"), ("post", "pre"))
            max_len = column.get("max_len", 0)
            if type(max_len) is not int or max_len < 0:
                raise UserError(f"column {name}: max_len={max_len} must be a whole number, 0 for the longest history")
        if "normalizer" in column:
            _one_of(name, "normalizer", column["normalizer"], _NORMALIZERS)
        if "category_processor" in column:
            raise UserError(
                f"column {name}: category_processor={column['category_processor']} is not supported: "
                "FuxiCTR fits buckets but cannot encode with them; write bucket numbers into the data"
            )
        if "pretrained_emb" in column and not Path(column["pretrained_emb"]).is_file():
            raise UserError(f"column {name}: pretrained_emb={column['pretrained_emb']} does not exist")
        _check_shared(column, by_name)


def _one_of(name: str, key: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UserError(f"column {name}: {key}={value} is not known; allowed: {', '.join(allowed)}")


def _check_shared(column: dict, by_name: dict[str, dict]) -> None:
    owner = by_name.get(column.get("share_embedding", ""))
    if owner is None:
        return
    first, second = _token_dtype(owner), _token_dtype(column)
    if first != second:
        wrong, right = (owner, column) if first != "str" else (column, owner)
        raise UserError(
            f"{wrong['name']} is read as {_token_dtype(wrong)} but shares its embedding with "
            f"{right['name']}, which holds {_token_dtype(right)} values: no id would match; set dtype: "
            f"{_token_dtype(right)} for {wrong['name']}"
        )


def _token_dtype(column: dict) -> str:
    return "str" if column["type"] == "sequence" else column["dtype"]
