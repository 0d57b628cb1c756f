"""Which loader a data set has whose entry names none."""

import gzip
import logging
from pathlib import Path

import polars as pl
import pytest
from made_data import FEATURE_COLS, entry, prepare_entry

from dien_fuxictr.common.csv_lines import count_lines
from dien_fuxictr.common.errors import UserError
from dien_fuxictr.dataset.loading import prepare
from dien_fuxictr.dataset.loading.entry import DatasetEntry
from dien_fuxictr.dataset.loading.loader import InMemoryDataLoader
from dien_fuxictr.dataset.loading.memory_mapped import MemoryMappedDataLoader
from dien_fuxictr.dataset.samples.parts import parts_of
from dien_fuxictr.dataset.samples.raw_table import has_more_rows

ROWS = 300


@pytest.fixture
def params(tmp_path: Path) -> dict:
    row = pl.int_range(ROWS)
    clicked = (row % 2).alias("clicked")
    log = pl.select(user=row % 30, item=row * 7 % 50, category=row * 7 % 50 % 4, time=1_700_000_000 + row * 60)
    log.with_columns(clicked).write_parquet(tmp_path / "log.parquet")
    columns = {"user": "user", "item": "item", "category": "category", "time": "time"}
    build = {"source": "log", "input": str(tmp_path / "log.parquet"), **columns, "max_len": 6}
    return entry(tmp_path, tmp_path / "root", "parquet", feature_cols=FEATURE_COLS, build=build)


def test_a_log_of_more_rows_is_read_from_files(
    params: dict, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(prepare, "MAPPED_ABOVE", ROWS - 1)
    with caplog.at_level(logging.INFO):
        assert prepare_entry(params)["data_loader"] is MemoryMappedDataLoader
    (line,) = [text for text in caplog.messages if "more than" in text]
    assert line == (
        f"{params['build']['input']} has more than {ROWS - 1} rows; samples are built into memory-mapped files "
        "(data_loader: memory_mapped); data_loader: in_memory in the data set's entry holds them in memory"
    )
    caplog.clear()
    own = {**params, "dataset_id": "own", "data_loader": "in_memory"}
    monkeypatch.setattr(prepare, "MAPPED_ABOVE", ROWS)
    small = {**params, "dataset_id": "small"}
    for given in (own, small):
        assert prepare_entry(given)["data_loader"] is InMemoryDataLoader
    assert prepare.choose_loader(DatasetEntry.of(small), None) == "in_memory"
    assert "more than" not in caplog.text


def test_a_set_that_is_built_keeps_its_loader(params: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    assert prepare_entry(params)["data_loader"] is InMemoryDataLoader
    monkeypatch.setattr(prepare, "MAPPED_ABOVE", ROWS - 1)
    assert prepare_entry(params)["data_loader"] is InMemoryDataLoader
    with pytest.raises(UserError, match=r"\(data_loader: in_memory -> memory_mapped\); --rebuild builds it again"):
        prepare_entry({**params, "data_loader": "memory_mapped"})
    assert prepare_entry(params, rebuild=True)["data_loader"] is MemoryMappedDataLoader
    monkeypatch.setattr(prepare, "MAPPED_ABOVE", ROWS)
    assert prepare_entry(params)["data_loader"] is MemoryMappedDataLoader
    assert prepare_entry(params, rebuild=True)["data_loader"] is InMemoryDataLoader


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            {"build": {"format": "csv"}},
            "data_loader: memory_mapped cannot build with format: csv; data_loader: in_memory can",
        ),
        ({"build": {"max_len": 7}}, "max_len = 6 of column item_history must be 7 or more"),
        ({"bucket_by_length": True}, "bucket_by_length: data_loader: memory_mapped cannot sort rows by length"),
    ],
)
def test_what_cannot_be_built_in_files_is_held_in_memory(
    change: dict, reason: str, params: dict, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(prepare, "MAPPED_ABOVE", ROWS - 1)
    params |= {**change, "build": params["build"] | change.get("build", {})}
    assert prepare.choose_loader(DatasetEntry.of(params), None) == "in_memory"
    assert f"more than {ROWS - 1} rows; all are held in memory: {reason}" in caplog.text
    with pytest.raises(UserError, match=reason.split(";")[0]):
        prepare_entry({**params, "data_loader": "memory_mapped"})


def test_rows_of_parts_are_counted(params: dict, tmp_path: Path) -> None:
    log = pl.read_parquet(tmp_path / "log.parquet")
    folder = tmp_path / "parts"
    folder.mkdir()
    for number in range(2):
        log[150 * number : 150 * number + 150].write_parquet(folder / f"{number}.parquet")
        (folder / f"{number}.csv.gz").write_bytes(gzip.compress(log[150 * number :][:150].write_csv().encode()))
    log.write_csv(tmp_path / "log.csv")
    for path in (tmp_path / "log.parquet", tmp_path / "log.csv", folder, folder / "*.csv.gz"):
        assert [has_more_rows(path, parts_of(path), many) for many in (ROWS - 1, ROWS)] == [True, False]
    (folder / "2.parquet").write_bytes(b"no Parquet")
    with pytest.raises(UserError, match=r"parts cannot be read: "):
        has_more_rows(folder, parts_of(folder), ROWS)


def test_lines_are_counted_until_there_are_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dien_fuxictr.common.csv_lines.BLOCK_BYTES", 10)
    (tmp_path / "lines").write_text("1234\n" * 100)
    assert count_lines(tmp_path / "lines", 1000) == 100 and count_lines(tmp_path / "lines", 5) == 6
