"""Raw Amazon reviews and item metadata, in the three forms in which they were published.

| form | reviews, one JSON object a line | metadata, one record a line | category leaf |
|---|---|---|---|
| 2014 | reviewerID, asin, unixReviewTime (s) | Python literal: asin, categories | last of the first path |
| 2018 | reviewerID, asin, unixReviewTime (s) | JSON: asin, category | last |
| 2023 | user_id, parent_asin, timestamp (ms) | JSON: parent_asin, categories | last |

Only these fields are read, so reduced copies of the files will do; each file may be gzipped or not. The form is seen
from the first record of each file unless it is forced. Files are read in blocks of lines.
"""

import ast
import gzip
import io
import json
import logging
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import polars as pl
from tqdm import tqdm

from dien_fuxictr.common.errors import UserError

UNKNOWN = "unknown"
BLOCK_BYTES = 1 << 25
BROKEN = (ValueError, TypeError, AttributeError, LookupError, OverflowError, SyntaxError, RecursionError, MemoryError)
"""What reading one line can raise; UnicodeError and JSONDecodeError are ValueErrors."""

REVIEW_FIELDS = {
    "2014": ("reviewerID", "asin", "unixReviewTime"),
    "2018": ("reviewerID", "asin", "unixReviewTime"),
    "2023": ("user_id", "parent_asin", "timestamp"),
}
META_FIELDS = {"2014": ("asin", "categories"), "2018": ("asin", "category"), "2023": ("parent_asin", "categories")}


def read_amazon(
    reviews: Path, meta: Path, form: str = "auto", skip_bad_lines: bool = False, verbose: bool = True
) -> pl.DataFrame:
    """Reviews joined with the category leaf of their items.

    Of several reviews of one item by one user at one time only the first is kept: the 2018 and 2023 files repeat
    reviews. A review of the same item at another time stays.

    Returns:
        One row a review, in file order: user_id, item_id, cate_id (String; "unknown" for an item without category),
        time (Int64, seconds).

    Raises:
        UserError: a file is missing, truncated or empty, has a broken line, or lacks a field.
    """
    log = read_reviews(reviews, form, skip_bad_lines, verbose)
    rows = log.height
    log = log.unique(["user_id", "item_id", "time"], keep="first", maintain_order=True)
    if log.height < rows:
        logging.info(f"Dropped {rows - log.height} repeated reviews (same user, item and time)")
    items = log["item_id"].unique()
    leaves = read_categories(meta, set(items), form, skip_bad_lines, verbose)
    logging.info(f"{leaves.height} of {items.len()} items have a category")
    return log.join(leaves, on="item_id", how="left", maintain_order="left").select(
        "user_id", "item_id", pl.col("cate_id").fill_null(UNKNOWN), "time"
    )


def read_reviews(path: Path, form: str = "auto", skip_bad_lines: bool = False, verbose: bool = True) -> pl.DataFrame:
    """user_id, item_id (String) and time (Int64, seconds) of each review, in file order, read in blocks of lines.

    Raises:
        UserError: the file is missing, truncated or holds no review; a line is broken (names the line) and
            `skip_bad_lines` is off.
    """
    bad = BadLines(path, skip_bad_lines)
    fields, frames, line_number = None, [], 1
    for block in line_blocks(path, verbose):
        lines = block.count(b"\n")
        if fields is None:
            fields = REVIEW_FIELDS[detect_form(path, block, REVIEW_FIELDS, form)]
        frame = parse_block(block, fields, lines)
        if frame is None:
            frame = parse_lines(block, fields, line_number, bad)
        frames.append(frame.rename(dict(zip(fields, ("user_id", "item_id", "time"), strict=True))))
        line_number += lines
    bad.report()
    log = pl.concat(frames) if frames else pl.DataFrame()
    if log.is_empty():
        raise UserError(f"{path} holds no reviews")
    logging.info(f"Read {log.height} reviews from {path}")
    return log.with_columns(pl.col("time") // 1000) if fields == REVIEW_FIELDS["2023"] else log


def parse_block(block: bytes, fields: tuple[str, str, str], lines: int) -> pl.DataFrame | None:
    """A block parsed at once, or None where a line needs a closer look."""
    user, item, time = fields
    try:
        frame = pl.read_ndjson(io.BytesIO(block), schema={user: pl.String, item: pl.String, time: pl.Int64})
    except pl.exceptions.PolarsError:
        return None
    empty = (pl.any_horizontal(pl.col(user, item).fill_null("") == "") | pl.col(time).is_null()).any()
    return None if frame.height != lines or frame.select(empty).item() else frame


def parse_lines(block: bytes, fields: tuple[str, str, str], line_number: int, bad: "BadLines") -> pl.DataFrame:
    """The same line by line, to find the broken one."""
    user, item, time = fields
    rows = []
    for number, line in enumerate(block.split(b"\n"), line_number):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            lacking = [field for field in fields if record.get(field) in (None, "")]
            if lacking:
                raise ValueError(f"no {lacking[0]}")
            rows.append((text(record[user]), text(record[item]), int(np.int64(int(record[time])))))
        except BROKEN as error:
            bad.add(number, error)
    return pl.DataFrame(rows, {user: pl.String, item: pl.String, time: pl.Int64}, orient="row")


def read_categories(
    path: Path, items: set[str], form: str = "auto", skip_bad_lines: bool = False, verbose: bool = True
) -> pl.DataFrame:
    """item_id and cate_id (String) of those `items` that have a category; an item's first one counts.

    Raises:
        UserError: as for `read_reviews`.
    """
    leaves = _of_items(
        path,
        items,
        lambda record, known: leaf_of(record.get(META_FIELDS[known][1]), known),
        form,
        skip_bad_lines,
        verbose,
    )
    return pl.DataFrame(
        {"item_id": list(leaves), "cate_id": list(leaves.values())}, {"item_id": pl.String, "cate_id": pl.String}
    )


def read_titles(
    path: Path, items: set[str], form: str = "auto", skip_bad_lines: bool = False, verbose: bool = True
) -> dict[str, str]:
    """Item -> title of those `items` that have one, which reduced metadata may leave out; the first one counts.

    Raises:
        UserError: as for `read_reviews`.
    """
    return _of_items(
        path, items, lambda record, _: text(record.get("title") or "").strip(), form, skip_bad_lines, verbose
    )


def _of_items(
    path: Path, items: set[str], take: Callable[[dict, str], str], form: str, skip_bad_lines: bool, verbose: bool
) -> dict[str, str]:
    """Item -> the first text that is not empty of what `take` finds in a record of that form."""
    bad = BadLines(path, skip_bad_lines)
    found: dict[str, str] = {}
    known, line_number = "", 1
    item_field, mentioned = "", re.compile(b"")
    for block in line_blocks(path, verbose):
        if not known:
            known = detect_form(path, block, META_FIELDS, form)
            item_field = META_FIELDS[known][0]
            mentioned = re.compile(rf"""["']{item_field}["']\s*:\s*(["'])([^"'\\]*)\1""".encode())
        for number, line in enumerate(block.split(b"\n"), line_number):
            named = mentioned.findall(line)
            # Most records are of items that nobody here has reviewed, and a literal is slow to parse.
            if not line.strip() or (named and not any(item.decode(errors="replace") in items for _, item in named)):
                continue
            try:
                record = parse_record(line)
                item = record.get(item_field)
                if item is None:
                    raise ValueError(f"no {item_field}")
                value = take(record, known) if item in items else ""
                if value:
                    found.setdefault(item, value)
            except BROKEN as error:
                bad.add(number, error)
        line_number += block.count(b"\n")
    bad.report()
    if not known:
        raise UserError(f"{path} holds no items")
    return found


def leaf_of(categories: list | None, form: str) -> str:
    """The last of a path of categories, in 2014's form the first of several paths; "" where there is none."""
    path = (categories or [[]])[0] if form == "2014" else categories or []
    if not isinstance(path, list):
        raise ValueError(f"{path!r} is no list of categories")
    return text(path[-1]).strip() if path else ""


def text(value: object) -> str:
    """The value as text, ValueError where UTF-8 cannot hold it (JSON admits halves of surrogate pairs)."""
    return str(value).encode().decode()


def parse_record(line: bytes) -> dict:
    """A line of any form: JSON or a Python literal."""
    record = line.decode().strip()
    try:
        return json.loads(record)
    except ValueError:
        return ast.literal_eval(record)


def detect_form(path: Path, block: bytes, fields_of_form: dict[str, tuple[str, ...]], form: str) -> str:
    """The form, one of those allowed by `form`, whose fields the first fitting record of the block has."""
    seen = None
    candidates = {name: fields for name, fields in fields_of_form.items() if form in (name, "auto")}
    for line in block.split(b"\n"):
        try:
            names = parse_record(line).keys()
        except BROKEN:
            continue
        for candidate, fields in candidates.items():
            if set(fields) <= names:
                return candidate
        seen = seen or ", ".join(names)
    if seen is None:
        raise UserError(f"{path}: line 1 holds no record, nor does any other of the first {len(block)} bytes")
    allowed = " or ".join(dict.fromkeys(", ".join(fields) for fields in candidates.values()))
    raise UserError(f"{path}: the records have the fields {seen}; they must have {allowed}")


def line_blocks(path: Path, verbose: bool = True) -> Iterator[bytes]:
    """A text file, gzipped or not, in blocks of whole lines, with progress over its bytes on disk.

    Raises:
        UserError: the file does not exist or its gzip stream is truncated or damaged.
    """
    if not Path(path).is_file():
        raise UserError(f"raw file {path} does not exist")
    with open(path, "rb") as file:
        gzipped = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        progress = tqdm(
            total=Path(path).stat().st_size, unit="B", unit_scale=True, desc=Path(path).name, disable=not verbose
        )
        with gzip.GzipFile(fileobj=file) if gzipped else nullcontext(file) as stream, progress:
            while True:
                try:
                    block = stream.read(BLOCK_BYTES) + stream.readline()
                except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                    raise UserError(f"{path} is a truncated or damaged gzip file ({error}): fetch it again") from error
                progress.update(file.tell() - progress.n)
                if not block:
                    return
                yield block if block.endswith(b"\n") else block + b"\n"


class BadLines:
    """Counts the broken lines of a file, or stops at the first."""

    def __init__(self, path: Path, skip: bool) -> None:
        self.path, self.skip, self.count = path, skip, 0

    def add(self, number: int, error: Exception) -> None:
        """Count the line; raises UserError where such lines are not left out."""
        self.count += 1
        if not self.skip:
            reason = f"{error}".splitlines()[0] if f"{error}" else type(error).__name__
            raise UserError(f"{self.path}: line {number} is broken ({reason}); --skip-bad-lines leaves such lines out")

    def report(self) -> None:
        """Warn of the lines that were left out, if any."""
        if self.count:
            logging.warning(f"{self.path}: left out {self.count} broken lines")
