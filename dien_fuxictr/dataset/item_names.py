"""Names that a person can read: title and category where raw metadata have them, else the ids."""

import html
from pathlib import Path
from typing import Any

from dien_fuxictr.dataset.samples.amazon import read_titles

TITLE, CATEGORY = 34, 24
"""Longest title and category, in characters."""


def titles_of(params: dict[str, Any], items: set[str]) -> dict[str, str]:
    """Item -> title, of those items that have one in the metadata that the data set's `build:` section names.

    Raises:
        UserError: the metadata are broken.
    """
    build = params.get("build") or {}
    if build.get("source") != "amazon" or not Path(build["meta"]).is_file():
        return {}
    return read_titles(
        Path(build["meta"]),
        items,
        build.get("form", "auto"),
        build.get("skip_bad_lines", False),
        verbose=params["verbose"] > 0,
    )


def readable(words: tuple[str, ...], titles: dict[str, str]) -> str:
    """An item and, if there is one, its category.

    Args:
        words: of the fields, the item first.
    """
    item, *sides = words
    title = shortened(titles.get(item, item), TITLE)
    return " · ".join([title, *(shortened(side, CATEGORY) for side in sides[:1])])


def shortened(text: str, length: int) -> str:
    """On one line, cut to a number of characters."""
    line = " ".join(html.unescape(text).split())
    return line if len(line) <= length else line[: length - 1].rstrip() + "…"
