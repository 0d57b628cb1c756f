"""Check `feature_cols`, `feature_specs` and `label_col` before reading any data."""

from pathlib import Path
from typing import Annotated, Any, Literal

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.common.key_types import SIZE, Contract, Key, described, must, whole

from .reading import DTYPES, source_of

_NAMES = Annotated[str | list[str], "the name of a column, or a list of names"]
KEYS: dict[str, Key] = {
    "name": Key(_NAMES, "column of the samples; several columns of the same kind may share an entry"),
    "active": Key(bool, "False: the column is left out (default True)"),
    "dtype": Key(
        described(str | type, " or ".join(DTYPES), must(lambda dtype: _name_of(dtype) in DTYPES)), "type of the values"
    ),
    "type": Key(
        Literal["categorical", "sequence", "numeric", "embedding", "meta"],
        "kind of the feature; `meta` is read, but no model gets it",
    ),
    "source": Key(str, "group of features, which FuxiCTR's models may choose by"),
    "splitter": Key(str, "character between the steps of a sequence in a CSV file"),
    "max_len": Key(
        whole(0, 10**6),
        "steps of a sequence that are kept; 0: as many as the longest sequence of the training rows has",
    ),
    "padding": Key(
        Literal["post", "pre"],
        "side of a sequence that is padded (default post); a longer sequence is cut at the same side",
    ),
    "share_embedding": Key(str, "feature whose vocabulary and embedding this one shares"),
    "embedding_dim": Key(SIZE, "size of the embedding, instead of the model's"),
    "emb_output_dim": Key(SIZE, "size that the feature's embedding has after its encoder"),
    "fill_na": Key(str | int | float, "value of an empty cell"),
    "min_categr_count": Key(whole(0), "occurrences that a value needs for an embedding of its own"),
    "num_buckets": Key(whole(1), "buckets of a numeric feature that becomes a categorical one"),
    "vocab_size": Key(whole(1, 2**31 - 1), "number of ids of a feature that is encoded already"),
    "remap": Key(bool, "False: values of a `meta` column stay as they are"),
    "preprocess": Key(str, "function of FuxiCTR's that makes the column"),
    "normalizer": Key(Literal["StandardScaler", "MinMaxScaler"], "scaling of a numeric feature"),
    "pretrained_emb": Key(Annotated[str, "a file .npz, .h5 or .parquet"], "file of pretrained embeddings"),
    "pretrain_dim": Key(SIZE, "size of the pretrained embeddings"),
    "pretrain_usage": Key(
        Literal["init", "sum", "concat"], "use of the pretrained embedding: as initial value, added, or put beside"
    ),
    "freeze_emb": Key(bool, "True: the pretrained embedding is not trained"),
}
"""Allowed values and meaning of each key of a column."""
# Encoders and initialisers are text that the zoo evaluates; the experiment checks them.
_CHECKED_ELSEWHERE = ("feature_encoder", "embedding_initializer", "category_processor")


def _column(*required: str) -> Contract:
    return Contract({key: [of.kind] for key, of in KEYS.items()}, required, _CHECKED_ELSEWHERE)


COLUMN = _column("name", "type", "dtype")
"""Keys of a column of `feature_cols`."""
SPEC = _column("name")
"""Keys of `feature_specs`, which change those of columns."""
LABEL = _column("name", "dtype")
"""Keys of a label."""


_STORED = ("type", "vocab_size", "max_len", "embedding_dim", "emb_output_dim", "pretrain_dim")
_FEATURE = Contract({key: [KEYS[key].kind] for key in _STORED}, ["type"])


def check_stored(name: str, spec: dict[str, Any], file: Path) -> None:
    """Check the sizes of a stored feature, and the file of its pretrained embedding.

    Args:
        name: name of the feature.
        spec: entry of the feature in `file`.
        file: feature_map.json.

    Raises:
        UserError: a size is not allowed, or the pretrained file is in another folder.
    """
    place = f"feature {name} of {file}"
    _FEATURE.check({key: spec[key] for key in _FEATURE.keys & spec.keys()}, lambda _: place)
    pretrained = spec.get("pretrained_emb", "")
    if Path(pretrained).name != pretrained:
        raise UserError(f"pretrained_emb = {pretrained!r} in {place} must be the name of a file in the same folder")


def check_mappings(contract: Contract, columns: Any, where: str) -> list[str]:
    """Check each column of a list by a contract of this module.

    Args:
        contract: the contract.
        columns: one mapping or a list of them; None is an empty list.
        where: the key and the file that they come from, for messages.

    Returns:
        The unknown keys, each with its place.

    Raises:
        UserError: a key or a value is not allowed.
    """
    unknown = []
    for column in columns if isinstance(columns, list) else [columns] if columns else []:
        place = f"{column.get('name', column)!r} of {where}"
        unknown += [f"{key} ({place})" for key in contract.check(column, lambda _, place=place: place)]
    return unknown


def active_columns(feature_cols: list[dict]) -> list[dict]:
    """Return the active columns, one name each, with dtypes as names.

    A column may list several names.
    """
    columns = [
        named_dtype({"active": True, **column, "name": name})
        for column in feature_cols
        for name in (column["name"] if isinstance(column["name"], list) else [column["name"]])
    ]
    return [column for column in columns if column["active"]]


def label_columns(label_col: dict | list[dict]) -> list[dict]:
    """Return the labels as a list, with dtypes as names."""
    return [named_dtype(label) for label in (label_col if isinstance(label_col, list) else [label_col])]


def named_dtype(column: dict) -> dict:
    """Return the column with its dtype as a name, such as `str`.

    YAML and JSON have names, not Python types.
    """
    return {**column, "dtype": _name_of(column["dtype"])}


def _name_of(dtype: str | type) -> str:
    return dtype.__name__ if isinstance(dtype, type) else dtype


def check_columns(columns: list[dict], labels: list[dict]) -> None:
    """Check active columns, one name each.

    Raises:
        UserError: a key is not supported, two columns have one name, a pretrained file does not exist, or integers and
            strings share an embedding.
    """
    by_name = {}
    for column in [*labels, *columns]:
        name = column["name"]
        if name in by_name:
            raise UserError(f"column {name} is listed twice in feature_cols or label_col")
        by_name[name] = column
        source_of(column)
    for column in columns:
        name = column["name"]
        if "category_processor" in column:
            raise UserError(
                f"column {name}: category_processor={column['category_processor']} is not supported: "
                "FuxiCTR fits buckets but cannot encode with them; write bucket numbers into the data"
            )
        if "pretrained_emb" in column:
            _check_pretrained(name, Path(column["pretrained_emb"]))
        _check_shared(column, by_name)


def _check_pretrained(name: str, file: Path) -> None:
    if file.suffix not in (".npz", ".h5", ".parquet"):
        raise UserError(f"column {name}: pretrained_emb={file} must be a .npz, .h5 or .parquet file")
    if not file.is_file():
        raise UserError(f"column {name}: pretrained_emb={file} does not exist")


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
