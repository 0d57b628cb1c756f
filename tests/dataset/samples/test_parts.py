"""A log in several files is the log of their rows, one file after the other."""

import gzip
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from made_data import FEATURE_COLS, entry, prepare_entry
from made_raw import as_log, random_reviews

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.dataset.apply import with_log
from dien_fuxictr.dataset.samples.behaviour_log import read_log
from dien_fuxictr.experiment.build_dataset import main

COLUMNS = {"user": "user_id", "item": "item_id", "category": "cate_id", "time": "time"}
OPTIONS = [text for name, column in COLUMNS.items() for text in (f"--{name}", column)]
LOG = as_log(random_reviews()).with_columns(time=pl.col("time") + 1_704_067_200)


def put(frame: pl.DataFrame, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        frame.write_parquet(path)
    else:
        path.write_bytes(gzip.compress(frame.write_csv().encode()))


def in_folder(root: Path) -> pl.DataFrame:
    """Beside the parts there is what others write there."""
    for number, part in enumerate(LOG.iter_slices(100)):
        put(part.select(sorted(part.columns)), root / f"deeper/part-{number}.parquet")
    for name in ("_temporary/part-0.parquet", ".part-0.parquet"):
        put(LOG[:3].with_columns(user_id=pl.lit(name)), root / name)
    (root / "_SUCCESS").touch()
    return LOG


def by_category(root: Path) -> pl.DataFrame:
    """Write one column into names of folders, in a form that they can have."""
    parts = []
    names = {"c/1": "c%2F1", "c2": "c2", None: "__HIVE_DEFAULT_PARTITION__"}
    for (value, name), part in zip(names.items(), LOG.iter_slices(LOG.height // 3 + 1), strict=True):
        put(part.drop("cate_id"), root / f"year=2024/cate_id={name}/part-0.parquet")
        parts.append((name, part.with_columns(cate_id=pl.lit(value, pl.String))))
    return pl.concat(part for _, part in sorted(parts, key=lambda each: each[0]))


def as_csv(root: Path) -> pl.DataFrame:
    for number, part in enumerate(LOG.iter_slices(100)):
        put(part, root / f"day=[{number}]/log.csv.gz")
    return LOG


@pytest.mark.parametrize(
    ("write", "pattern"),
    [(in_folder, ""), (in_folder, "deeper/part-?.parquet"), (by_category, ""), (as_csv, "**/*.csv.gz")],
)
def test_the_samples_are_those_of_one_file(write: Callable[[Path], pl.DataFrame], pattern: str, tmp_path: Path) -> None:
    write(tmp_path / "parts").write_parquet(tmp_path / "whole.parquet")
    inputs = {"one": tmp_path / "whole.parquet", "other": tmp_path / "parts" / pattern}
    for name, path in inputs.items():
        assert main(["log", "--input", str(path), *OPTIONS, "--out", str(tmp_path / name)]) == 0
    for file in ("behaviours", "train", "valid", "test"):
        one, other = ((tmp_path / name / f"{file}.parquet").read_bytes() for name in inputs)
        assert one == other


def test_properties_of_items_in_parts(tmp_path: Path) -> None:
    put(LOG.drop("cate_id"), tmp_path / "log.parquet")
    items = LOG.select("item_id", "cate_id").unique("item_id", maintain_order=True)
    for number, part in enumerate(items.iter_slices(7)):
        put(part, tmp_path / f"items/part-{number}.parquet")
    assert read_log(tmp_path / "log.parquet", **COLUMNS, items=tmp_path / "items").equals(read(LOG, tmp_path))


def read(frame: pl.DataFrame, folder: Path) -> pl.DataFrame:
    put(frame, folder / "whole.parquet")
    return read_log(folder / "whole.parquet", **COLUMNS)


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (LOG.drop("cate_id"), "its parts differ in their columns: a.parquet has 'cate_id', b.parquet does not"),
        (LOG.with_columns(x=1), "its parts differ in their columns: b.parquet has 'x', a.parquet does not"),
        (
            LOG.with_columns(pl.col("time").cast(pl.Float64)),
            "its parts differ in their columns: 'time' is Int64 in a.parquet and Float64 in b.parquet",
        ),
    ],
)
def test_parts_that_differ(
    second: pl.DataFrame, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(LOG, tmp_path / "parts/a.parquet")
    put(second, tmp_path / "parts/b.parquet")
    assert main(["log", "--input", str(tmp_path / "parts"), *OPTIONS, "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == f"error: {tmp_path / 'parts'}: {message}"
    assert not (tmp_path / "out").exists()


def test_nothing_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(LOG, tmp_path / "parts/log.csv.gz")

    def last_line(path: Path, *more: str) -> str:
        assert main(["log", "--input", str(path), *OPTIONS, *more, "--out", str(tmp_path / "out")]) == 2
        return capsys.readouterr().err.splitlines()[-1]

    pattern = tmp_path / "parts" / "*.parquet"
    assert last_line(pattern, "--raw-from", "the web") == f"error: no file matches {pattern}; to get it: the web"
    assert last_line(tmp_path / "parts") == f"error: folder {tmp_path / 'parts'} has no .parquet file"
    arguments = ["amazon", "--reviews", str(tmp_path / "parts"), "--meta", "x", "--out", str(tmp_path / "out")]
    assert main(arguments) == 2
    assert "parts" in capsys.readouterr().err.splitlines()[-1]


def test_a_broken_part_is_named(tmp_path: Path) -> None:
    put(LOG, tmp_path / "a.csv.gz")
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(b"user_id,item_id,cate_id,time\nu,i,c\n"))
    with pytest.raises(UserError, match=r"b\.csv\.gz: line 2 has 3 fields where the header has 4"):
        read_log(tmp_path / "*.csv.gz", **COLUMNS)
    log = read_log(tmp_path / "*.csv.gz", **COLUMNS, skip_bad_lines=True)
    assert log.equals(read(LOG, tmp_path))


def test_a_data_set_of_parts_knows_them(tmp_path: Path) -> None:
    """Detect a new part as a change; ignore a missing folder, like a missing file."""
    parts = tmp_path / "parts"
    in_folder(parts)
    build = {"source": "log", "input": str(parts), **COLUMNS, "max_len": 6}
    params = entry(tmp_path, tmp_path / "root", "parquet", feature_cols=FEATURE_COLS, build=build)
    prepared = prepare_entry(params)
    assert with_log(params, parts)["build"]["input"] == str(parts)
    put(LOG[:3], parts / "day=5/new.parquet")
    with pytest.raises(UserError, match=r"build file 1, day=5/new\.parquet: .* is new\); --rebuild"):
        prepare_entry(params)
    parts.rename(tmp_path / "gone")
    assert prepare_entry(params) == prepared
    moved = {**build, "input": str(tmp_path / "gone" / "deeper")}
    with pytest.raises(UserError, match="is new"):
        prepare_entry({**params, "build": moved})
