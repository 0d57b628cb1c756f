"""Write a synthetic log as large as one of the paper's, in Amazon's form of 2014.

    python -m research.programs.raw_reviews data/raw --log Electronics

The numbers of users, items, reviews and categories are those of the paper. Users and items have at least five reviews
each, and further ones by a lognormal law; a user reviews an item once, on one of their days. Reviews are sorted by
item. The texts are words by Zipf's law, about as long as real ones. Everything else is random: nothing can be learned
from it.
"""

import argparse
import gzip
import sys
from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
from tqdm import tqdm

from dien_fuxictr.dataset.generate_sample import zipf
from dien_fuxictr.dataset.samples.protocols import DAY

CORE = 5
"""Least number of reviews of a user and of an item."""
SPREAD = 1.5
"""Standard deviation of the logarithm of the number of further reviews."""
DAYS, LAST = 3650, datetime(2014, 7, 23, tzinfo=timezone.utc)
CHUNK = 50_000
"""Lines that are in memory at once."""
TEXT, WORDS = 1 << 22, 20_000
"""Characters that texts are cut out of, and different words in them."""
REVIEW = (
    '{"reviewerID": "A%013d", "asin": "B%09d", "reviewerName": "%s", "helpful": [%d, %d], "reviewText": "%s", '
    '"overall": %.1f, "summary": "%s", "unixReviewTime": %d, "reviewTime": "%s"}\n'
)
ITEM = (
    "{'asin': 'B%09d', 'description': '%s', 'title': '%s', 'price': %.2f, 'salesRank': {'%s': %d}, "
    "'imUrl': 'http://images.example/%s.jpg', 'related': {'also_bought': [%s], 'also_viewed': [%s]}, "
    "'brand': '%s', 'categories': [['%s', 'Group %d', 'Kind %d']]}\n"
)
RELATED = "'B%09d', "


@dataclass(frozen=True)
class Log:
    """Sizes of a log.

    They are users, items with reviews, reviews, items with metadata, categories, and characters of a text.
    """

    users: int
    items: int
    reviews: int
    products: int
    categories: int
    review_text: int
    description: int

    def share(self, share: float) -> "Log":
        """Return a smaller log with texts of equal length."""
        counts = {field.name: max(1, round(share * getattr(self, field.name))) for field in fields(self)[:5]}
        return Log(**counts, review_text=self.review_text, description=self.description)


LOGS = {
    "Electronics": Log(192_403, 63_001, 1_689_188, 500_000, 801, 620, 500),
    "Books": Log(603_668, 367_982, 8_898_041, 2_370_000, 1_600, 810, 700),
}


class Texts:
    """Texts of any length, cut out of a long one."""

    def __init__(self, rng: np.random.Generator) -> None:
        letters = rng.choice(list("etaoinshrdlu"), (WORDS, 9))
        words = ["".join(row[:length]) for row, length in zip(letters, rng.integers(2, 10, WORDS), strict=True)]
        self._text = " ".join(words[word] for word in rng.choice(WORDS, TEXT // 4, p=zipf(WORDS, 1.0)))[:TEXT]
        self._rng = rng

    def cut(self, count: int, mean: float) -> list[str]:
        """Return texts of lognormal lengths, at most ten times as long as the mean."""
        lengths = np.exp(self._rng.normal(-0.5, 1, count)).clip(1 / mean, 10) * mean
        starts = self._rng.integers(TEXT - int(10 * mean), size=count)
        ends = starts + lengths.astype(int)
        return [self._text[start:end] for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]


def write_log(folder: Path, name: str, log: Log, seed: int) -> None:
    """Write reviews_NAME_5.json.gz and meta_NAME.json.gz, with fast compression."""
    rng = np.random.default_rng(seed)
    texts = Texts(rng)
    folder.mkdir(parents=True, exist_ok=True)
    numbers = np.sort(rng.choice(log.products, log.items, replace=False))
    for file, lines, count in (
        (f"reviews_{name}_5.json.gz", review_lines(log, numbers, texts, rng), log.reviews),
        (f"meta_{name}.json.gz", item_lines(log, name, texts, rng), log.products),
    ):
        with gzip.open(folder / file, "wt", compresslevel=1) as target, tqdm(total=count, desc=file) as progress:
            for chunk in lines:
                target.write("".join(chunk))
                progress.update(len(chunk))


def review_lines(log: Log, numbers: np.ndarray, texts: Texts, rng: np.random.Generator) -> Iterator[list[str]]:
    """Yield the lines of the reviews in chunks.

    Args:
        log: sizes of the log.
        numbers: products that have reviews, ascending.
        texts: source of texts.
        rng: random numbers.
    """
    user, item = pairs(log, rng)
    day = days(user, log, rng)
    dates = [LAST - timedelta(days=DAYS - 1 - number) for number in range(DAYS)]
    shown = [f"{date:%m} {date.day}, {date.year}" for date in dates]
    start = int(dates[0].timestamp())
    for first in range(0, log.reviews, CHUNK):
        rows = slice(first, first + CHUNK)
        count = len(user[rows])
        yield [
            REVIEW % (*ids, reviewer, *helpful, text, stars, summary, start + DAY * when, shown[when])
            for ids, reviewer, helpful, text, stars, summary, when in zip(
                zip(user[rows].tolist(), numbers[item[rows]].tolist(), strict=True),
                texts.cut(count, 12),
                rng.integers(9, size=(count, 2)).tolist(),
                texts.cut(count, log.review_text),
                rng.integers(1, 6, count).tolist(),
                texts.cut(count, 25),
                day[rows].tolist(),
                strict=True,
            )
        ]


def item_lines(log: Log, name: str, texts: Texts, rng: np.random.Generator) -> Iterator[list[str]]:
    """Yield the lines of the metadata in chunks, by number."""
    kind = rng.choice(log.categories, log.products, p=zipf(log.categories, 0.8))
    related = "".join(RELATED % number for number in rng.integers(log.products, size=10_000).tolist())
    width = len(RELATED % 0)
    for first in range(0, log.products, CHUNK):
        kinds = kind[first : first + CHUNK].tolist()
        count = len(kinds)
        cuts = width * rng.integers((0, 1, 4900, 1), (4900, 40, 9900, 40), (count, 4))
        yield [
            ITEM
            % (
                *(first + row, description, title, price, name, rank, title[::-1]),
                *(related[a : a + many - 2], related[b : b + more - 2], brand, name, leaf % 40, leaf),
            )
            for row, description, title, price, rank, (a, many, b, more), brand, leaf in zip(
                range(count),
                texts.cut(count, log.description),
                texts.cut(count, 50),
                rng.gamma(2, 15, count).tolist(),
                rng.integers(10**6, size=count).tolist(),
                cuts.tolist(),
                texts.cut(count, 10),
                kinds,
                strict=True,
            )
        ]


def pairs(log: Log, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return user and item of each review, sorted by item, without repeated pairs."""
    user, item = (np.repeat(np.arange(size), counts(size, log.reviews, rng)) for size in (log.users, log.items))
    rng.shuffle(user)
    for _ in range(100):
        repeated = np.ones(log.reviews, bool)
        repeated[np.unique(user * log.items + item, return_index=True)[1]] = False
        rows = np.flatnonzero(repeated)
        if not len(rows):
            break
        for row, other in zip(rows, rng.integers(log.reviews, size=len(rows)), strict=True):
            user[row], user[other] = user[other], user[row]
    return user, item


def counts(size: int, reviews: int, rng: np.random.Generator) -> np.ndarray:
    """Return numbers of reviews, (size,), whose sum is `reviews`."""
    weights = np.exp(rng.normal(0, SPREAD, size))
    return CORE + rng.multinomial(reviews - CORE * size, weights / weights.sum())


def days(user: np.ndarray, log: Log, rng: np.random.Generator) -> np.ndarray:
    """Return the day of each review, (reviews,), from 0.

    A user has half as many days as reviews, at equal distances.
    """
    active = np.minimum(np.bincount(user, minlength=log.users) // 2 + 1, DAYS)
    gap = np.minimum(rng.integers(1, 120, log.users), DAYS // active)
    first = rng.integers(DAYS - gap * (active - 1))
    return first[user] + gap[user] * rng.integers(active[user])


def main(arguments: list[str] | None = None) -> int:
    """Write; returns an exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m research.programs.raw_reviews",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, help="folder for reviews_LOG_5.json.gz and meta_LOG.json.gz")
    add_log_options(parser, list(LOGS))
    options = parser.parse_args(arguments)
    write_log(options.folder, options.log, LOGS[options.log].share(options.share), options.seed)
    return 0


def add_log_options(parser: argparse.ArgumentParser, logs: list[str]) -> None:
    """Add `--log`, `--share` and `--seed`."""
    parser.add_argument(
        "--log",
        choices=logs,
        default="Electronics",
        help="data set of Amazon whose size the log has; default %(default)s",
    )
    parser.add_argument(
        "--share", type=float, default=1.0, metavar="S", help="share of the users, items and reviews; default 1"
    )
    parser.add_argument("--seed", type=int, default=2019, help="seed of the random numbers; default %(default)s")


if __name__ == "__main__":
    sys.exit(main())
