"""Write the configuration of a new log: data set and recommended experiments.

docs/settings.md explains the settings, and research/own_log.md has the measurements that they come from.
"""

import logging
import math
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.common.files import write_atomic
from dien_fuxictr.common.suggestions import require_name
from dien_fuxictr.dataset.samples.amazon import UNKNOWN
from dien_fuxictr.dataset.samples.build_options import BuildOptions
from dien_fuxictr.dataset.samples.columns import history_of

from .yaml_files import ConfigDumper

FEW_LABELS = 0.5
"""Labels per behaviour of a history, below which the auxiliary loss is the main source of labels."""
REGULARIZER = 75
"""λ where there is one label per item and step of a history."""
REGULARIZER_RANGE = 1, 300
PENALTY, STRONG_PENALTY = 1 / 75, 1 / 20
"""λ per training row, at most: with more, small logs do not train; the second with the strong auxiliary loss."""
STEPS = 200
"""Steps of an epoch."""
BATCH_RANGE = 64, 1024
EPOCHS = 30
MANY_NUMBERS = 20
"""Distinct values, above which a column of fractional numbers is hardly one of categories."""

_DATASET = """\
# The data set {id}, written by `build_dataset.py {source} --entry {id}`. docs/guides/data.md explains the keys; after a
# change of columns or of `build`, `run_expid.py --rebuild` builds the data set again.
{key}:
    data_root: ./data/
    data_format: {form}
    train_data: {train}
    valid_data: {valid}
    test_data: {test}
    min_categr_count: 1  # values that occur less often share one id
    feature_cols:
{columns}
    label_col: {{name: label, dtype: float}}
    build:
{build}
"""
_MODELS = """\
# Experiments on the data set {id}, written by `build_dataset.py {source} --entry {id}`, which has
# {labels:.1f} labels per user and {steps:.1f} behaviours per history. docs/settings.md explains the settings.
Base:
    model_root: ./checkpoints/
    dataset_id: {key}
    group_id: user_id
    task: binary_classification
    loss: binary_crossentropy
    metrics: [AUC, gAUC, logloss]
    monitor: AUC
    monitor_mode: max
    early_stop_patience: 3{evaluation}
    optimizer: adam
    learning_rate: 4.0e-3
    num_threads: 1  # of the CPU; more pay off with large batches
    batch_size: {batch_size}  # about {epoch_steps} steps per epoch
    epochs: {epochs}  # at most
    seed: 2019
    embedding_dim: 18
    weight_averaging: ema
    embedding_regularization: mini_batch_aware
    embedding_regularizer: {regularizer:g}  # lower it if validation AUC stays at .50
    net_regularizer: 0
    net_dropout: 0.2
    batch_norm: False
    dnn_hidden_units: [200, 80]
    dnn_activations: ReLU

# DIEN with a plain GRU as the second layer: start with this one.
{dien_gru}: &DIEN
    model: DIEN
    gru_type: GRU
    dien_target_field: &target {target}
    dien_sequence_field: &history {history}
    attention_type: din_attention
    attention_hidden_units: [80, 40]
    attention_activation: Dice
    use_attention_softmax: True
    enable_sum_pooling: True
    aux_hidden_units: [100, 50]
    aux_activation: ReLU
{aux_loss}
    embedding_regularizer: {aux_regularizer:g}  # higher, as the auxiliary loss adds labels

# The paper's recurrence, with the gate of the authors' program, which also trains on long histories.
{dien}: {{<<: *DIEN, gru_type: AUGRU, augru_gate: tensorflow}}

{din}:
    model: DIN
    din_target_field: *target
    din_sequence_field: *history
    attention_hidden_units: [80, 40]
    attention_hidden_activations: Dice
    din_use_softmax: True
    enable_sum_pooling: True

# Sum pooling.
{pooling}:
    model: EmbeddingMLP
    target_field: *target
    sequence_field: *history
    enable_target_product: True
"""
_EVALUATION = """
    eval_steps: {steps}  # between two evaluations, as epochs are short"""
_FEW = """\
    aux_loss_alpha: 3  # few labels: every behaviour becomes one
    aux_loss_weighting: uniform
    aux_negatives: in_batch"""
_MANY = """\
    aux_loss_alpha: 0.3
    aux_loss_weighting: newest  # each behaviour once, as it is in all later histories
    aux_negatives: popularity"""


@dataclass(frozen=True)
class Recommended:
    """Settings for a log.

    Attributes:
        labels: positive labels per user.
        steps: behaviours per history of a training sample.
        has_few_labels: the auxiliary loss is strong, and supervises every behaviour of every sample.
        batch_size: rows.
        epoch_steps: steps per epoch.
        epochs: at most.
        eval_steps: steps between two evaluations; None: an epoch. In epochs of few steps, early stopping would end the
            training before it has left its first plateau.
        regularizer: λ of models without auxiliary loss.
        aux_regularizer: λ of DIEN with it.
    """

    labels: float
    steps: float
    has_few_labels: bool
    batch_size: int
    epoch_steps: int
    epochs: int
    eval_steps: int | None
    regularizer: float
    aux_regularizer: float


def recommend(counts: Mapping[str, Any]) -> Recommended:
    """Return the recommended settings for samples.

    Args:
        counts: counts of samples.json: users, items, and rows, positives and mean_history of train.
    """
    train, items = counts["train"], max(counts["items"], 1)
    rows, steps = train["rows"], max(train["mean_history"], 1)
    labels = train["positives"] / max(counts["users"], 1)
    few = labels < FEW_LABELS * steps
    batch_size = int(_within(2 ** round(math.log2(max(rows / STEPS, 1))), BATCH_RANGE))
    epoch_steps = math.ceil(rows / batch_size)
    is_short = epoch_steps < 0.7 * STEPS  # less than the rounding of the batch size explains

    def regularizer(supervised: float, penalty: float) -> float:
        value = min(REGULARIZER * supervised / (items * steps), penalty * rows)
        return float(f"{_within(value, REGULARIZER_RANGE):.2g}")

    return Recommended(
        labels=labels,
        steps=steps,
        has_few_labels=few,
        batch_size=batch_size,
        epoch_steps=epoch_steps,
        epochs=math.ceil(EPOCHS * STEPS / epoch_steps) if is_short else EPOCHS,
        eval_steps=STEPS if is_short else None,
        regularizer=regularizer(rows, PENALTY),
        aux_regularizer=regularizer(rows * steps, STRONG_PENALTY) if few else regularizer(2 * rows, PENALTY),
    )


def _within(value: float, bounds: tuple[float, float]) -> float:
    return min(max(value, bounds[0]), bounds[1])


def files_of(config: Path, dataset_id: str, may_exist: bool) -> tuple[Path, Path]:
    """Return the files of a new data set and its experiments.

    Args:
        config: folder of the configuration.
        dataset_id: its name.
        may_exist: whether the files may exist.

    Raises:
        UserError: the id is not a name, a file exists but must not, or the folder has its entries in single files.
    """
    require_name("--entry", dataset_id)
    for kind in ("dataset_config", "model_config"):
        if (single := config / f"{kind}.yaml").exists():
            raise UserError(f"--entry {dataset_id} cannot add a file to {config}: all entries are in {single}")
        if (file := config / kind / f"{dataset_id}.yaml").exists() and not may_exist:
            raise UserError(
                f"--entry {dataset_id}: {file} already exists; --rebuild keeps it and builds the samples again, or "
                "choose another id"
            )
    return config / "dataset_config" / f"{dataset_id}.yaml", config / "model_config" / f"{dataset_id}.yaml"


def require_same_build(file: Path, kept: Mapping[str, Any], build: BuildOptions) -> None:
    """Raise UserError if an existing entry has other options of the build than the command line.

    Args:
        file: file of the entry, for the message.
        kept: the entry.
        build: options of the command line.
    """
    then, now = BuildOptions.of(kept.get("build") or {}).stated(), build.stated()
    changed = [
        f"{name}: {then.get(name)!r} -> {now.get(name)!r}"
        for name in dict.fromkeys([*then, *now])
        if then.get(name) != now.get(name)
    ]
    if changed:
        raise UserError(
            f"{file} has other options of the build ({'; '.join(changed)}), and --rebuild keeps the file; change its "
            "build and columns, or choose another id"
        )


def dataset_text(dataset_id: str, build: BuildOptions, given: Mapping[str, Any]) -> str:
    """Return the YAML of a data set's entry.

    Args:
        dataset_id: its name.
        build: options of the build.
        given: those of them that the user has given, which the entry keeps.
    """
    form = "csv" if build.format == "csv" else "parquet"
    kept = {name: getattr(build, name) for name in given}
    targets = _target(build)
    features = [*targets, *build.context]
    meta = {"name": "user_id", "active": True, "dtype": "str", "type": "meta"}
    columns = [meta, {"name": features, "active": True, "dtype": "str", "type": "categorical"}]
    for name in [*targets, *build.context_history]:
        sequence = {"name": history_of(name), "active": True, "dtype": "str", "type": "sequence", "splitter": "^"}
        shared = {"share_embedding": name, "feature_encoder": None}
        columns.append({**sequence, "max_len": build.max_len, "padding": "pre", **shared})
    paths = {split: _flow(f"./data/{dataset_id}/samples/{split}.{form}") for split in ("train", "valid", "test")}
    return _DATASET.format(
        id=dataset_id,
        source=build.source,
        key=_flow(dataset_id),
        form=form,
        **paths,
        columns=textwrap.indent("\n".join(f"- {_flow(column)}" for column in columns), " " * 8),
        build=textwrap.indent("\n".join(f"{name}: {_flow(_plain(value))}" for name, value in kept.items()), " " * 8),
    )


def models_text(dataset_id: str, build: BuildOptions, counts: Mapping[str, Any]) -> str:
    """Return the YAML of the experiments: DIEN, DIEN with GRU, DIN, sum pooling.

    Args:
        dataset_id: id of the data set.
        build: options of the build.
        counts: counts of samples.json.
    """
    recommended = recommend(counts)
    targets = _target(build)
    return _MODELS.format(
        id=dataset_id,
        source=build.source,
        key=_flow(dataset_id),
        labels=recommended.labels,
        steps=recommended.steps,
        batch_size=recommended.batch_size,
        epochs=recommended.epochs,
        evaluation=_EVALUATION.format(steps=recommended.eval_steps) if recommended.eval_steps else "",
        epoch_steps=recommended.epoch_steps,
        regularizer=recommended.regularizer,
        aux_regularizer=recommended.aux_regularizer,
        aux_loss=_FEW if recommended.has_few_labels else _MANY,
        target=_flow(tuple(targets)),
        history=_flow(tuple(history_of(name) for name in targets)),
        dien_gru=_flow(f"DIEN_GRU_{dataset_id}"),
        dien=_flow(f"DIEN_{dataset_id}"),
        din=_flow(f"DIN_{dataset_id}"),
        pooling=_flow(f"EmbeddingMLP_{dataset_id}"),
    )


def warnings_of(build: BuildOptions, train: Path) -> list[str]:
    """Return one line per column of many fractional numbers, which the entry makes categories of.

    Args:
        build: options of the build.
        train: its training samples, .parquet or .csv.
    """
    if not train.exists():  # data_loader: memory_mapped keeps no table of samples
        return []
    samples = pl.scan_csv(train, infer_schema=False) if build.format == "csv" else pl.scan_parquet(train)
    lines = []
    for name in (*build.side, *build.context):
        values = samples.select(pl.col(name).cast(pl.String)).unique().collect()[name].drop_nulls()
        values = values.filter(~values.is_in([UNKNOWN, ""]))
        numbers = values.cast(pl.Float64, strict=False)
        if len(values) > MANY_NUMBERS and not numbers.null_count() and (numbers % 1 != 0).any():
            lines.append(
                f"column {name!r} has {len(values)} different numbers, and the entry makes each of them a category; "
                "make the column numeric as in docs/guides/data.md#numeric-columns, or write buckets into the log"
            )
    return lines


def write_entry(files: tuple[Path, Path], dataset: str, models: str) -> None:
    """Write those of the two files of `files_of` that do not exist."""
    if kept := [str(file) for file in files if file.exists()]:
        logging.info(f"Kept {' and '.join(kept)}: --rebuild replaces samples, never settings", extra={"note": True})
    for file, text in zip(files, (dataset, models), strict=True):
        if file.exists():
            continue
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(file, lambda output, text=text: output.write(text.encode()))


def _target(build: BuildOptions) -> list[str]:
    """Return the columns of the target item."""
    has_categories = build.source == "amazon" or build.category
    return ["item_id", *(["cate_id"] if has_categories else []), *build.side]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _flow(value: Any) -> str:
    text = yaml.dump(value, Dumper=ConfigDumper, default_flow_style=True, sort_keys=False, width=10_000)
    return text.removesuffix("\n").removesuffix("\n...")
