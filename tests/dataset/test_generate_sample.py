import gzip
import json
import zlib
from ast import literal_eval
from collections import Counter, defaultdict
from pathlib import Path

import pytest
import yaml

from dien_fuxictr.dataset.generate_sample import BRANDS, TOPICS, World, generate, main
from dien_fuxictr.dataset.samples.amazon import read_amazon
from dien_fuxictr.dataset.samples.build_options import BuildOptions
from dien_fuxictr.dataset.samples.protocols import DAY
from dien_fuxictr.dataset.samples.sampling import make_samples

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "data" / "amazon_sample"
FILES = ("reviews_Sample_5.json.gz", "meta_Sample.json.gz")


@pytest.fixture(scope="module")
def reviews() -> list[dict]:
    return [json.loads(line) for line in gzip.decompress((SAMPLE / FILES[0]).read_bytes()).splitlines()]


@pytest.fixture(scope="module")
def items() -> dict[str, dict]:
    lines = gzip.decompress((SAMPLE / FILES[1]).read_bytes()).decode().splitlines()
    return {item["asin"]: item for item in map(literal_eval, lines)}


def test_the_sample_comes_out_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / SAMPLE.relative_to(ROOT)).mkdir(parents=True)
    main([])
    for name in FILES:
        made, embedded = (tmp_path / SAMPLE.relative_to(ROOT) / name).read_bytes(), (SAMPLE / name).read_bytes()
        assert gzip.decompress(made) == gzip.decompress(embedded)
        if "ng" not in zlib.ZLIB_RUNTIME_VERSION:  # zlib-ng packs the same bytes in another way
            assert made == embedded
    main(["--out", str(tmp_path / "other"), "--seed", "7"])
    assert (tmp_path / "other" / FILES[0]).read_bytes() != (SAMPLE / FILES[0]).read_bytes()


def test_size() -> None:
    assert sum(path.stat().st_size for path in SAMPLE.iterdir()) <= 1.5e6
    entry = yaml.safe_load((ROOT / "config" / "dataset_config" / "amazon.yaml").read_text())["amazon"]
    options = BuildOptions.of(entry["build"])
    log = read_amazon(ROOT / options.reviews, ROOT / options.meta, verbose=False)
    samples = make_samples(log, options)
    assert 10_000 <= samples.splits["train"].height <= 15_000
    assert samples.splits["test"].height == 2 * World.users


def test_raw_form_of_2014(reviews: list[dict], items: dict[str, dict]) -> None:
    assert [review["asin"] for review in reviews] == sorted(review["asin"] for review in reviews)
    assert {review["asin"] for review in reviews} <= set(items)
    assert {tuple(item["categories"][0]) for item in items.values()} == {
        ("Synthetic", topic, category) for topic, categories in TOPICS.items() for category in categories
    }
    assert all(review["unixReviewTime"] % DAY == 0 for review in reviews)


def test_behaviours_of_a_user(reviews: list[dict]) -> None:
    days = defaultdict(list)
    for review in reviews:
        days[review["reviewerID"]].append(review["unixReviewTime"])
    counts = [len(times) for times in days.values()]
    assert len(days) == World.users and min(counts) >= 5 and max(counts) <= World.behaviours[1]
    pairs = sum(count - 1 for count in counts)
    tied = sum(
        first == then for times in days.values() for first, then in zip(sorted(times), sorted(times)[1:], strict=False)
    )
    assert 0.05 < tied / pairs < 0.15


def test_popularity_is_skewed(reviews: list[dict], items: dict[str, dict]) -> None:
    brands = Counter(items[review["asin"]]["brand"] for review in reviews)
    assert brands[BRANDS[0]] > 3 * brands[BRANDS[-1]]


def test_order_tells_what_the_set_does_not(reviews: list[dict], items: dict[str, dict]) -> None:
    """Check that the next category follows the last one, not any other seen one."""
    place = {
        category: (topic, number) for topic, categories in TOPICS.items() for number, category in enumerate(categories)
    }
    histories = defaultdict(list)
    for review in sorted(reviews, key=lambda review: review["unixReviewTime"]):
        histories[review["reviewerID"]].append(place[items[review["asin"]]["categories"][0][-1]])
    follows: dict[str, list[bool]] = {"latest": [], "earlier": []}
    for history in histories.values():
        for number in range(5, len(history)):
            topic, step = history[number]
            before = (topic, (step - 1) % 5)
            follows["latest"].append(history[number - 1] == before)
            follows["earlier"].append(history[number - 4] == before)
    share = {name: sum(found) / len(found) for name, found in follows.items()}
    assert share["latest"] > 3 * share["earlier"]


def test_generation_is_seeded() -> None:
    world = World(users=5)
    assert generate(3, world) == generate(3, world) != generate(4, world)
