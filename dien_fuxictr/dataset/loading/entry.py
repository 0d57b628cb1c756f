"""Entry of a data set: its keys, and the inputs that a build depends on."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, get_origin, get_type_hints

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.common.key_types import Help, Whole, must

from ..encoding.reading import expand_path, left_out_beside
from ..encoding.schema import active_columns, label_columns
from ..samples.build_options import RAW_FILES, BuildOptions
from ..samples.build_samples import raw_files
from ..samples.protocols import SPLITS
from .fingerprint import Fingerprint, flatten

_OF_BUILD = ("sep", "n_rows", "min_categr_count")
_OF_ZOO = ("num_buckets", "data_block_size")


@dataclass(frozen=True, kw_only=True)
class DatasetEntry:
    """Keys of a configuration's data set, with resolved paths.

    Raises:
        UserError: values contradict each other.
    """

    data_root: Annotated[str, Help("folder of built data sets, one subfolder per data set")]
    dataset_id: Annotated[str, Help("name of the data set: its section, and a key of an experiment")]
    data_format: Annotated[
        Literal["csv", "parquet", "npz"],
        Help("format of the files, or of the samples of a build; npz is encoded already"),
    ]
    train_data: Annotated[str | None, Help("training rows: a file, a folder or a pattern; not needed with `build`")] = (
        None
    )
    valid_data: Annotated[str | None, Help("validation rows, likewise")] = None
    test_data: Annotated[str | None, Help("test rows, likewise")] = None
    raw_from: Annotated[str | None, Help("command that downloads the files, shown if one is missing")] = None
    valid_size: Annotated[
        float, Help("FuxiCTR's share of training rows for validation: refused, name `valid_data`")
    ] = 0.0
    test_size: Annotated[float, Help("likewise for the test")] = 0.0
    split_type: Annotated[Literal["random", "sequential"], Help("FuxiCTR's way to split, which goes with the two")] = (
        "sequential"
    )
    build: Annotated[
        dict[str, Any] | None,
        "a mapping of options, e.g. source: amazon",
        Help("options of the build that makes the samples of raw files, those of `build_dataset.py`"),
    ] = None
    feature_cols: Annotated[
        list[dict[str, Any]], "a list, each a mapping with name, type and dtype", Help("the columns of features")
    ] = field(default_factory=list)
    label_col: Annotated[
        dict[str, Any] | list[dict[str, Any]],
        "a mapping with name and dtype, or a list of such",
        Help("the column of the label, or several"),
    ] = field(default_factory=list)
    min_categr_count: Annotated[int, Whole(0), Help("occurrences that a value needs for an embedding of its own")] = 1
    num_buckets: Annotated[int, Whole(1), Help("buckets of numeric features that FuxiCTR makes categorical")] = 10
    data_block_size: Annotated[int, Help("rows per file that FuxiCTR's build writes; 0: one file per split")] = 0
    sep: Annotated[
        str,
        "one ASCII character",
        must(lambda sep: len(sep) == 1 and sep.isascii()),
        Help("character between the fields of a CSV file"),
    ] = ","
    n_rows: Annotated[Annotated[int, Whole(1)] | None, Help("number of rows to read of each file; null: all")] = None
    rebuild_dataset: Annotated[bool, Help("False: the Parquet files contain ids already")] = True
    data_loader: Annotated[
        Literal["in_memory", "memory_mapped", "zoo"] | None,
        "in_memory, memory_mapped (earlier: flat), zoo or None",
        Help(
            "encoding and loading: this project in memory, this project from mapped files, or FuxiCTR; null: "
            "chosen by the files"
        ),
    ] = None

    # Keys of the experiment that reads the data set, if any: `TrainingOptions` and the models explain them.
    group_id: str | None = None
    task: str = "binary_classification"
    verbose: int = 1
    bucket_by_length: bool = False

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> "DatasetEntry":
        """Return the entry in a checked configuration, whose other keys are left out.

        Raises:
            UserError: a key is missing, or values contradict each other.
        """
        for key in ("data_root", "dataset_id", "data_format"):
            if not params.get(key):
                raise UserError(f"data set {params.get('dataset_id')}: {key} is missing")
        return cls(**{each.name: params[each.name] for each in fields(cls) if each.name in params})

    def __post_init__(self) -> None:
        for key in ("valid_size", "test_size"):
            if size := getattr(self, key):
                raise UserError(
                    f"{key} = {size} is not supported: FuxiCTR cannot split files that it reads lazily; split the "
                    "file yourself and set valid_data and test_data"
                )
        if self.is_encoded and self.loader != "zoo":
            raise UserError(
                f"data_loader: {self.loader} reads csv and raw parquet; npz, and parquet with rebuild_dataset: "
                "False, are already encoded"
            )

    def require(self, *keys: str) -> None:
        """Raise UserError for the first of the keys that has no value."""
        for key in keys:
            if not getattr(self, key):
                raise UserError(f"data set {self.dataset_id}: {key} is missing")

    @cached_property
    def options(self) -> BuildOptions | None:
        """Return the options of the build that makes the samples; None for files."""
        return BuildOptions.of(self.build) if self.build else None

    @property
    def data_dir(self) -> Path:
        """Return the folder of the built set."""
        return Path(self.data_root, self.dataset_id)

    @property
    def samples_dir(self) -> Path:
        """Return the folder of the samples that the set is built from."""
        return self.data_dir / "samples" if self.build else Path(self.train_data or "").parent

    @property
    def splits(self) -> dict[str, str]:
        """Return split -> path, for the splits that the entry has."""
        return {split: path for split in SPLITS if (path := getattr(self, f"{split}_data"))}

    @property
    def is_encoded(self) -> bool:
        """Return whether the splits contain ids already, so that no build is needed."""
        return self.data_format == "npz" or (self.data_format == "parquet" and not self.rebuild_dataset)

    @property
    def loader(self) -> str:
        """Return the loader, which also encodes: in_memory | memory_mapped | zoo."""
        return self.data_loader or ("zoo" if self.is_encoded else "in_memory")

    def for_zoo(self, folder: Path | None = None) -> dict[str, Any]:
        """Return the keys for the zoo's classes.

        Args:
            folder: folder that a build writes into; None: the entry's own.
        """
        keys = {each.name: getattr(self, each.name) for each in fields(self)}
        return keys | ({"data_root": str(folder.parent), "dataset_id": folder.name} if folder else {})

    def keys(self) -> dict[str, object]:
        """Return the flat keys that a build depends on.

        Paths are left out, since the content of their files counts.
        """
        columns = [
            {key: value for key, value in column.items() if key != "pretrained_emb"}
            for column in active_columns(self.feature_cols)
        ]
        kept: dict = {key: getattr(self, key) for key in (*_OF_BUILD, *(_OF_ZOO if self.loader == "zoo" else ()))}
        if not self.build:
            kept["splits"] = list(self.splits)
        kept["build"] = {key: value for key, value in (self.build or {}).items() if key not in ("raw_from", *RAW_FILES)}
        kept |= {
            "data_format": self.data_format,
            "data_loader": self.loader,
            "feature_cols": columns,
            "label_col": label_columns(self.label_col),
        }
        return {k: v for key, value in kept.items() for k, v in flatten(key, value).items()}

    def files(self, required: bool) -> dict[str, Path]:
        """Return the files that a build reads, role -> path.

        Args:
            required: whether a missing file is an error; else it is left out.

        Raises:
            UserError: a split has no path or no file.
        """
        files = {
            f"pretrained_emb of {column['name']}": Path(column["pretrained_emb"])
            for column in active_columns(self.feature_cols)
            if "pretrained_emb" in column
        }
        if self.options:
            for i, parts in enumerate(raw_files(self.options).values(), 1):
                files |= {f"build file {i}" + (f", {part.name}" if part.name else ""): part.path for part in parts}
        else:
            if required:
                self.require("train_data")
            for split in self.splits:
                own = self._files_of(split, required)
                beside = left_out_beside(own, self.data_format) if own and split == "train" else []
                for i, file in enumerate(own + beside, 1):
                    files[f"{split}_data file {i}"] = Path(file)
                    behaviours = Path(file).parent / "behaviours.parquet"
                    if self.data_format == "parquet" and behaviours.exists():
                        files[f"behaviours of {split}_data"] = behaviours
        return {role: path for role, path in files.items() if path.is_file()}

    def _files_of(self, split: str, required: bool) -> list[str]:
        try:
            return expand_path(self.splits[split], self.data_format)
        except UserError as error:
            if not required:
                return []
            hint = f"; to get it: {self.raw_from}" if self.raw_from else ""
            raise UserError(f"{split}_data: {error}{hint}") from error

    def fingerprint(self, known: Fingerprint | None, required: bool) -> Fingerprint:
        """Return the fingerprint of a build at this moment.

        Args:
            known: fingerprint of the built set; a file that has not changed since is not read again.
            required: as for `files`.
        """
        return Fingerprint.take(self.keys(), self.files(required), known)


_HINTS = get_type_hints(DatasetEntry, include_extras=True)
ENTRY = {key: kind for key, kind in _HINTS.items() if get_origin(kind) is Annotated}
"""Key -> its type, of the keys that a data set's entry has."""
