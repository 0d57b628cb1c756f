"""Fit the encoder, encode every split and write the data set's folder."""

import logging
from pathlib import Path

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.common.progress import stage_bar

from .behaviour_catalogue import save_catalogues
from .encoded import aligned_tables, save_splits
from .processor import InProcessFeatureProcessor
from .raw import RawSplit


def encode_splits(
    processor: InProcessFeatureProcessor, raw: dict[str, RawSplit], folder: Path, verbose: int = 1
) -> None:
    """Fit on raw["train"], and write all files of a data set's folder.

    Args:
        processor: not fitted yet; its `data_dir` is `folder`.
        raw: split -> rows; `fitted_only` rows are not encoded.
        folder: receives feature_map.json, feature_vocab.json, encoder.json, encoded/, behaviour_catalogue/.
        verbose: 0: no progress bar.

    Raises:
        UserError: see `fit_splits` and `encode`; also if shuffled histories are longer than max_len.
    """
    processor.fit_splits(raw["train"], [rows for split, rows in raw.items() if split != "train"])
    encoder = processor.encoder()
    fitted = {column["name"]: column["max_len"] for column in encoder.columns if column["type"] == "sequence"}
    for column in processor.feature_cols:
        if column["name"] in fitted and column.get("max_len") == 0:
            logging.warning(
                f"column {column['name']}: max_len = 0 becomes {fitted[column['name']]}, the length of the longest "
                "history of the training rows; longer histories are cut"
            )
    columns, histories = {}, {}
    with stage_bar(len(raw), verbose) as begin:
        for split, rows in raw.items():
            begin(f"encoding {split}")
            logging.info(f"Encoding {split}: {len(rows)} rows")
            columns[split], histories[split] = encoder.encode(rows)
    numbers = raw["train"].behaviour
    of_behaviours = [
        name for name, of in raw["train"].histories.items() if numbers is None or len(of.tokens.codes) == len(numbers)
    ]
    cut = [name for name in of_behaviours if encoder.truncated.get(name)]
    if cut and numbers is not None:
        raise UserError(
            f"{cut[0]}: shuffled histories cannot be cut to their last max_len behaviours; build the samples with the "
            "max_len of the column, or give the column a larger max_len"
        )
    tables = aligned_tables(list(histories.values()))
    oov = {c["name"]: encoder.vocabularies[c["vocabulary"]]["__OOV__"] for c in encoder.columns if "vocabulary" in c}
    save_catalogues(folder, histories["train"], tables, processor.feature_map.features, oov, numbers)
    if raw["train"].fitted_only:
        own = len(raw["train"]) - raw["train"].fitted_only
        columns["train"] = {name: values[:own] for name, values in columns["train"].items()}
        histories["train"] = {name: history.first(own) for name, history in histories["train"].items()}
    save_splits(folder / "encoded", columns, histories, tables, encoder.truncated)
