"""Features that form behaviours, targets and negatives, and their checks."""

import difflib
import logging
from collections.abc import Iterable
from typing import Annotated, Any, NamedTuple

import torch
from torch import nn

from .validation import Check

Field = Annotated[
    str | tuple[str, ...] | list[str | tuple[str, ...] | list[str]] | None,
    Check("the name of a feature, a tuple of names, or a list of either", lambda _: True),
]


class SequenceFields(NamedTuple):
    """Features of one sequence: target, behaviours and columns of negatives."""

    target: tuple[str, ...]
    behaviours: tuple[str, ...]
    negatives: tuple[str, ...]


def as_tuples(field: Field) -> list[tuple[str, ...]]:
    """Return fields in the zoo's notation as a list of tuples of names.

    The zoo's notation is a name, a tuple of names, or a list of either.
    """
    entries = field if isinstance(field, list) else [field]
    return [tuple(entry) if isinstance(entry, (tuple, list)) else (entry,) for entry in entries if entry]


def sequence_fields(
    features: dict[str, dict[str, Any]], target: Field, sequence: Field, negative: Field, prefix: str = "dien_"
) -> list[SequenceFields]:
    """Pair the three fields of an experiment, one per sequence.

    Negative columns count only if all of them exist: the zoo's default names columns that few data sets have. A target
    and a behaviour with different numbers of features are logged as a warning.

    Args:
        features: features of the data set by name.
        target: value of the keyword `target_field`.
        sequence: value of the keyword `sequence_field`.
        negative: value of the keyword `neg_seq_field`.
        prefix: first part of the keywords' names, for error messages.

    Raises:
        ValueError: a feature does not exist or has the wrong type, entries do not pair up, or shared embeddings show
            that features are in a different order than their partners.
    """
    targets, sequences, negatives = as_tuples(target), as_tuples(sequence), as_tuples(negative)
    if not sequences:
        raise ValueError(f"{prefix}sequence_field={sequence!r} must name a behaviour sequence")
    if len(targets) != len(sequences):
        raise ValueError(
            f"{prefix}target_field={target!r} has {len(targets)} entries and "
            f"{prefix}sequence_field={sequence!r} has {len(sequences)}: each sequence needs its target"
        )
    for name in (name for entry in targets for name in entry):
        check_feature(features, name, f"{prefix}target_field", sequential=False)
    for name in (name for entry in sequences for name in entry):
        check_feature(features, name, f"{prefix}sequence_field", sequential=True)
    for fields, behaviours in zip(targets, sequences, strict=True):
        if len(fields) != len(behaviours):
            logging.warning(
                "%starget_field %s and %ssequence_field %s differ in size: a target has %d features, a behaviour %d",
                *(prefix, fields, prefix, behaviours, len(fields), len(behaviours)),
            )
    _check_order(features, targets, sequences, f"{prefix}target_field", f"{prefix}sequence_field")
    names = [name for entry in negatives for name in entry]
    if not names or not all(name in features for name in names):
        used = {name for entry in (*targets, *sequences) for name in entry}
        _check_spelling([name for name in names if name not in features], features.keys() - used, prefix)
        return [SequenceFields(t, s, ()) for t, s in zip(targets, sequences, strict=True)]
    for name in names:
        check_feature(features, name, f"{prefix}neg_seq_field", sequential=True)
    if [len(entry) for entry in negatives] != [len(entry) for entry in sequences]:
        raise ValueError(f"{prefix}neg_seq_field={negative!r} does not match {prefix}sequence_field={sequence!r}")
    _check_order(features, sequences, negatives, f"{prefix}sequence_field", f"{prefix}neg_seq_field")
    return [SequenceFields(*entry) for entry in zip(targets, sequences, negatives, strict=True)]


def _check_order(
    features: dict[str, dict[str, Any]],
    entries: list[tuple[str, ...]],
    partners: list[tuple[str, ...]],
    keyword: str,
    partners_keyword: str,
) -> None:
    """Raise ValueError if two entries list their fields in different orders.

    Orders differ if a feature's partner has the embedding of another feature, whose partner in turn does not.

    Args:
        features: features of the data set by name.
        entries: features of the first keyword.
        partners: features of the second keyword; features at equal places belong together.
        keyword: name of the first keyword.
        partners_keyword: name of the second keyword.
    """
    pairs = [pair for entry in zip(entries, partners, strict=True) for pair in zip(*entry, strict=False)]
    first = {vocabulary_of(features, name) for name, _ in pairs}
    second = {vocabulary_of(features, partner): partner for _, partner in pairs}
    for name, partner in pairs:
        own, other = vocabulary_of(features, name), vocabulary_of(features, partner)
        if own != other and own in second and other in first:
            raise ValueError(
                f"{partners_keyword}: {partner!r} is at the place of {keyword}'s {name!r}, which shares its "
                f"embedding with {second[own]!r}; give both fields the same order"
            )


def _check_spelling(missing: list[str], others: Iterable[str], prefix: str) -> None:
    for name in missing:
        if near := difflib.get_close_matches(name, others, n=1, cutoff=0.8):
            raise ValueError(f"{prefix}neg_seq_field: no feature {name!r} in the data set; did you mean {near[0]!r}?")


def check_feature(features: dict[str, dict[str, Any]], name: str, keyword: str, sequential: bool) -> None:
    """Raise ValueError if a keyword names no feature, or one of the wrong type."""
    if name not in features:
        near = difflib.get_close_matches(name, features, n=3) or list(features)
        raise ValueError(
            f"{keyword}: no feature {name!r} in the data set, or use_features leaves it out; nearest: {', '.join(near)}"
        )
    kind = features[name]["type"]
    if (kind == "sequence") != sequential or kind == "meta":
        wanted = "a sequence" if sequential else "a feature with one value per row"
        raise ValueError(f"{keyword}: feature {name!r} is of type {kind!r}, but {wanted} is needed")


def oov_index(features: dict[str, dict[str, Any]], name: str) -> int:
    """Return the id for unknown values.

    The zoo gives it the last place, before ids that only a pretrained file has.
    """
    return features[name].get("oov_idx", features[name]["vocab_size"] - 1)


def vocabulary_of(features: dict[str, dict[str, Any]], name: str) -> str:
    """Return the feature whose vocabulary `name` uses."""
    return features[name].get("share_embedding") or name


@torch.no_grad()
def embedding_sizes(features: dict[str, dict[str, Any]], embedding_layer: nn.Module) -> dict[str, torch.Size]:
    """Return the shape of each feature's embedding, measured on a row of padding.

    Feature encoders may change the shape or pool steps.
    """
    row = {}
    for name, spec in features.items():
        if spec["type"] != "meta":
            width = {"sequence": spec.get("max_len"), "embedding": spec.get("pretrain_dim")}.get(spec["type"])
            row[name] = torch.zeros(1, width) if width else torch.zeros(1)
    embedding_layer.eval()
    sizes = {name: embedded.shape for name, embedded in embedding_layer(row).items()}
    embedding_layer.train()
    return sizes


def total_size(sizes: dict[str, torch.Size], names: Iterable[str]) -> int:
    """Return the size of these features' embeddings, concatenated."""
    return sum(sizes[name][-1] for name in names)


def profile_fields(
    features: dict[str, dict[str, Any]],
    sizes: dict[str, torch.Size],
    sequences: list[SequenceFields],
    column_negatives: bool,
) -> list[str]:
    """Return the features that have one vector per row.

    These are the target, user and context features, and pooled sequences.

    Args:
        features: features of the data set by name.
        sizes: result of `embedding_sizes`.
        sequences: sequences that the model reads step by step.
        column_negatives: whether the columns with negatives are read step by step.

    Raises:
        ValueError: a feature encoder pools a sequence that is read step by step.
    """
    negatives = {name for fields in sequences for name in fields.negatives}
    stepwise = {name for fields in sequences for name in fields.behaviours}
    for name in sorted(stepwise | negatives if column_negatives else stepwise):
        if len(sizes[name]) != 3:
            encoder = features[name].get("feature_encoder")
            raise ValueError(
                f"{name}: feature_encoder={encoder!r} pools the sequence, but the model reads its steps; "
                "set feature_encoder: null in feature_cols or feature_specs"
            )
    others = {name: len(size) for name, size in sizes.items() if name not in stepwise | negatives}
    profile = [name for name, dimensions in others.items() if dimensions == 2]
    unused = [name for name in others if name not in profile]
    if unused:
        logging.warning("not used: %s; a sequence must be pooled, or among the behaviours", ", ".join(unused))
    return profile


def check_pooled_sizes(fields: SequenceFields, item: int, behaviour: int) -> None:
    """Raise ValueError if e_a and Σe_t have different sizes."""
    if item != behaviour:
        raise ValueError(
            f"enable_sum_pooling multiplies {'+'.join(fields.target)} (size {item}) with "
            f"{'+'.join(fields.behaviours)} (size {behaviour}): their sizes must agree"
        )
