"""What the keys of a data set's entry may hold; those of its columns are in `encoding.schema`."""

from typing import Annotated, Any, Literal

from dien_fuxictr.common.contract import described, must, whole

DATA_FORMATS = ("csv", "parquet", "npz")
LOADERS = ("in_memory", "flat", "zoo")

_PATH = str | None
_COLUMNS = Annotated[list[dict[str, Any]], "a list, each a mapping with name, type and dtype"]

ENTRY: dict[str, Any] = {
    "data_root": str,
    "dataset_id": str,
    "data_format": Literal[DATA_FORMATS],
    "train_data": _PATH,
    "valid_data": _PATH,
    "test_data": _PATH,
    "raw_from": _PATH,
    "valid_size": float,
    "test_size": float,
    "split_type": Literal["random", "sequential"],
    "build": described(dict[str, Any] | None, "a mapping of options, e.g. source: amazon"),
    "feature_cols": _COLUMNS,
    "label_col": Annotated[dict[str, Any] | list[dict[str, Any]], "a mapping with name and dtype, or a list of such"],
    "min_categr_count": whole(0),
    "num_buckets": whole(1),
    "data_block_size": int,
    "sep": described(str, "one ASCII character", must(lambda sep: len(sep) == 1 and sep.isascii())),
    "n_rows": whole(1) | None,
    "rebuild_dataset": bool,
    "data_loader": Literal[(*LOADERS, None)],
}
"""Keys that the zoo's `FeatureProcessor` and `build_dataset` read, and our builder's."""
