"""Side fields of items, the category of an item say, for requests that leave them out.

A side field is one that has a single value for each item, wherever the item occurs in the data set.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from dien_fuxictr.common.contract import Contract
from dien_fuxictr.common.errors import UserError
from dien_fuxictr.dataset.encoding.catalogue import tuples_of
from dien_fuxictr.dataset.encoding.encoded import EncodedSplit, load_split
from dien_fuxictr.dataset.encoding.encoder import Encoder
from dien_fuxictr.dataset.encoding.reading import source_of

_UNKNOWN = "__OOV__"
_STORED = Contract({"words": [dict[str, dict[str, str]]], "fields": [dict[str, list[str]]]}, ("words", "fields"))


class Sides(NamedTuple):
    """Where a field that is left out comes from.

    Attributes:
        item: the field beside it that names the items.
        side: whose words in `Catalogue.words` it takes.
    """

    item: str
    side: str


class Catalogue(NamedTuple):
    """What is known of the items of a data set.

    Attributes:
        words: side field -> item -> its value.
        fields: field that a request may leave out -> where it comes from.
    """

    words: dict[str, dict[str, str]]
    fields: dict[str, Sides]

    @classmethod
    def of(cls, content: dict[str, Any], place: str) -> "Catalogue":
        """What `_asdict` has written to a file; raises UserError where it is something else."""
        _STORED.check(content, lambda _: place)
        fields = {field: Sides(*sides) for field, sides in content["fields"].items()}
        for field, (_, side) in fields.items():
            if side not in content["words"]:
                raise UserError(f"{field} takes its values from {side} in {place}, whose words lack {side}")
        return cls(content["words"], fields)

    def complete(self, *parts: dict[str, Any]) -> None:
        """Add to the parts of a request the side fields that none of them has, beside their items."""
        for field, (item, side) in self.fields.items():
            if any(field in part for part in parts):
                continue
            for part in parts:
                if item in part:
                    given, words = part[item], self.words[side]
                    is_list = isinstance(given, list)
                    part[field] = [_side(each, words) for each in given] if is_list else _side(given, words)


def _side(item: Any, words: dict[str, str]) -> str | None:
    """Nothing, and a gap in a history, stay what they are; what is no item is refused where items are read."""
    return item if item is None or item == "" else words.get(str(item), _UNKNOWN)


def catalogue_of(encoder: Encoder, features: dict[str, dict[str, Any]], data_dir: Path) -> Catalogue:
    """The side fields of a data set that was built in-process.

    A behaviour's fields are those of a target item where they share its vocabularies.

    Args:
        encoder: of the data set.
        features: `feature_map.features`.
        data_dir: its folder.
    """
    plain = {
        column["name"]: column
        for column in encoder.columns
        if column["type"] in ("categorical", "sequence")
        and column["dtype"] == "str"
        and source_of(column) == column["name"]
    }
    splits = [load_split(file) for file in sorted((data_dir / "encoded").glob("*.npz"))]
    words: dict[str, dict[str, str]] = {}
    fields: dict[str, Sides] = {}
    for table in encoder.tables:
        for names in tuples_of([name for name in table if name in plain], features):
            roots = [plain[name]["vocabulary"] for name in names]
            item, *sides = [root for root in roots if plain.get(root, {}).get("type") == "categorical"] or [""]
            if not names or item != roots[0]:
                continue
            for name, side in zip(names[1:], roots[1:], strict=True):
                if side in sides and (of := _sides(encoder, splits, {item: names[0], side: name})):
                    words[side] = of
                    fields |= {side: Sides(item, side), name: Sides(names[0], side)}
    return Catalogue(words, fields)


def _sides(encoder: Encoder, splits: list[EncodedSplit], histories: dict[str, str]) -> dict[str, str]:
    """Item -> its value; nothing where an item has two, or no splits are given.

    Args:
        histories: item field and side field -> the sequence of each.
    """
    item, side = histories
    if not splits:  # of a set in files, whose rows are not read
        return {}
    pairs = [{name: split.columns[name] for name in histories} for split in splits]
    for split in splits:
        table = next(table for table in split.tables if histories[item] in table.columns)
        pairs.append({name: np.asarray(table.columns[history]) for name, history in histories.items()})
    vocabulary = encoder.vocabularies[item]
    known = (pl.col(item) != 0) & (pl.col(item) != vocabulary[_UNKNOWN])
    distinct = pl.concat([pl.DataFrame(each).filter(known).unique() for each in pairs]).unique()
    if distinct[item].n_unique() < distinct.height:
        return {}
    items, values = ({i: word for word, i in encoder.vocabularies[name].items()} for name in (item, side))
    return {items[i]: values[j] for i, j in distinct.sort(item).rows()}
