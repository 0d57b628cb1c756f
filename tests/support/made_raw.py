"""Raw Amazon files of each published form, and behaviour logs, for tests."""

import gzip
import json
from pathlib import Path

import numpy as np
import polars as pl

Review = tuple[str, str, int]

SHAMPOO, BRUSH = ["Beauty", "Hair Care", "Shampoo"], ["Beauty", "Hair Care", "Hair Brushes"]


def review_line(review: Review, form: str, **more: object) -> bytes:
    """Return a line of a reviews file; time is in seconds."""
    user, item, time = review
    if form == "2023":
        record = {"asin": "a colour of it", "parent_asin": item, "user_id": user, "timestamp": time * 1000}
    else:
        record = {"reviewerID": user, "asin": item, "overall": 5.0, "unixReviewTime": time}
    return json.dumps(record | more).encode()


def meta_line(item: str, path: list[str] | None, form: str) -> bytes:
    """Return a line of a metadata file; no category if `path` is None."""
    if form == "2014":
        record = {"asin": item, "title": "It's 5\" long"}
        return repr(record if path is None else record | {"categories": [path, ["Elsewhere", "Other"]]}).encode()
    name, category = ("parent_asin", "categories") if form == "2023" else ("asin", "category")
    return json.dumps({name: item, category: path or []}).encode()


def write_lines(path: Path, lines: list[bytes]) -> Path:
    """Write the lines, gzipped if the name says so."""
    content = b"".join(line + b"\n" for line in lines)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def write_raw(
    folder: Path,
    reviews: list[Review],
    categories: dict[str, list[str] | None],
    form: str = "2014",
    gzipped: bool = True,
) -> tuple[Path, Path]:
    """Write a reviews file and a metadata file."""
    suffix = (".jsonl" if form == "2023" else ".json") + (".gz" if gzipped else "")
    return (
        write_lines(folder / f"reviews{suffix}", [review_line(review, form) for review in reviews]),
        write_lines(folder / f"meta{suffix}", [meta_line(*entry, form) for entry in categories.items()]),
    )


def random_reviews(users: int = 40, items: int = 30, days: int = 60, seed: int = 0) -> list[Review]:
    """Return reviews with a resolution of days, sorted by item as in real files.

    No two are of one user, item and day.
    """
    rng = np.random.default_rng(seed)
    reviews = {
        (f"u{user}", f"i{rng.integers(items):02d}", int(rng.integers(days)) * 86_400)
        for user in range(users)
        for _ in range(rng.integers(4, 12))
    }
    return sorted(reviews, key=lambda review: (review[1], review[0], review[2]))


def as_log(reviews: list[Review], categories: int = 4) -> pl.DataFrame:
    """Return the reviews as the builders read them, with categories by item number."""
    users, items, times = zip(*reviews, strict=True)
    cates = [f"c{int(item[1:]) % categories}" for item in items]
    return pl.DataFrame(
        {"user_id": users, "item_id": items, "cate_id": cates, "time": times},
        {"user_id": pl.String, "item_id": pl.String, "cate_id": pl.String, "time": pl.Int64},
    )
