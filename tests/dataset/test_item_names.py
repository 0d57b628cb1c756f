import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_raw import write_lines

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.dataset.item_names import CATEGORY, TITLE, readable, shortened, titles_of
from dien_fuxictr.dataset.samples.amazon import META_FIELDS, read_titles
from dien_fuxictr.dataset.samples.build_options import BuildOptions

ITEMS = {"a": "A Lens", "b": "It's 5\" &amp; long", "none": None, "empty": " "}


def write_meta(folder: Path, form: str) -> Path:
    item, category = {
        "2014": ("asin", "categories"),
        "2018": ("asin", "category"),
        "2023": ("parent_asin", "categories"),
    }[form]
    records = [{item: "first", category: []}]
    for name, title in [*ITEMS.items(), ("a", "a later title"), ("other", "of no interest")]:
        record: dict[str, Any] = {item: name, category: [["x"]] if form == "2014" else ["x"]}
        records.append(record if title is None else record | {"title": title})
    lines = [repr(record) if form == "2014" else json.dumps(record) for record in records]
    return write_lines(folder / "meta.json.gz", [line.encode() for line in lines])


@pytest.mark.parametrize("form", META_FIELDS)
def test_titles_of_each_published_form(form: str, tmp_path: Path) -> None:
    meta = write_meta(tmp_path, form)
    assert read_titles(meta, {*ITEMS, "absent"}, verbose=False) == {"a": "A Lens", "b": "It's 5\" &amp; long"}
    with pytest.raises(UserError, match="does not exist"):
        read_titles(tmp_path / "none", {"a"}, verbose=False)


def test_titles_come_from_the_metadata_of_the_build(tmp_path: Path) -> None:
    meta = str(write_meta(tmp_path, "2018"))
    options = BuildOptions.of({"source": "amazon", "reviews": "r", "meta": meta})
    assert titles_of(options, {"a"}, verbose=False) == {"a": "A Lens"}
    assert titles_of(replace(options, meta=f"{tmp_path}/moved"), {"a"}) == {}
    assert (
        titles_of(BuildOptions.of({"source": "log", "input": meta, "user": "u", "item": "i", "time": "t"}), {"a"}) == {}
    )
    assert titles_of(None, {"a"}) == {}


def test_readable() -> None:
    titles = {"a": "A Lens", "b": "It's 5\" &amp; long", "c": "word " * 20}
    assert readable(("a", "Lenses"), titles) == "A Lens · Lenses"
    assert readable(("b",), titles) == "It's 5\" & long"
    assert readable(("B00X", "Lenses"), titles) == "B00X · Lenses"
    title, category = readable(("c", "Concealers & Neutralizers for all"), titles).split(" · ")
    assert title == "word word word word word word wor…" and len(title) == TITLE
    assert category == "Concealers & Neutralize…" and len(category) == CATEGORY


def test_shortened() -> None:
    assert shortened(" two\n lines\t", 20) == "two lines"
    assert shortened("exactly", 7) == "exactly" and shortened("exactly8", 7) == "exactl…"
    assert shortened("abc def", 5) == "abc…"
