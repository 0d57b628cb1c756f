"""Which features of the data set form behaviours, targets and negatives, checked against its feature map."""

import difflib
from typing import Any, NamedTuple

Field = str | tuple[str, ...] | list[Any]


class SequenceFields(NamedTuple):
    """One behaviour sequence: the features of a target, of its behaviours, and of negatives given by columns."""

    target: tuple[str, ...]
    behaviours: tuple[str, ...]
    negatives: tuple[str, ...]


def as_tuples(field: Field) -> list[tuple[str, ...]]:
    """The zoo's notation (a name, a tuple of names, or a list of either) as a list of tuples."""
    entries = field if isinstance(field, list) else [field]
    return [tuple(entry) if isinstance(entry, (tuple, list)) else (entry,) for entry in entries if entry]


def sequence_fields(features: dict[str, dict], target: Field, sequence: Field, negative: Field
                    ) -> list[SequenceFields]:
    """Pairs the three keywords of a YAML entry.

    Negative columns count only where all of them exist: the zoo's entries keep a default that names columns which
    hardly any data set has.

    Raises:
        ValueError: a feature that does not exist or is of the wrong type, or entries that do not pair up.
    """
    targets, sequences, negatives = as_tuples(target), as_tuples(sequence), as_tuples(negative)
    if not sequences:
        raise ValueError(f"dien_sequence_field={sequence!r} names no behaviour sequence")
    if len(targets) != len(sequences):
        raise ValueError(f"dien_target_field={target!r} has {len(targets)} entries and "
                         f"dien_sequence_field={sequence!r} has {len(sequences)}: each sequence needs its target")
    for name in (name for entry in targets for name in entry):
        _check(features, name, "dien_target_field", sequential=False)
    for name in (name for entry in sequences for name in entry):
        _check(features, name, "dien_sequence_field", sequential=True)
    names = [name for entry in negatives for name in entry]
    if not names or not all(name in features for name in names):
        return [SequenceFields(t, s, ()) for t, s in zip(targets, sequences, strict=True)]
    for name in names:
        _check(features, name, "dien_neg_seq_field", sequential=True)
    if [len(entry) for entry in negatives] != [len(entry) for entry in sequences]:
        raise ValueError(f"dien_neg_seq_field={negative!r} does not pair with dien_sequence_field={sequence!r}")
    return [SequenceFields(*entry) for entry in zip(targets, sequences, negatives, strict=True)]


def _check(features: dict[str, dict], name: str, keyword: str, sequential: bool) -> None:
    if name not in features:
        near = difflib.get_close_matches(name, features, n=3) or list(features)
        raise ValueError(f"{keyword}: feature {name!r} does not exist in the data set; nearest: {', '.join(near)}")
    kind = features[name]["type"]
    if (kind == "sequence") != sequential or kind == "meta":
        wanted = "a sequence" if sequential else "a feature of one value a row"
        raise ValueError(f"{keyword}: feature {name!r} is of type {kind!r}, but {wanted} is needed")


def oov_index(features: dict[str, dict], name: str) -> int:
    """The id that stands for unknown values: the zoo keeps it last, before ids that only a pretrained file has."""
    return features[name].get("oov_idx", features[name]["vocab_size"] - 1)


def vocabulary_of(features: dict[str, dict], name: str) -> str:
    """The feature whose vocabulary ``name`` uses."""
    return features[name].get("share_embedding") or name
