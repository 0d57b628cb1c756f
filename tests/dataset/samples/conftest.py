from datetime import date
from pathlib import Path

import polars as pl
import pytest
from made_raw import as_log, random_reviews, write_raw


@pytest.fixture
def raw(tmp_path: Path) -> list[str]:
    """Arguments that name raw files."""
    reviews = random_reviews()
    files = write_raw(tmp_path, reviews, {item: ["all", f"c{int(item[1:]) % 4}"] for _, item, _ in reviews})
    return ["amazon", "--reviews", str(files[0]), "--meta", str(files[1])]


@pytest.fixture
def log_file(tmp_path: Path) -> list[str]:
    """Arguments that name a log of exposures."""
    log = as_log(random_reviews(users=60)).with_columns(
        brand=pl.format("b{}", pl.int_range(pl.len()) % 5),
        clicked=pl.int_range(pl.len()) % 2,
        shown=pl.format("r{}", pl.col("time")),
        moment=pl.from_epoch("time") + (date(2014, 1, 1) - date(1970, 1, 1)),
    )
    log.write_csv(tmp_path / "log.csv")
    log.write_parquet(tmp_path / "log.parquet")
    return ["log", "--user", "user_id", "--item", "item_id", "--category", "cate_id", "--time", "moment"]
