"""Generate a SYNTHETIC log of a shop's exposures, with evolution as a parameter.

    python -m dien_fuxictr.dataset.generate_log    # writes data/industrial_log/log.parquet; equal for equal seeds
    python -m dien_fuxictr.dataset.generate_log --evolution 0 --exposures 2 --out data/industrial_log/other.parquet
    python -m dien_fuxictr.dataset.generate_log --evolution 0 0.5 1    # one log each: log_evolution_0.5.parquet, ...

No person, product or shop in it is real. The model has the parameters evolution ε, drift δ and noise ν:

- There are 10 topics of 5 categories each, which are arranged on a circle. A user has two topics, k_1 and k_2, and for
  each the place of their last click on its circle, p_1 and p_2. One of the two topics is active, i.
- Before each click, two events may happen independently: with probability δ, one of the topics is replaced by any
  topic; with probability 0.2, the active one is drawn again.
- The category c of the click is drawn from

      P(c | state) = ν / 50 + (1 - ν) [c in k_i] (ε [c = p_i + 1] + (1 - ε) / 5).

  The last click on a topic thus predicts the next category with probability ε; the set of earlier clicks, in which all
  places of a circle are equally frequent in the long run, only tells the topic. A click without noise moves p_i to c.
- Items of a category are drawn by popularity (Zipf, exponent 0.7). For a click, two items are drawn, and the one whose
  price bucket is closer to the user's own is clicked. Shop and brand are properties of the item.
- A request shows the clicked item and one other item, drawn by popularity from the active topic (half of the time) or
  from any topic. With a noise above 0.5, clicks therefore match the user's interests less often than the items that
  were not clicked.
- A user's `clicks` are at random times in 65 days: 14 of history, 49 for training, one for validation, one for the
  test.
- Requests of the last two days are targets (`target` = 1), and so are `exposures` requests per user in the 49 days
  before, chosen at random; a smaller number gives a subset of a larger one. All other clicks only occur in histories.
"""

from dataclasses import dataclass, fields
from itertools import product
from pathlib import Path

import numpy as np
import polars as pl

from dien_fuxictr.common.command_parser import command_parser
from dien_fuxictr.common.errors import UserError
from dien_fuxictr.common.files import write_atomic
from dien_fuxictr.common.outputs import require_output

from .generate_sample import zipf
from .samples.protocols import DAY

TOPICS, PLACES, BUCKETS = 10, 5, 5
CATEGORIES = TOPICS * PLACES
HISTORY_DAYS, TRAIN_DAYS, LAST_DAYS = 14, 49, 2
SWITCH, HARD = 0.2, 0.5
START = 1_704_067_200
"""2024-01-01 in seconds."""


@dataclass(frozen=True)
class World:
    """Sizes and parameters of the module's model."""

    users: int = 2000
    items: int = 1000
    clicks: int = 80
    exposures: int = 80
    evolution: float = 0.8
    drift: float = 0.05
    noise: float = 0.1

    def mistake(self) -> str | None:
        """Return what is wrong with the parameters; None if nothing."""
        for name in ("evolution", "drift", "noise"):
            if not 0 <= getattr(self, name) <= 1:
                return f"{name} = {getattr(self, name)} must be from 0 to 1"
        for name, low in (("users", 1), ("items", 2 * CATEGORIES), ("clicks", 1), ("exposures", 1)):
            if getattr(self, name) < low:
                return f"{name} = {getattr(self, name)} must be {low} or more"
        return None


def walks(world: World, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return category and active topic of each click, (users, clicks) each."""
    everyone = np.arange(world.users)
    topic = rng.integers(TOPICS, size=(world.users, 2))
    place = rng.integers(PLACES, size=(world.users, 2))
    active = rng.integers(2, size=world.users)
    categories, topics = (np.empty((world.users, world.clicks), np.int64) for _ in range(2))
    for click in range(world.clicks):
        dropped = everyone[rng.random(world.users) < world.drift]
        which = rng.integers(2, size=len(dropped))
        topic[dropped, which] = rng.integers(TOPICS, size=len(dropped))
        place[dropped, which] = rng.integers(PLACES, size=len(dropped))
        active = np.where(rng.random(world.users) < SWITCH, rng.integers(2, size=world.users), active)
        steps = rng.random(world.users) < world.evolution
        to = np.where(steps, (place[everyone, active] + 1) % PLACES, rng.integers(PLACES, size=world.users))
        astray = rng.random(world.users) < world.noise
        place[everyone, active] = np.where(astray, place[everyone, active], to)
        topics[:, click] = topic[everyone, active]
        anywhere = rng.integers(CATEGORIES, size=world.users)
        categories[:, click] = np.where(astray, anywhere, topics[:, click] * PLACES + to)
    return categories, topics


def generate(seed: int, world: World | None = None) -> pl.DataFrame:
    """Generate the log, sorted by user and time.

    Returns:
        Two rows per request: user, item, category, shop, brand (String), price (String, a bucket from 0), time (Int64,
        seconds), click (Int8), request (Int64), target (Int8).
    """
    world = world or World()
    rng = np.random.default_rng(seed)
    size = (world.users, world.clicks)
    price, shop, brand = (rng.integers(many, size=world.items) for many in (BUCKETS, 50, 100))
    category, topic = walks(world, rng)
    other = np.where(
        rng.random(size) < HARD, topic * PLACES + rng.integers(PLACES, size=size), rng.integers(CATEGORIES, size=size)
    )
    shares = zipf(world.items // CATEGORIES, 0.7)

    def item_of(categories: np.ndarray) -> np.ndarray:
        """Draw an item of each category by popularity; item j has category j mod 50."""
        return categories + CATEGORIES * rng.choice(len(shares), size=size, p=shares)

    first, second, shown = item_of(category), item_of(category), item_of(other)
    own = rng.integers(BUCKETS, size=(world.users, 1))
    clicked = np.where(abs(price[first] - own) <= abs(price[second] - own), first, second)
    shown = np.where(shown == clicked, (shown + CATEGORIES) % (CATEGORIES * len(shares)), shown)
    days = HISTORY_DAYS + TRAIN_DAYS + LAST_DAYS
    time = np.sort(rng.integers(days * DAY, size=size), axis=1)
    day = time // DAY
    trained = (day >= HISTORY_DAYS) & (day < days - LAST_DAYS)
    chance = np.where(trained, rng.random(size), 2)
    chosen = trained & (chance.argsort(axis=1).argsort(axis=1) < world.exposures)
    item = np.stack([clicked, shown], axis=-1).ravel()
    users = np.repeat(np.arange(world.users), 2 * world.clicks)
    return pl.DataFrame(
        {
            "user": pl.Series(users).cast(pl.String).str.zfill(len(str(world.users - 1))),
            "item": pl.Series(item).cast(pl.String),
            "category": pl.Series(item % CATEGORIES).cast(pl.String),
            "shop": pl.Series(shop[item]).cast(pl.String),
            "brand": pl.Series(brand[item]).cast(pl.String),
            "price": pl.Series(price[item]).cast(pl.String),
            "time": START + np.repeat(time.ravel(), 2),
            "click": np.tile(np.array([1, 0], np.int8), time.size),
            "request": np.repeat(np.arange(time.size), 2),
            "target": np.repeat((chosen | (day >= days - LAST_DAYS)).ravel(), 2).astype(np.int8),
        }
    )


def main(arguments: list[str] | None = None) -> None:
    """Write the log as Parquet."""
    parser = command_parser("python -m dien_fuxictr.dataset.generate_log", __doc__)
    for field in fields(World):
        kind, default = int if isinstance(field.default, int) else float, field.default
        parser.add_argument(
            f"--{field.name}", type=kind, nargs="+", metavar="X", default=[default], help=f"default {default}"
        )
    parser.add_argument("--seed", type=int, default=2019, help="seed of the random numbers; default %(default)s")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("data", "industrial_log", "log.parquet"),
        help="file to write; default %(default)s",
    )
    options = vars(parser.parse_args(arguments))
    names, out = [field.name for field in fields(World)], options["out"]
    worlds = [World(*values) for values in product(*(options[name] for name in names))]
    for world in worlds:
        if mistake := world.mistake():
            parser.error(mistake)
    varied = [name for name in names if len(options[name]) > 1]
    files = [
        out.with_stem(out.stem + "".join(f"_{name}_{getattr(world, name):g}" for name in varied)) for world in worlds
    ]
    try:
        for file in files:
            require_output("--out", file)
    except UserError as error:
        parser.error(str(error))
    for world, file in zip(worlds, files, strict=True):
        write_atomic(file, generate(options["seed"], world).write_parquet)


if __name__ == "__main__":
    main()
