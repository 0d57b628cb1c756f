"""Zoo's YAML for DIN, BST, WideDeep, PNN, FM and DeepFM, on synthetic data."""

from pathlib import Path

import numpy as np
import pytest
from made import ZOO_BASE

from dien_fuxictr.experiment.cli import main

DATASET = """
ads:
    data_root: ./data/
    data_format: csv
    train_data: ./train.csv
    valid_data: ./test.csv
    test_data: ./test.csv
    min_categr_count: 1
    feature_cols:
        - {{name: user_id, active: True, dtype: int, type: meta, remap: False}}
        - {{name: [item_id, cate_id], active: True, dtype: str, type: categorical}}
        - {{name: price, active: True, dtype: float, type: numeric}}
        - {{name: click_history, active: True, dtype: str, type: sequence, splitter: ^, max_len: 5, padding: {padding},
           share_embedding: item_id{encoder}}}
    label_col: {{name: label, dtype: float}}
"""
EXPERIMENT = (
    ZOO_BASE
    + """
{model}_default:
    model: {model}
    dataset_id: ads
    loss: 'binary_crossentropy'
    metrics: ['logloss', 'AUC']
    task: binary_classification
    optimizer: adam
    learning_rate: 1.e-3
    batch_size: 64
    embedding_dim: 4
    epochs: 1
    shuffle: True
    seed: 2019
    monitor: {{'AUC': 1, 'logloss': -1}}
    monitor_mode: 'max'
"""
)
REGULARIZERS = """
    embedding_regularizer: 1.e-8
    net_regularizer: 0
    net_dropout: 0.1
    batch_norm: True
"""
MLP = f"""{REGULARIZERS}
    hidden_units: [8, 4]
    hidden_activations: relu
"""
DIN = f"""{REGULARIZERS}
    dnn_hidden_units: [8, 4]
    dnn_activations: relu
    attention_hidden_units: [6]
    attention_hidden_activations: "Dice"
    attention_output_activation: null
    attention_dropout: 0
    din_target_field: item_id
    din_sequence_field: click_history
    din_use_softmax: False
"""
BST = f"""{REGULARIZERS}
    dnn_hidden_units: [8, 4]
    dnn_activations: relu
    num_heads: 4
    stacked_transformer_layers: 1
    attention_dropout: 0
    layer_norm: True
    use_residual: True
    bst_target_field: item_id
    bst_sequence_field: click_history
    seq_pooling_type: mean
    use_position_emb: True
    use_causal_mask: False
"""


@pytest.mark.parametrize("padding", ["pre", "post"])
@pytest.mark.parametrize(
    "model,keywords",
    [
        ("DIN", DIN),
        ("BST", BST),
        ("WideDeep", MLP),
        ("PNN", MLP),
        ("FM", "    regularizer: 1.e-8\n"),
        ("DeepFM", MLP),
    ],
)
def test_entries_of_the_zoo_run_unchanged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, padding: str, model: str, keywords: str
) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for split, rows in (("train", 193), ("test", 60)):  # a last batch of one row
        lines = ["label,user_id,item_id,cate_id,price,click_history"]
        for _ in range(rows):
            item, history = rng.integers(1, 20), rng.integers(1, 20, rng.integers(0, 8))
            lines.append(
                f"{rng.integers(0, 2)},{rng.integers(100, 112)},i{item},c{item % 5},{item / 7:.3f},"
                + "^".join(f"i{i}" for i in history)
            )
        Path(f"{split}.csv").write_text("\n".join(lines) + "\n")
    config = Path("config")
    config.mkdir()
    encoder = ", feature_encoder: null" if model in ("DIN", "BST") else ""  # without a named pooling the zoo averages
    (config / "dataset_config.yaml").write_text(DATASET.format(padding=padding, encoder=encoder))
    (config / "model_config.yaml").write_text(EXPERIMENT.format(model=model) + keywords)
    assert main(["--config", "config", "--expid", f"{model}_default"]) == 0
    assert "[test] logloss: " in Path("config.csv").read_text()
