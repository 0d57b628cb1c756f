"""Raw rows -> a data set's folder: fits the encoder, encodes every split and writes the files."""

import logging
from pathlib import Path

from .catalogue import save_catalogues
from .encoded import aligned_tables, save_splits
from .processor import InProcessFeatureProcessor
from .raw import RawSplit


def encode_splits(processor: InProcessFeatureProcessor, raw: dict[str, RawSplit], folder: Path) -> None:
    """Fit on raw["train"], and write all that a data set's folder holds.

    Args:
        processor: not fitted yet, its `data_dir` is `folder`.
        raw: split -> rows; those that are `fitted_only` are not among the encoded ones.
        folder: receives feature_map.json, feature_vocab.json, encoder.json, encoded/, behaviour_catalogue/.
    """
    processor.fit_splits(raw["train"], [rows for split, rows in raw.items() if split != "train"])
    encoder = processor.encoder()
    columns, histories = {}, {}
    for split, rows in raw.items():
        logging.info(f"Encoding {split}: {len(rows)} rows")
        columns[split], histories[split] = encoder.encode(rows)
    tables = aligned_tables(list(histories.values()))
    oov = {c["name"]: encoder.vocabularies[c["vocabulary"]]["__OOV__"] for c in encoder.columns if "vocabulary" in c}
    save_catalogues(folder, histories["train"], tables, processor.feature_map.features, oov)
    if raw["train"].fitted_only:
        own = len(raw["train"]) - raw["train"].fitted_only
        columns["train"] = {name: values[:own] for name, values in columns["train"].items()}
        histories["train"] = {name: history.first(own) for name, history in histories["train"].items()}
    save_splits(folder / "encoded", columns, histories, tables, encoder.truncated)
