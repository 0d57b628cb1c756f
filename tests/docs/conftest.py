"""A project in which the pages are tried, with small data of every form.

Its config/ has what the pages add to it.
"""

import shutil
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from made_project import make_project
from made_raw import as_log, random_reviews
from pages import ROOT, blocks, config_blocks


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_project(tmp_path_factory.mktemp("docs"), epochs=1)
    for file, block in config_blocks():
        with open(folder / file, "a", encoding="utf-8") as config:
            config.write(f"\n{block.text}\n")
    for name in ("reviews_Beauty_5.json.gz", "meta_Beauty.json.gz"):
        shutil.copy(folder / "data" / "raw" / name, folder)
    for split in ("train", "test"):
        shutil.copy(folder / "data" / "AmazonElectronics_x1" / f"{split}.csv", folder)
    start = int(datetime(2024, 2, 10, tzinfo=timezone.utc).timestamp())
    # Each user has a favourite category, so that a model can learn something.
    reviews = {
        (user, f"i{int(item[1:]) // 4 * 4 + int(user[1:]) % 4:02d}", time)
        for user, item, time in random_reviews(120, 400, days=33)
    }
    log = as_log(sorted(reviews, key=lambda review: (review[1], review[0], review[2]))).select(
        uid="user_id",
        iid="item_id",
        cid="cate_id",
        ts=pl.col("time") + start,
        brand=pl.col("item_id").str.slice(0, 2),
        price=pl.col("item_id").hash(1) % 50 / 10,
        genres=pl.col("item_id").str.slice(0, 2) + "|" + pl.col("cate_id"),
        device=pl.when(pl.int_range(pl.len()) % 2 == 0).then(pl.lit("phone")).otherwise(pl.lit("desk")),
        age=pl.col("user_id").hash(3) % 60 + 18,
        languages=pl.concat_str("user_id", pl.lit("|en")),
    )
    log.write_parquet(folder / "clicks.parquet")
    np.savez(folder / "vectors.npz", key=["i00", "i01"], value=[[0.1, 0.2], [0.3, 0.4]])
    rows = next(block for block in blocks(ROOT / "docs" / "guides" / "data.md") if block.text.startswith("user_id,"))
    (folder / "candidates.csv").write_text(rows.text)
    return folder


@pytest.fixture
def project(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to a copy of the project; return its folder."""
    folder = shutil.copytree(made, tmp_path / "project")
    monkeypatch.chdir(folder)
    return folder
