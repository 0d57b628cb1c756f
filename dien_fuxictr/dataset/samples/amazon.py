"""Read raw Amazon reviews and item metadata, in their three published forms.

| form | reviews, one JSON object per line | metadata, one record per line | category leaf |
|---|---|---|---|
| 2014 | reviewerID, asin, unixReviewTime (s) | Python literal: asin, categories | last of the first path |
| 2018 | reviewerID, asin, unixReviewTime (s) | JSON: asin, category | last |
| 2023 | user_id, parent_asin, timestamp (ms) | JSON: parent_asin, categories | last |

Only these fields are read, so reduced copies of the files are sufficient; each file may be gzipped or not. The form is
detected from the first record of each file unless it is given. Files are read in blocks of lines.
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

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.common.progress import progress_bar

UNKNOWN = "unknown"
BLOCK_BYTES = 1 << 25
BROKEN = (ValueError, TypeError, AttributeError, LookupError, OverflowError, SyntaxError, RecursionError, MemoryError)
"""Errors that reading one line can raise; UnicodeError and JSONDecodeError are ValueErrors."""

REVIEW_FIELDS = {
    "2014": ("reviewerID", "asin", "unixReviewTime"),
    "2018": ("reviewerID", "asin", "unixReviewTime"),
    "2023": ("user_id", "parent_asin", "timestamp"),
}
META_FIELDS = {"2014": ("asin", "categories"), "2018": ("asin", "category"), "2023": ("parent_asin", "categories")}


def read_amazon(
    reviews: Path, meta: Path, form: str = "auto", skip_bad_lines: bool = False, verbose: bool = True
) -> pl.DataFrame:
    """Return reviews joined with the category leaf of their items.

    Of several reviews of one item by one user at one time only the first is kept: the 2018 and 2023 files repeat
    reviews. A review of the item at another time is kept.

    Returns:
        One row per review, in file order: user_id, item_id, cate_id (String; "unknown" for an item without category),
        time (Int64, seconds).

    Raises:
        UserError: a file is missing, truncated or empty, has a broken line, or lacks a field.
    """
    log = read_reviews(reviews, form, skip_bad_lines, verbose)
    rows = log.height
    log = log.unique(["user_id", "item_id", "time"], keep="first", maintain_order=True)
    if log.height < rows:
        logging.info(f"Dropped {rows - log.height} repeated reviews (same user, item and time)", extra={"note": True})
    items = log["item_id"].unique()
    leaves = read_categories(meta, set(items), form, skip_bad_lines, verbose)
    logging.info(f"{leaves.height} of {items.len()} items have a category", extra={"note": True})
    return log.join(leaves, on="item_id", how="left", maintain_order="left").select(
        "user_id", "item_id", pl.col("cate_id").fill_null(UNKNOWN), "time"
    )


def read_reviews(path: Path, form: str = "auto", skip_bad_lines: bool = False, verbose: bool = True) -> pl.DataFrame:
    """Return user_id, item_id (String) and time (Int64, seconds) of each review.

    The file is read in blocks of lines, and rows are in file order.

    Raises:
        UserError: the file is missing, truncated or contains no review; or a line is broken (the message gives its
            number) and `skip_bad_lines` is off.
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
        raise UserError(f"{path} has no reviews")
    logging.info(f"Read {log.height} reviews from {path}", extra={"screen": f"    {log.height:,} reviews in {path}"})
    return log.with_columns(pl.col("time") // 1000) if fields == REVIEW_FIELDS["2023"] else log


def parse_block(block: bytes, fields: tuple[str, str, str], lines: int) -> pl.DataFrame | None:
    """Parse a block in one call; return None if a line needs a closer look."""
    user, item, time = fields
    try:
        frame = pl.read_ndjson(io.BytesIO(block), schema={user: pl.String, item: pl.String, time: pl.Int64})
    except pl.exceptions.PolarsError:
        return None
    empty = (pl.any_horizontal(pl.col(user, item).fill_null("") == "") | pl.col(time).is_null()).any()
    return None if frame.height != lines or frame.select(empty).item() else frame


def parse_lines(block: bytes, fields: tuple[str, str, str], line_number: int, bad: "BadLines") -> pl.DataFrame:
    """Parse a block line by line, to find broken lines.

    Args:
        block: lines of the file.
        fields: names of user, item and time.
        line_number: number of the first line.
        bad: collects the broken lines.
    """
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
    """Return item_id and cate_id (String) of those `items` that have a category.

    If an item occurs several times, its first category counts.

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
    """Return item -> title of those `items` that have one.

    Reduced metadata may lack titles. If an item occurs several times, its first title counts.

    Raises:
        UserError: as for `read_reviews`.
    """
    return _of_items(
        path, items, lambda record, _: text(record.get("title") or "").strip(), form, skip_bad_lines, verbose
    )


def _of_items(
    path: Path, items: set[str], take: Callable[[dict, str], str], form: str, skip_bad_lines: bool, verbose: bool
) -> dict[str, str]:
    """Return item -> the first non-empty text that `take` finds in its records."""
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
            # Most records are of other items, and a Python literal is slow to parse.
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
        raise UserError(f"{path} has no items")
    return found


def leaf_of(categories: list | None, form: str) -> str:
    """Return the last of a path of categories; "" without a path.

    The form of 2014 has several paths, of which the first is used.
    """
    path = (categories or [[]])[0] if form == "2014" else categories or []
    if not isinstance(path, list):
        raise ValueError(f"{path!r} is not a list of categories")
    return text(path[-1]).strip() if path else ""


def text(value: object) -> str:
    """Return the value as text.

    Raises:
        ValueError: UTF-8 cannot represent it (JSON permits halves of surrogate pairs).
    """
    return str(value).encode().decode()


def parse_record(line: bytes) -> dict:
    """Return the record of a line, which is JSON or a Python literal."""
    record = line.decode().strip()
    try:
        return json.loads(record)
    except ValueError:
        return ast.literal_eval(record)


def detect_form(path: Path, block: bytes, fields_of_form: dict[str, tuple[str, ...]], form: str) -> str:
    """Return the form whose fields the first matching record of the block has.

    Args:
        path: file, for messages.
        block: first lines of the file.
        fields_of_form: form -> its fields.
        form: the only allowed form, or `auto`.

    Raises:
        UserError: no record matches.
    """
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
        raise UserError(f"{path} has no record in its first {len(block)} bytes; every line must be one JSON record")
    allowed = " or ".join(dict.fromkeys(", ".join(fields) for fields in candidates.values()))
    raise UserError(f"{path}: the records have the fields {seen}; they must have {allowed}")


def line_blocks(path: Path, verbose: bool = True) -> Iterator[bytes]:
    """Yield a text file, gzipped or not, in blocks of whole lines.

    A progress bar counts its bytes on disk.

    Raises:
        UserError: the file does not exist, or its gzip stream is truncated or damaged.
    """
    if not Path(path).is_file():
        raise UserError(f"raw file {path} does not exist")
    with open(path, "rb") as file:
        gzipped = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        size, name = Path(path).stat().st_size, Path(path).name
        progress = progress_bar(verbose=verbose, total=size, unit="B", unit_scale=True, desc=name)
        with gzip.GzipFile(fileobj=file) if gzipped else nullcontext(file) as stream, progress:
            while True:
                try:
                    block = stream.read(BLOCK_BYTES) + stream.readline()
                except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                    raise UserError(
                        f"{path} is a truncated or damaged gzip file ({error}); download it again"
                    ) from error
                progress.update(file.tell() - progress.n)
                if not block:
                    return
                yield block if block.endswith(b"\n") else block + b"\n"


class BadLines:
    """Counter of the broken lines of a file, which may refuse the first."""

    def __init__(self, path: Path, skip: bool) -> None:
        self.path, self.skip, self.count = path, skip, 0

    def add(self, number: int, error: Exception) -> None:
        """Count the line.

        Raises:
            UserError: broken lines are not skipped.
        """
        self.count += 1
        if not self.skip:
            reason = f"{error}".splitlines()[0] if f"{error}" else type(error).__name__
            raise UserError(f"{self.path}: line {number} is broken ({reason}); --skip-bad-lines leaves such lines out")

    def report(self) -> None:
        """Log a warning about the skipped lines, if any."""
        if self.count:
            logging.warning(f"{self.path}: left out {self.count} broken lines")
