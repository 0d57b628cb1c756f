"""Readable names of items: title and category if metadata have them, else ids."""

import html
from pathlib import Path

from dien_fuxictr.dataset.samples.amazon import read_titles
from dien_fuxictr.dataset.samples.build_options import BuildOptions

TITLE, CATEGORY = 34, 24
"""Longest title and category, in characters."""


def titles_of(options: BuildOptions | None, items: set[str], verbose: bool = True) -> dict[str, str]:
    """Return item -> title, for items with a title in the data set's metadata.

    Raises:
        UserError: the metadata are broken.
    """
    if options is None or options.source != "amazon" or not Path(options.meta).is_file():
        return {}
    return read_titles(Path(options.meta), items, options.form, options.skip_bad_lines, verbose)


def readable(words: tuple[str, ...], titles: dict[str, str]) -> str:
    """Return an item's title and its category, if there is one.

    Args:
        words: values of the fields, the item first.
        titles: item -> title.
    """
    item, *sides = words
    title = shortened(titles.get(item, item), TITLE)
    return " · ".join([title, *(shortened(side, CATEGORY) for side in sides[:1])])


def shortened(text: str, length: int) -> str:
    """Return a text on one line, cut to a number of characters."""
    line = " ".join(html.unescape(text).split())
    return line if len(line) <= length else line[: length - 1].rstrip() + "…"
