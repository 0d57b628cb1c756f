"""Scores of new rows, with a trained model and the data set's fitted encoder."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from fuxictr.pytorch.models import BaseModel

from dien_fuxictr.common.csv_lines import scan_csv
from dien_fuxictr.common.errors import UserError
from dien_fuxictr.common.files import require_writable, write_atomic
from dien_fuxictr.dataset.encoding.encoder import Encoder
from dien_fuxictr.dataset.encoding.fit import check_fit
from dien_fuxictr.dataset.encoding.reading import form_of
from dien_fuxictr.dataset.loading.loader import InMemoryDataLoader

from .evaluate import predict


def output_path(out: Path | None, expid: str) -> Path:
    """Return the file of predictions.

    It is `--out`, else `<expid>_predictions.csv` in the working directory.

    Args:
        out: `--out`.
        expid: experiment id.

    Raises:
        UserError: the default file exists (only a file that `--out` names is overwritten), or it cannot be written.
    """
    path = out or Path(f"{expid}_predictions.csv")
    if out is None and path.exists():
        raise UserError(f"{path} already exists; --out {path} overwrites it, another --out keeps it")
    require_writable(path)
    return path


def predict_rows(model: BaseModel, rows: Path | pl.DataFrame, params: dict[str, Any]) -> np.ndarray:
    """Return scores (N,) float64 of new rows in their order; labels are not needed.

    Batches and padding are those of an evaluation: the scores of a test file are the test evaluation's, bit for bit.

    Args:
        model: with its weights loaded.
        rows: a frame or a file (.csv, .csv.gz, .parquet) in the zoo's form, or samples.
        params: configuration of the experiment.

    Raises:
        UserError: no such file, another kind of file, a missing column, or no fitted encoder.
    """
    if isinstance(rows, Path) and not rows.is_file():
        raise UserError(f"--predict {rows} does not exist; it must be a .csv, .csv.gz or .parquet file")
    folder = Path(params["data_root"], params["dataset_id"])
    encoder = Encoder.load(folder, params)
    check_fit(encoder, model.feature_map, f"data set {folder}")
    split = encoder.encode_rows(rows)
    for column, count in encoder.unseen.items():
        if count:
            logging.warning(f"{column}: {count} unseen ids are scored as out of vocabulary")
    options = {key: params[key] for key in ("batch_size", "trim_histories", "gpu") if key in params}
    loader = InMemoryDataLoader.from_encoded(model.feature_map, split, **options)
    return predict(model, loader).astype(np.float64)


def write_scores(scores: np.ndarray, file: Path, out: Path, params: dict[str, Any]) -> None:
    """Write the scores of a file's rows.

    Args:
        scores: (N,) float64, read back exactly.
        file: result of `predict_rows`.
        out: CSV to write: the group and item columns that `file` has, then `score`.
        params: configuration of the experiment.

    Raises:
        UserError: `out` cannot be written.
    """
    wanted = dict.fromkeys(name for name in (params.get("group_id"), "user_id", "item_id") if name)
    columns = _columns(file, list(wanted), params.get("sep", ","))
    write_atomic(out, columns.with_columns(score=pl.Series(scores)).write_csv)
    logging.info(f"Predictions: {len(scores)} rows in {out}")


def _columns(file: Path, wanted: list[str], separator: str) -> pl.DataFrame:
    """Return those of the wanted columns that the file has, unchanged."""
    is_parquet = form_of(file) == "parquet"
    rows = pl.scan_parquet(file) if is_parquet else scan_csv(file, separator)
    present = rows.collect_schema().names()
    return rows.select([name for name in wanted if name in present]).collect()
