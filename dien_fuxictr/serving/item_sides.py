"""Side fields of items, such as the category, for requests that leave them out.

A side field's value is known for items that have a single value everywhere in the data set.
"""

import logging
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.common.key_types import Contract
from dien_fuxictr.dataset.encoding.behaviour_catalogue import tuples_of
from dien_fuxictr.dataset.encoding.encoded import EncodedSplit, load_split
from dien_fuxictr.dataset.encoding.encoder import Encoder
from dien_fuxictr.dataset.encoding.online import FieldError
from dien_fuxictr.dataset.encoding.reading import source_of

_UNKNOWN = "__OOV__"
_STORED = Contract({"words": [dict[str, dict[str, str | None]]], "fields": [dict[str, list[str]]]}, ("words", "fields"))


class Sides(NamedTuple):
    """Source of a field that is left out.

    Attributes:
        item: the field that names the items.
        side: side field in `Catalogue.words` with the values.
    """

    item: str
    side: str


class Catalogue(NamedTuple):
    """Known side fields of the items of a data set.

    Attributes:
        words: side field -> item -> its value; None if it has several. Items without a value are left out.
        fields: field that a request may leave out -> its source.
    """

    words: dict[str, dict[str, str | None]]
    fields: dict[str, Sides]

    @classmethod
    def of(cls, content: dict[str, Any], place: str) -> "Catalogue":
        """Return the catalogue in the content of a file that `_asdict` has produced.

        Raises:
            UserError: the content is wrong.
        """
        _STORED.check(content, lambda _: place)
        fields = {field: Sides(*sides) for field, sides in content["fields"].items()}
        for field, (_, side) in fields.items():
            if side not in content["words"]:
                raise UserError(f"{field} takes its values from {side} in {place}, whose words lack {side}")
        return cls(content["words"], fields)

    def complete(self, parts: dict[str, dict[str, Any]]) -> None:
        """Add side fields that a request leaves out to its parts with the items.

        An item without a known value is out of vocabulary in this field, too.

        Args:
            parts: name -> fields.

        Raises:
            FieldError: an item has several values in the data set.
        """
        for field, (item, side) in self.fields.items():
            if any(field in part for part in parts.values()):
                continue
            for name, part in parts.items():
                if item in part:
                    given = part[item]
                    items = given if isinstance(given, list) else [given]
                    values = [_side(each, self.words[side]) for each in items]
                    for each, value in zip(items, values, strict=True) if None in values else ():
                        if value is None and each is not None:
                            problem = f"is missing, and {item} {each!r} has several values in the data set"
                            raise FieldError(f"{name}.{field}", problem)
                    part[field] = values if isinstance(given, list) else values[0]


def _side(item: Any, words: dict[str, str | None]) -> str | None:
    """Return the value of an item; missing items and gaps stay unchanged.

    A value that is not an item is refused where items are read.
    """
    return item if item is None or item == "" else words.get(str(item), _UNKNOWN)


def catalogue_of(
    encoder: Encoder, features: dict[str, dict[str, Any]], data_dir: Path, of_no_item: Collection[str] = ()
) -> Catalogue:
    """Return the side fields of a data set that was built in-process.

    The log reports how many items have no known value. The fields of a behaviour are those of a target item if they
    share its vocabularies.

    Args:
        encoder: encoder of the data set.
        features: `feature_map.features`.
        data_dir: its folder.
        of_no_item: columns whose value does not depend on the item alone; a request must have them.
    """
    splits = [load_split(file) for file in sorted((data_dir / "encoded").glob("*.npz"))]
    words: dict[str, dict[str, str | None]] = {}
    fields: dict[str, Sides] = {}
    for item, history, side, name in side_columns(encoder, features):
        if side in of_no_item:
            continue
        of = _sides(encoder, splits, {item: history, side: name})
        if of:
            words[side] = of
            fields |= {side: Sides(item, side), name: Sides(history, side)}
        _say_what_is_not_known(side, name, of, len(encoder.vocabularies[item].keys() - {"__PAD__", _UNKNOWN}))
    return Catalogue(words, fields)


def side_columns(encoder: Encoder, features: dict[str, dict[str, Any]]) -> Iterator[tuple[str, str, str, str]]:
    """Yield the fields of an item with those of each of its side columns.

    Yields:
        Target item, history, target column, history of the column.
    """
    plain = {
        column["name"]: column
        for column in encoder.columns
        if column["type"] in ("categorical", "sequence")
        and column["dtype"] == "str"
        and source_of(column) == column["name"]
    }
    for table in encoder.tables:
        for names in tuples_of([name for name in table if name in plain], features):
            roots = [plain[name]["vocabulary"] for name in names]
            item, *sides = [root for root in roots if plain.get(root, {}).get("type") == "categorical"] or [""]
            if names and item == roots[0]:
                for name, side in zip(names[1:], roots[1:], strict=True):
                    if side in sides:
                        yield item, names[0], side, name


def _sides(encoder: Encoder, splits: list[EncodedSplit], histories: dict[str, str]) -> dict[str, str | None]:
    """Return item -> its value, None if it has several.

    The result is empty if no item has a single value, or without splits.

    Args:
        encoder: encoder of the data set.
        splits: splits of the data set.
        histories: item field and side field -> sequence of each.
    """
    item, side = histories
    if not splits:  # the rows of a set in files are not read
        return {}
    pairs = [{name: split.columns[name] for name in histories} for split in splits]
    for split in splits:
        table = next(table for table in split.tables if histories[item] in table.columns)
        pairs.append({name: np.asarray(table.columns[history]) for name, history in histories.items()})
    known = pl.all_horizontal(
        (pl.col(name) != 0) & (pl.col(name) != encoder.vocabularies[name][_UNKNOWN]) for name in histories
    )
    distinct = pl.concat([pl.DataFrame(each).filter(known).unique() for each in pairs]).unique()
    of_items = distinct.group_by(item).agg(pl.col(side).first(), several=pl.len() > 1).sort(item)
    if of_items["several"].all():
        return {}
    items, values = ({i: word for word, i in encoder.vocabularies[name].items()} for name in (item, side))
    return {items[i]: None if several else values[j] for i, j, several in of_items.rows()}


def _say_what_is_not_known(side: str, history: str, of: dict[str, str | None], items: int) -> None:
    several = sorted(item for item, word in of.items() if word is None)
    if not of:
        logging.warning(f"the catalogue has no {side} for any item: requests must hold {side} and {history}")
    if several:
        named = f"{', '.join(several[:3])}{', ...' * (len(several) > 3)}"
        logging.warning(
            f"the catalogue lacks {side} of {len(several)} of {items} items, which have several values in the data set "
            f"({named}): requests with such items must hold {side} and {history}"
        )
    if of and items > len(of):
        logging.warning(
            f"the catalogue lacks {side} of {items - len(of)} of {items} items, which have no value in the data set: "
            "where requests leave it out, it counts as unknown"
        )
