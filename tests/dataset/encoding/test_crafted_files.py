"""Files of a data set are opened by names, never by paths; sizes have bounds."""

import json
from pathlib import Path
from typing import Any

import pytest

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.dataset.encoding.encoded import load_layout
from dien_fuxictr.dataset.encoding.mapped_split import COLUMN, MappedSplit
from dien_fuxictr.experiment.models import load_feature_map


@pytest.mark.parametrize("name", ["../../secret", "/etc/secret", "a/b", ""])
def test_sequences_are_names(name: str, tmp_path: Path) -> None:
    (tmp_path / "layout.json").write_text(json.dumps({"tables": [["item_history", name]]}))
    with pytest.raises(UserError, match=r"sequence in .*layout.json .* must be a name without /"):
        load_layout(tmp_path)


@pytest.mark.parametrize("columns", [{"../secret": "item_id"}, {"item_id": "../secret"}])
def test_columns_of_flat_sets_are_names(columns: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "layout.json").write_text(json.dumps({COLUMN: columns, "tables": [], "padding": {}, "truncated": {}}))
    with pytest.raises(UserError, match=r"column in .*layout.json '../secret' must be a name without /"):
        MappedSplit.load(tmp_path / "rows_train.bin")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"max_len": 10**12}, "max_len = 1000000000000 in feature item of .* must be a whole number from 0 to 1000000"),
        ({"vocab_size": 10**12}, "vocab_size = 1000000000000 in feature item of .* must be a whole number from 1 to"),
        ({"pretrained_emb": "../up.npz"}, "pretrained_emb = '../up.npz' in feature item of .* must be the name"),
        ({"pretrained_emb": "/up.npz"}, "pretrained_emb = '/up.npz' in feature item of .* must be the name"),
        ({"type": "code"}, "type = 'code' in feature item of .* must be categorical"),
    ],
)
def test_sizes_and_files_of_a_feature(spec: dict[str, Any], message: str, tmp_path: Path) -> None:
    item = {"type": "sequence", "max_len": 5, "vocab_size": 9, **spec}
    sizes = {"num_fields": 1, "total_features": 9, "input_length": 5}
    content = {"dataset_id": "made", "features": [{"item": item}], "labels": ["label"], **sizes}
    (tmp_path / "feature_map.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=message):
        load_feature_map({"dataset_id": "made"}, tmp_path)
