"""A data set's entry: which files and keys a build of it depends on, and how it is built."""

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import fuxictr.preprocess

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.common.key_types import described, must, whole
from dien_fuxictr.common.ray_loopback import fuxictrs_ray

from ..encoding.encode_splits import encode_splits
from ..encoding.processor import InProcessFeatureProcessor
from ..encoding.reading import SplitReader, expand_path, left_out_beside
from ..encoding.schema import active_columns, check_columns, label_columns
from ..samples.build_options import RAW_FILES, BuildOptions
from ..samples.build_samples import build_samples, raw_files
from ..samples.protocols import SPLITS
from .fingerprint import Fingerprint, flatten
from .memory_mapped import build_memory_mapped

DATA_FORMATS = ("csv", "parquet", "npz")
LOADERS = ("in_memory", "memory_mapped", "zoo")

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
    "data_loader": Annotated[Literal[(*LOADERS, None)], "in_memory, memory_mapped (earlier: flat), zoo or None"],
}
"""Keys that the zoo's `FeatureProcessor` and `build_dataset` read, and our builder's."""

_KEYS = {"sep": ",", "n_rows": None, "min_categr_count": 1}
_ZOO_KEYS = {"num_buckets": 10, "data_block_size": 0}


@dataclass(frozen=True)
class DatasetEntry:
    """What a configuration says of its data set.

    Attributes:
        params: of the experiment, paths resolved.

    Raises:
        UserError: a key is missing, or has a value that is not allowed.
    """

    params: dict

    def __post_init__(self) -> None:
        self.require("data_root", "dataset_id", "data_format")
        for key in ("valid_size", "test_size"):
            if self.params.get(key):
                raise UserError(
                    f"{key}={self.params[key]}: FuxiCTR cannot split what it reads lazily; split the file yourself "
                    "and name valid_data and test_data"
                )
        if self.is_encoded and self.loader != "zoo":
            raise UserError(
                f"data_loader: {self.loader} reads csv and raw parquet; npz, and parquet with rebuild_dataset: "
                "False, are encoded already"
            )

    def require(self, *keys: str) -> None:
        """Raise UserError for the first of the keys that has no value."""
        for key in keys:
            if not self.params.get(key):
                raise UserError(f"data set {self.params.get('dataset_id')}: {key} is missing")

    @cached_property
    def options(self) -> BuildOptions | None:
        """Of the build that makes the samples; None where they are files."""
        return BuildOptions.of(build) if (build := self.params.get("build")) else None

    @property
    def data_dir(self) -> Path:
        """The folder of the built set."""
        return Path(self.params["data_root"], self.params["dataset_id"])

    @property
    def samples_dir(self) -> Path:
        """The folder of the samples that the set is made of."""
        if self.params.get("build"):
            return self.data_dir / "samples"
        return Path(self.params.get("train_data") or "").parent

    @property
    def data_format(self) -> str:
        """Form of the splits: csv | parquet | npz."""
        return self.params["data_format"]

    @property
    def splits(self) -> dict[str, str]:
        """Split -> the path that the entry gives; those it does not have are left out."""
        paths = {split: self.params.get(f"{split}_data") for split in SPLITS}
        return {split: path for split, path in paths.items() if path}

    @property
    def is_encoded(self) -> bool:
        """Whether the splits hold ids already: there is nothing to build."""
        return self.data_format == "npz" or (
            self.data_format == "parquet" and self.params.get("rebuild_dataset") is False
        )

    @property
    def loader(self) -> str:
        """Who encodes and loads: in_memory | memory_mapped | zoo."""
        return self.params.get("data_loader") or ("zoo" if self.is_encoded else "in_memory")

    def keys(self) -> dict[str, object]:
        """The keys that a build depends on, flat; paths are left out, the content of their files counts."""
        params, build = self.params, self.params.get("build") or {}
        columns = [
            {key: value for key, value in column.items() if key != "pretrained_emb"}
            for column in active_columns(params["feature_cols"])
        ]
        defaults = _KEYS | _ZOO_KEYS if self.loader == "zoo" else _KEYS
        kept: dict = {key: params.get(key, default) for key, default in defaults.items()}
        if not build:
            kept["splits"] = list(self.splits)
        kept["build"] = {key: value for key, value in build.items() if key not in ("raw_from", *RAW_FILES)}
        kept |= {
            "data_format": self.data_format,
            "data_loader": self.loader,
            "feature_cols": columns,
            "label_col": label_columns(params["label_col"]),
        }
        return {k: v for key, value in kept.items() for k, v in flatten(key, value).items()}

    def files(self, required: bool) -> dict[str, Path]:
        """The files that a build reads, role -> path.

        Args:
            required: whether a missing file is an error; else it is left out.

        Raises:
            UserError: a split has no path or no file.
        """
        files = {
            f"pretrained_emb of {column['name']}": Path(column["pretrained_emb"])
            for column in active_columns(self.params["feature_cols"])
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
            hint = f"; to get it: {self.params['raw_from']}" if self.params.get("raw_from") else ""
            raise UserError(f"{split}_data: {error}{hint}") from error

    def fingerprint(self, known: Fingerprint | None, required: bool) -> Fingerprint:
        """What a build at this moment would depend on.

        Args:
            known: of the set that is built; a file that is as it was then is not read again.
            required: as for `files`.
        """
        return Fingerprint.take(self.keys(), self.files(required), known)

    def build(self, folder: Path) -> None:
        """Build the set in a folder of its name.

        Raises:
            UserError: wrong columns or input files.
        """
        if self.loader == "zoo":
            self._build_by_fuxictr(folder)
        elif self.loader == "memory_mapped":
            build_memory_mapped(self.params, self.params_for(folder), folder)
        else:
            self._build_in_process(folder)

    @property
    def _is_binary(self) -> bool:
        return self.params.get("task") != "regression"

    def _build_in_process(self, folder: Path) -> None:
        """Raw files -> samples (where the entry says `build`) -> encoded files."""
        paths: dict[str, str | Path] = {**self.splits}
        if self.options:
            build_samples(self.options, folder / "samples", verbose=self.params.get("verbose", 1) > 0)
            paths = {split: folder / "samples" / f"{split}.{self.data_format}" for split in SPLITS}
        processor = InProcessFeatureProcessor(**self.params_for(folder))
        try:
            raw = {
                split: processor.reader.read(path, self.data_format, to_fit=split == "train", is_binary=self._is_binary)
                for split, path in paths.items()
            }
        except UserError as error:  # the temporary folder means nothing to a user
            raise UserError(str(error).replace(f"{folder}{os.sep}", "")) from error
        encode_splits(processor, raw, folder)

    def _build_by_fuxictr(self, folder: Path) -> None:
        """FuxiCTR's own build, through Ray."""
        if "build" in self.params:
            raise UserError(
                "data_loader: zoo cannot read samples that share histories; build them with format csv by "
                "`python build_dataset.py`, and name the files in train_data, valid_data and test_data"
            )
        columns, labels = active_columns(self.params["feature_cols"]), label_columns(self.params["label_col"])
        check_columns(columns, labels)
        separator = self.params.get("sep", ",")
        for path in self.splits.values():
            reader = SplitReader([], labels, separator)  # FuxiCTR would take an empty label for 0
            reader.read(path, self.data_format, is_binary=self._is_binary)
            SplitReader(columns, labels, separator).require_tokens_of_zoo(path, self.data_format)
        params: dict[str, Any] = self.params_for(folder) | {"feature_cols": columns, "label_col": labels}
        with fuxictrs_ray():
            fuxictr.preprocess.build_dataset(fuxictr.preprocess.FeatureProcessor(**params), **params)

    def params_for(self, folder: Path) -> dict[str, Any]:
        """Return the parameters of a build that writes into a folder."""
        return {**self.params, "data_root": str(folder.parent), "dataset_id": folder.name}
