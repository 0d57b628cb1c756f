"""A project's folder with configurations and small raw files of all data sets."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

from dien_fuxictr.dataset import generate_log
from dien_fuxictr.dataset.generate_sample import World, generate, write_lines
from dien_fuxictr.dataset.samples.build_options import BuildOptions
from dien_fuxictr.dataset.samples.build_samples import build_samples

ROOT = Path(__file__).parents[2]
NAMES = {"Sample": "amazon_sample", "Beauty": "raw", "Electronics": "raw", "Books": "raw"}
"""Category -> folder of its raw files."""
_BASE = re.compile(r"^Base:\n(?: {4}.*\n)+", re.MULTILINE)


def make_project(folder: Path, **settings: Any) -> Path:
    """Fill the folder of a project, and return it.

    Args:
        folder: an existing folder.
        settings: added to each `Base`; they replace settings of equal names.
    """
    for name in ("config", "research/rocket_launching"):
        shutil.copytree(ROOT / name, folder / name)
    lines = "".join(f"    {key}: {json.dumps(value)}\n" for key, value in settings.items())
    own = re.compile(rf"^    (?:{'|'.join(settings)}): .*\n" if settings else "$^", re.MULTILINE)
    for file in folder.glob("**/model_config/*.yaml"):
        text = file.read_text(encoding="utf-8")
        file.write_text(_BASE.sub(lambda base: own.sub("", base[0]) + lines, text), encoding="utf-8")
    reviews, items = generate(0, World(users=120, behaviours=(5, 12)))
    for name, place in NAMES.items():
        raw = folder / "data" / place
        raw.mkdir(parents=True, exist_ok=True)
        write_lines(raw / f"reviews_{name}_5.json.gz", [json.dumps(review) for review in reviews])
        write_lines(raw / f"meta_{name}.json.gz", [repr(item) for item in items])
    _write_atomic(reviews, items, folder / "data" / "raw" / "ml-100k")
    (folder / "data" / "industrial_log").mkdir()
    generate_log.generate(0, generate_log.World(users=40)).write_parquet(
        folder / "data" / "industrial_log" / "log.parquet"
    )
    _publish(folder / "data" / "raw", folder / "data" / "AmazonElectronics_x1")
    return folder


def _write_atomic(reviews: list[dict], items: list[dict], folder: Path) -> None:
    """Write the reviews as RecBole's files of MovieLens.

    Four users each become one; their last ten behaviours are for the test.
    """
    folder.mkdir()
    rows = [(int(r["reviewerID"][1:6]) // 4, r["asin"], r["overall"], r["unixReviewTime"]) for r in reviews]
    names = ("user_id:token", "item_id:token", "rating:float", "timestamp:float")
    (folder / "ml-100k.inter").write_text("".join("\t".join(map(str, row)) + "\n" for row in [names, *rows]))
    rows = [(item["asin"], item["title"], " ".join(item["categories"][0])) for item in items]
    names = ("item_id:token", "movie_title:token_seq", "class:token_seq")
    (folder / "ml-100k.item").write_text("".join("\t".join(row) + "\n" for row in [names, *rows]))


def _publish(raw: Path, folder: Path) -> None:
    """CSV files in the form of BARS', whose ids are numbers."""
    files = {"reviews": raw / "reviews_Books_5.json.gz", "meta": raw / "meta_Books.json.gz"}
    options = BuildOptions.of({"source": "amazon", **files, "protocol": "leave_one_out", "format": "csv"})
    build_samples(options, folder, verbose=False)
    for split in ("train", "test"):
        file = folder / f"{split}.csv"
        file.write_text(file.read_text().replace("A00", "100").replace("SYNTH", ""))
