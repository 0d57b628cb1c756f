"""Experiments of a zoo user run unchanged: configuration, raw files, fields."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from made import ZOO_BASE

from dien_fuxictr.experiment.cli import main

COMMON = """
    model: DIEN
    dataset_id: {dataset}
    loss: 'binary_crossentropy'
    metrics: ['gAUC', 'AUC', 'logloss']
    task: binary_classification
    optimizer: adam
    learning_rate: 1.e-3
    net_regularizer: 0
    batch_size: 64
    epochs: 1
    shuffle: True
    seed: 20222023
    monitor: {{'AUC': 1, 'gAUC': 1}}
    monitor_mode: 'max'
    dnn_hidden_units: [16, 8]
    dnn_activations: ReLU
    net_dropout: 0.1
    attention_hidden_units: [8, 4]
    attention_activation: Dice
    attention_dropout: 0.3
    use_attention_softmax: True
    aux_hidden_units: [10, 5]
    aux_activation: ReLU
    enable_sum_pooling: False
"""
COMMON_DATA = """
{dataset}:
    data_root: ./data/
    data_format: csv
    train_data: ./raw/train.csv
    valid_data: ./raw/test.csv
    test_data: ./raw/test.csv
    label_col: {{name: label, dtype: float}}"""
ELECTRONICS_DATA = """
    min_categr_count: 1
    feature_cols:
        - {name: user_id, active: True, dtype: int, type: meta, remap: False}
        - {name: item_id, active: True, dtype: str, type: categorical}
        - {name: cate_id, active: True, dtype: str, type: categorical}
        - {name: item_history, active: True, dtype: str, type: sequence, splitter: ^, max_len: 5, padding: post,
           share_embedding: item_id, feature_encoder: layers.MaskedAveragePooling()}
        - {name: cate_history, active: True, dtype: str, type: sequence, splitter: ^, max_len: 5, padding: post,
           share_embedding: cate_id, feature_encoder: layers.MaskedAveragePooling()}
"""
ELECTRONICS = """
    embedding_dim: 8
    embedding_regularizer: 0.005
    group_id: user_id
    attention_type: din_attention
    aux_loss_alpha: 0
    batch_norm: True
    dien_neg_seq_field: []
    dien_sequence_field: !!python/tuple [item_history, cate_history]
    dien_target_field: !!python/tuple [item_id, cate_id]
    feature_specs: [{feature_encoder: null, name: item_history}, {feature_encoder: null, name: cate_history}]
"""
ADS_DATA = """
    min_categr_count: 2
    feature_cols:
        - {name: group_id, active: True, dtype: int, type: meta, preprocess: copy_from(user_id), remap: False}
        - {name: [user_id, item_id, cate_id, brand], active: True, dtype: str, type: categorical}
        - {name: price, active: True, dtype: float, type: numeric}
        - {name: cate_history, active: True, dtype: str, type: sequence, splitter: ^, max_len: 5, padding: post,
           share_embedding: cate_id}
        - {name: brand_history, active: True, dtype: str, type: sequence, splitter: ^, max_len: 5, padding: post,
           share_embedding: brand}
"""
ADS = """
    embedding_dim: 8
    embedding_regularizer: 5.e-06
    group_id: group_id
    attention_type: bilinear_attention
    aux_loss_alpha: 0
    batch_norm: False
    dien_neg_seq_field: []
    dien_sequence_field: !!python/tuple [cate_history, brand_history]
    dien_target_field: !!python/tuple [cate_id, brand]
    feature_specs: [{feature_encoder: null, name: [cate_history, brand_history]}]
"""
VIDEO_DATA = """
    min_categr_count: 1
    feature_cols:
        - {name: group_id, active: True, dtype: int, type: meta, preprocess: copy_from(user_id), remap: False}
        - {name: [user_id, item_id], active: True, dtype: str, type: categorical}
        - {name: item_emb, active: True, dtype: str, type: categorical, embedding_dim: 6,
           preprocess: copy_from(item_id), pretrained_emb: ./raw/items.h5, pretrain_dim: 6}
        - {name: item_history, active: True, dtype: str, type: sequence, splitter: ^, max_len: 5, padding: post,
           share_embedding: item_id}
        - {name: seen_history, active: True, dtype: str, type: sequence, splitter: ^, max_len: 5, padding: post,
           share_embedding: item_id}
        - {name: item_history_emb, active: True, dtype: str, type: sequence, splitter: ^, max_len: 5, padding: post,
           embedding_dim: 6, preprocess: copy_from(item_history), share_embedding: item_emb,
           pretrained_emb: ./raw/items.h5, pretrain_dim: 6}
        - {name: seen_history_emb, active: True, dtype: str, type: sequence, splitter: ^, max_len: 5, padding: post,
           embedding_dim: 6, preprocess: copy_from(seen_history), share_embedding: item_emb,
           pretrained_emb: ./raw/items.h5, pretrain_dim: 6}
"""
VIDEO = """
    embedding_dim: 8
    embedding_regularizer: 1.e-4
    group_id: group_id
    attention_type: din_attention
    aux_loss_alpha: 0
    batch_norm: False
    dien_neg_seq_field: []
    dien_sequence_field:
        [!!python/tuple [item_history, item_history_emb], !!python/tuple [seen_history, seen_history_emb]]
    dien_target_field: [!!python/tuple [item_id, item_emb], !!python/tuple [item_id, item_emb]]
    feature_specs:
        - {name: item_emb, feature_encoder: 'nn.Linear(6, 6, bias=False)'}
        - {name: [item_history, seen_history], feature_encoder: null}
        - {name: [item_history_emb, seen_history_emb], feature_encoder: ['nn.Linear(6, 6, bias=False)']}
"""
# The zoo's own template: strings for fields, a pre-padded sequence without feature_specs.
PLAIN_DATA = """
    feature_cols:
        - {name: user_id, active: True, dtype: str, type: meta}
        - {name: [item_id, cate_id], active: True, dtype: str, type: categorical}
        - {name: price, active: False, dtype: float, type: numeric}
        - {name: item_history, active: True, dtype: str, type: sequence, splitter: ^, max_len: 5, padding: pre,
           share_embedding: item_id, feature_encoder: null}
"""
PLAIN = """
    embedding_dim: 8
    embedding_regularizer: 0
    group_id: user_id
    attention_type: bilinear_attention
    batch_norm: True
    dien_target_field: item_id
    dien_sequence_field: item_history
    dien_neg_seq_field: []
"""


def write_raw(folder: Path) -> None:
    """Write rows of 12 users, some without history.

    A category and a brand belong to each item.
    """
    rng = np.random.default_rng(0)
    folder.mkdir()
    for split, rows in (("train", 300), ("test", 120)):
        lines = ["label,user_id,item_id,cate_id,brand,price,item_history,cate_history,brand_history,seen_history"]
        for _ in range(rows):
            item, history, seen = rng.integers(1, 20), rng.integers(1, 20, rng.integers(0, 8)), rng.integers(1, 20, 4)
            lines.append(
                ",".join(
                    [
                        str(rng.integers(0, 2)),
                        str(rng.integers(100, 112)),
                        f"i{item}",
                        f"c{item % 5}",
                        f"b{item % 7}",
                        f"{item / 7:.3f}",
                        "^".join(f"i{i}" for i in history),
                        "^".join(f"c{i % 5}" for i in history),
                        "^".join(f"b{i % 7}" for i in history),
                        "^".join(f"i{i}" for i in seen),
                    ]
                )
            )
        (folder / f"{split}.csv").write_text("\n".join(lines) + "\n")
    with h5py.File(folder / "items.h5", "w") as file:
        file["key"] = np.array([f"i{i}" for i in range(1, 25)], dtype="S")
        file["value"] = rng.normal(size=(24, 6))


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_raw(tmp_path / "raw")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("gru_type", ["AUGRU", "AGRU"])
@pytest.mark.parametrize(
    "dataset,data,model",
    [
        ("electronics", ELECTRONICS_DATA, ELECTRONICS),
        ("ads", ADS_DATA, ADS),
        ("video", VIDEO_DATA, VIDEO),
        ("plain", PLAIN_DATA, PLAIN),
    ],
)
def test_entries_of_the_zoo_run_unchanged(workplace, capsys, gru_type, dataset, data, model):
    config = workplace / "tuner_config"
    config.mkdir()
    (config / "dataset_config.yaml").write_text(COMMON_DATA.format(dataset=dataset) + data)
    expid = f"DIEN_{dataset}_001_1a2b3c4d"
    (config / "model_config.yaml").write_text(
        f"{ZOO_BASE}\n{expid}:{COMMON.format(dataset=dataset)}    gru_type: {gru_type}{model}"
    )
    assert main(["--config", str(config), "--expid", expid, "--gpu", "-1"]) == 0
    line = (workplace / "tuner_config.csv").read_text()
    assert f"[exp_id] {expid},[dataset_id] {dataset},[train] N.A.,[val] gAUC: 0." in line and "[test] gAUC: 0." in line
