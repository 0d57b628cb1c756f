"""A data set entry -> encoded files and the loader that reads them; missing sets are built, changed ones refused."""

import logging
import os
from dataclasses import replace
from pathlib import Path

import fuxictr.preprocess

from dien_fuxictr.common.errors import UserError

from ..encoding.catalogue import save_catalogues
from ..encoding.encoded import aligned_tables, load_layout, save_splits
from ..encoding.encoder import warn_truncated
from ..encoding.processor import InProcessFeatureProcessor
from ..encoding.reading import RawSplit, expand_path
from ..encoding.schema import active_columns, check_columns, label_columns
from ..samples.build import build_samples, raw_files
from ..samples.protocols import SPLITS
from .fingerprint import Fingerprint, differences, flatten, take_fingerprint
from .loader import InMemoryDataLoader
from .publish import FEATURE_MAP, build_and_publish, exclusive

_KEYS = {"sep": ",", "n_rows": None, "min_categr_count": 1}
_ZOO_KEYS = {"num_buckets": 10, "data_block_size": 0}


def prepare_dataset(params: dict, rebuild: bool = False) -> dict:
    """Make sure that the data set of an experiment is built, and say how to read it.

    A folder data_root/dataset_id with feature_map.json and fingerprint.json is reused if its inputs and entry are the
    same; one without fingerprint.json was built by FuxiCTR and is read by its loaders.

    Args:
        params: of the experiment, paths resolved. `data_loader: in_memory` (default for csv and raw parquet) encodes in
            this process; `zoo` (default for npz, and for parquet with `rebuild_dataset: False`) leaves it to FuxiCTR.
        rebuild: build again although a set is there; what stands is replaced only when the new one is whole.

    Returns:
        params with train_data, valid_data and test_data (None where the entry has none) naming encoded files, and
        data_loader the class `InMemoryDataLoader`, or absent for the zoo's own loaders.

    Raises:
        UserError: anything wrong with the entry or its files; a set that was built from other inputs or keys.
    """
    params = dict(params)
    _check_keys(params)
    is_encoded = params["data_format"] == "npz" or (
        params["data_format"] == "parquet" and params.get("rebuild_dataset") is False
    )
    choice = params.pop("data_loader", None) or ("zoo" if is_encoded else "in_memory")
    data_dir = Path(params["data_root"], params["dataset_id"])
    if choice not in ("in_memory", "zoo"):
        raise UserError(f"data_loader={choice} is not known; allowed: in_memory, zoo")
    if is_encoded and choice == "in_memory":
        raise UserError(
            "data_loader: in_memory reads csv and raw parquet; npz, and parquet with rebuild_dataset: "
            "False, are encoded already"
        )
    if is_encoded:
        return _use_encoded(params, data_dir)
    if _is_built(data_dir) and Fingerprint.load(data_dir) is None:
        return _use_unmarked(params, data_dir, choice, rebuild)
    _ensure_built(params, data_dir, choice, rebuild)
    if choice == "zoo":
        return _with_zoo_paths(params, data_dir)
    warn_truncated(load_layout(data_dir / "encoded")["truncated"])
    for split in SPLITS:
        file = data_dir / "encoded" / f"{split}.npz"
        params[f"{split}_data"] = str(file) if file.exists() else None
    return {**params, "data_loader": InMemoryDataLoader}


def _check_keys(params: dict) -> None:
    for key in ("data_root", "dataset_id", "data_format"):
        if not params.get(key):
            raise UserError(f"data set {params.get('dataset_id')}: {key} is missing")
    if params["data_format"] not in ("csv", "parquet", "npz"):
        raise UserError(f"data_format={params['data_format']} is not known; allowed: csv, parquet, npz")
    for key in ("valid_size", "test_size"):
        if params.get(key):
            raise UserError(
                f"{key}={params[key]}: FuxiCTR cannot split what it reads lazily; split the file yourself "
                "and name valid_data and test_data"
            )


def _is_built(data_dir: Path) -> bool:
    return (data_dir / FEATURE_MAP).is_file()


def _use_encoded(params: dict, data_dir: Path) -> dict:
    """Files that are encoded already: all that may be missing is the feature map of parquet, made from the entry."""
    if params["data_format"] == "parquet" and not _is_built(data_dir):
        processor = fuxictr.preprocess.FeatureProcessor(**params)
        try:
            processor.fit(None, rebuild_dataset=False)
        except ValueError as error:
            raise UserError(f"data set {params['dataset_id']}: {error}") from error
    if not _is_built(data_dir):
        raise UserError(
            f"{data_dir / FEATURE_MAP} does not exist: npz files need the feature map that they were encoded with"
        )
    return params


def _use_unmarked(params: dict, data_dir: Path, choice: str, rebuild: bool) -> dict:
    """A set that FuxiCTR built itself."""
    if rebuild or "build" in params:
        raise UserError(
            f"{data_dir} has a feature_map.json but no fingerprint.json: it was not built here and is "
            "never deleted; move it away to build it again"
        )
    logging.info(f"{data_dir} was built by FuxiCTR itself: using it as it is, through FuxiCTR's loader")
    return params if params["data_format"] == "parquet" else _with_zoo_paths(params, data_dir)


def _ensure_built(params: dict, data_dir: Path, choice: str, rebuild: bool) -> None:
    for key in ("feature_cols", "label_col"):
        if not params.get(key):
            raise UserError(f"data set {params['dataset_id']}: {key} is missing")
    before = Fingerprint.load(data_dir)
    if before and _is_built(data_dir) and not rebuild:
        return _check_unchanged(params, data_dir, choice, before)
    with exclusive(data_dir):
        known = Fingerprint.load(data_dir)
        if known and known != before and _is_built(data_dir):  # built while this process waited for the lock
            return _check_unchanged(params, data_dir, choice, known)
        logging.info(f"Building data set {data_dir}")
        inputs = _inputs(params, required=True)
        fingerprint = take_fingerprint(_entry(params, choice), inputs, known)
        build = _zoo_build if choice == "zoo" else _build
        build_and_publish(data_dir, lambda folder: build(params, folder), fingerprint, known)
        logging.info(f"Built data set {data_dir}")


def _check_unchanged(params: dict, data_dir: Path, choice: str, known: Fingerprint) -> None:
    present = take_fingerprint(_entry(params, choice), _inputs(params, required=False), known)
    changes = differences(known, present)
    if changes:
        raise UserError(f"{data_dir} was built from something else ({'; '.join(changes)}); --rebuild builds it again")
    if present.inputs != {role: known.inputs[role] for role in present.inputs}:
        # Same content, other times: store them so that the next run reads nothing.
        try:
            replace(known, inputs=known.inputs | present.inputs).save(data_dir)
        except OSError as error:
            logging.info(f"Cannot refresh the fingerprint of {data_dir}: {error}")


def _entry(params: dict, choice: str) -> dict[str, object]:
    """The keys that influence a build, flat; paths are left out, their files' content counts."""
    columns = [dict(column) for column in active_columns(params["feature_cols"])]
    for column in columns:
        column.pop("pretrained_emb", None)
    defaults = _KEYS | _ZOO_KEYS if choice == "zoo" else _KEYS
    kept: dict = {key: params.get(key, default) for key, default in defaults.items()}
    build = params.get("build") or {}
    if not build:
        kept["splits"] = [split for split in SPLITS if params.get(f"{split}_data")]
    paths = {str(path) for path in raw_files(build)} if build else set()
    kept["build"] = {key: value for key, value in build.items() if key != "raw_from" and str(value) not in paths}
    kept |= {
        "data_format": params["data_format"],
        "data_loader": choice,
        "feature_cols": columns,
        "label_col": label_columns(params["label_col"]),
    }
    return {k: v for key, value in kept.items() for k, v in flatten(key, value).items()}


def _inputs(params: dict, required: bool) -> dict[str, Path]:
    """Role -> input file; files that do not exist are an error where `required`, else left out."""
    inputs = {}
    for column in active_columns(params["feature_cols"]):
        if "pretrained_emb" in column:
            inputs[f"pretrained_emb of {column['name']}"] = Path(column["pretrained_emb"])
    if build := params.get("build"):
        inputs |= {f"build file {i}": path for i, path in enumerate(raw_files(build), 1)}
    else:
        for split in SPLITS:
            for i, file in enumerate(_split_files(params, split, required), 1):
                inputs[f"{split}_data file {i}"] = Path(file)
                behaviours = Path(file).parent / "behaviours.parquet"
                if params["data_format"] == "parquet" and behaviours.exists():
                    inputs[f"behaviours of {split}_data"] = behaviours
    return {role: path for role, path in inputs.items() if path.is_file()}


def _split_files(params: dict, split: str, required: bool) -> list[str]:
    path = params.get(f"{split}_data")
    if not path:
        if split == "train" and required:
            raise UserError(f"data set {params['dataset_id']}: train_data is missing")
        return []
    try:
        return expand_path(path, params["data_format"])
    except UserError as error:
        if not required:
            return []
        hint = f"; to get it: {params['raw_from']}" if params.get("raw_from") else ""
        raise UserError(f"{split}_data: {error}{hint}") from error


def _build(params: dict, folder: Path) -> None:
    """Raw files -> samples (where the entry says `build`) -> encoded files, in this process."""
    paths = {split: params.get(f"{split}_data") for split in SPLITS}
    if options := params.get("build"):
        build_samples(options, folder / "samples", verbose=params.get("verbose", 1) > 0)
        paths = {split: folder / "samples" / f"{split}.{params['data_format']}" for split in SPLITS}
    processor = InProcessFeatureProcessor(**{**params, "data_root": str(folder.parent), "dataset_id": folder.name})
    try:
        raw = {split: processor.reader.read(path, params["data_format"]) for split, path in paths.items() if path}
    except UserError as error:  # the temporary folder means nothing to a user
        raise UserError(str(error).replace(f"{folder}{os.sep}", "")) from error
    encode_splits(processor, raw, folder)


def encode_splits(processor: InProcessFeatureProcessor, raw: dict[str, RawSplit], folder: Path) -> None:
    """Fit on raw["train"], and write all that a data set's folder holds.

    Args:
        processor: not fitted yet, its `data_dir` is `folder`.
        raw: split -> rows.
        folder: receives feature_map.json, feature_vocab.json, encoder.json, encoded/, behaviour_catalogue/.
    """
    processor.fit_splits(raw["train"], [rows for split, rows in raw.items() if split != "train"])
    encoder = processor.encoder()
    columns, histories = {}, {}
    for split, rows in raw.items():
        logging.info(f"Encoding {split}: {len(rows)} rows")
        columns[split], histories[split] = encoder.encode(rows)
    tables = aligned_tables(list(histories.values()))
    save_splits(folder / "encoded", columns, histories, tables, encoder.truncated)
    oov = {c["name"]: encoder.vocabularies[c["vocabulary"]]["__OOV__"] for c in encoder.columns if "vocabulary" in c}
    save_catalogues(folder, histories["train"], tables, processor.feature_map.features, oov)


def _zoo_build(params: dict, folder: Path) -> None:
    """FuxiCTR's own build, through Ray."""
    if "build" in params:
        raise UserError(
            "data_loader: zoo cannot read samples that share histories; build them with format csv by "
            "`python build_dataset.py`, and name the files in train_data, valid_data and test_data"
        )
    columns, labels = active_columns(params["feature_cols"]), label_columns(params["label_col"])
    check_columns(columns, labels)
    params = {**params, "data_root": str(folder.parent), "feature_cols": columns, "label_col": labels}
    fuxictr.preprocess.build_dataset(fuxictr.preprocess.FeatureProcessor(**params), **params)


def _with_zoo_paths(params: dict, data_dir: Path) -> dict:
    """The files that FuxiCTR's build_dataset writes."""
    suffix = "" if params.get("data_block_size", 0) > 0 else ".parquet"
    paths = {
        f"{split}_data": str(data_dir / f"{split}{suffix}") if params.get(f"{split}_data") else None for split in SPLITS
    }
    return params | paths
