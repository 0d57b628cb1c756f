"""Generate the embedded sample: SYNTHETIC reviews in the form of Amazon's files.

    python -m dien_fuxictr.dataset.generate_sample    # rewrites data/amazon_sample/ with equal bytes
    python -m dien_fuxictr.dataset.generate_sample --seed 7 --out DIR

No person, product or review in it is real. The sample lets the whole pipeline run without a download, on data in which
the *order* of behaviours carries signal that their set does not. Its assumptions:

- There are four topics of related categories. The categories of a topic form a circle that interests walk along in one
  direction (camera, lens, tripod, bag, cleaning kit, camera ...). The next category follows from the last one, while
  the set of visited categories tells little, since in the long run a user visits all of them.
- A user has two interests at a time: a topic, a place on its circle and a brand that they slightly prefer. One interest
  is active and stays active for a while; the other waits at its place. At each behaviour the active interest mostly
  moves on a step, sometimes stays, and rarely jumps.
- Interests drift: sometimes one is replaced by another topic, more often a related (neighbouring) one, so that a user
  has had several interests over the whole history.
- Noise: some behaviours are an item of any topic.
- Popularity is skewed (Zipf) over topics and brands.
- Times have the resolution of a day, and several behaviours share one. The file is sorted by item, so the order of
  these ties is lost, as in the real files.
"""

import gzip
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dien_fuxictr.common.command_parser import command_parser
from dien_fuxictr.common.errors import UserError
from dien_fuxictr.common.outputs import require_output

from .samples.protocols import DAY

TOPICS = {
    "Photography": ("Camera", "Lens", "Tripod", "Camera Bag", "Cleaning Kit"),
    "Hiking": ("Tent", "Sleeping Bag", "Camp Stove", "Headlamp", "Backpack"),
    "Coffee": ("Espresso Machine", "Coffee Grinder", "Coffee Beans", "Milk Frother", "Descaler"),
    "Music": ("Guitar", "String Set", "Tuner", "Amplifier", "Instrument Cable"),
}
BRANDS = ("Alder", "Birch", "Cedar", "Dogwood", "Elm", "Fir", "Ginkgo", "Hazel", "Ironwood", "Juniper")
PLACES = 5
"""Categories of a topic."""
START = 1_325_376_000
"""2012-01-01 in seconds."""


@dataclass(frozen=True)
class World:
    """Sizes and probabilities of the module's assumptions."""

    users: int = 540
    behaviours: tuple[int, int] = (8, 22)
    interests: int = 2
    stay_active: float = 0.9
    step: float = 0.96
    stay: float = 0.02
    brand_loyalty: float = 0.2
    drift: float = 0.2
    neighbour: float = 0.7
    noise: float = 0.05
    same_day: float = 0.1
    mean_gap_days: float = 6.0


def zipf(size: int, exponent: float) -> np.ndarray:
    """Return probabilities that fall with the rank."""
    weights = np.arange(1, size + 1) ** -exponent
    return weights / weights.sum()


def walk(world: World, rng: np.random.Generator) -> list[tuple[int, int, int]]:
    """Return the behaviours of one user in order: topic, place and brand of each."""
    topics = len(TOPICS)
    topic_shares, brand_shares = zipf(topics, 0.3), zipf(len(BRANDS), 0.7)

    def some_brand() -> int:
        return rng.choice(len(BRANDS), p=brand_shares)

    interests = [
        [topic, rng.integers(PLACES), some_brand()]
        for topic in rng.choice(topics, world.interests, replace=False, p=topic_shares)
    ]
    active, behaviours = 0, []
    for _ in range(rng.integers(world.behaviours[0], world.behaviours[1] + 1)):
        if rng.random() < world.noise:
            behaviours.append((rng.choice(topics, p=topic_shares), rng.integers(PLACES), some_brand()))
            continue
        if rng.random() < world.drift:
            dropped = rng.integers(world.interests)
            near = (interests[dropped][0] + rng.choice([-1, 1])) % topics
            topic = near if rng.random() < world.neighbour else rng.integers(topics)
            if topic not in [held for held, _, _ in interests]:
                interests[dropped] = [topic, rng.integers(PLACES), some_brand()]
        if rng.random() > world.stay_active:
            active = rng.integers(world.interests)
        topic, place, brand = interests[active]
        move = rng.random()
        if move < world.step:
            place = (place + 1) % PLACES
        elif move > world.step + world.stay:
            place = rng.integers(PLACES)
        interests[active][1] = place
        behaviours.append((topic, place, brand if rng.random() < world.brand_loyalty else some_brand()))
    return behaviours


def generate(seed: int, world: World | None = None) -> tuple[list[dict], list[dict]]:
    """Generate reviews and items' metadata as raw records, sorted by item."""
    world = world or World()
    rng = np.random.default_rng(seed)
    codes = rng.permutation(10_000)  # ids carry no information on their items
    items = {}
    for topic, (name, categories) in enumerate(TOPICS.items()):
        for place, category in enumerate(categories):
            for brand, maker in enumerate(BRANDS):
                items[topic, place, brand] = {
                    "asin": f"B{codes[len(items)]:04d}SYNTH",
                    "title": f"{maker} {category}",
                    "brand": maker,
                    "categories": [["Synthetic", name, category]],
                }
    reviews = []
    for user in range(world.users):
        day = int(rng.integers(365))
        for behaviour in walk(world, rng):
            reviews.append(
                {
                    "reviewerID": f"A{user:05d}SYNTH",
                    "asin": items[behaviour]["asin"],
                    "overall": float(rng.integers(3, 6)),
                    "unixReviewTime": START + day * DAY,
                }
            )
            if rng.random() > world.same_day:
                day += int(rng.geometric(1 / world.mean_gap_days))
    reviews = [reviews[row] for row in rng.permutation(len(reviews))]
    return sorted(reviews, key=lambda review: review["asin"]), sorted(items.values(), key=lambda item: item["asin"])


def write_lines(path: Path, lines: list[str]) -> None:
    """Write gzip without a time and a name, so that equal lines give equal bytes."""
    with open(path, "wb") as target, gzip.GzipFile(filename="", fileobj=target, mode="wb", mtime=0) as file:
        file.write("".join(line + "\n" for line in lines).encode())


def main(arguments: list[str] | None = None) -> None:
    """Write reviews_Sample_5.json.gz and meta_Sample.json.gz."""
    parser = command_parser("python -m dien_fuxictr.dataset.generate_sample", __doc__)
    parser.add_argument("--seed", type=int, default=2019, help="seed of the random numbers; default %(default)s")
    parser.add_argument(
        "--out", type=Path, default=Path("data", "amazon_sample"), help="folder to write; default %(default)s"
    )
    options = parser.parse_args(arguments)
    try:
        require_output("--out", options.out)
    except UserError as error:
        parser.error(str(error))
    reviews, items = generate(options.seed)
    options.out.mkdir(parents=True, exist_ok=True)
    write_lines(options.out / "reviews_Sample_5.json.gz", [json.dumps(review) for review in reviews])
    write_lines(options.out / "meta_Sample.json.gz", [repr(item) for item in items])


if __name__ == "__main__":
    main()
