import csv
import json
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from made_raw import as_log, random_reviews

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.dataset.encoding.reading import SplitReader
from dien_fuxictr.dataset.samples.build_options import BuildOptions
from dien_fuxictr.dataset.samples.protocols import SPLITS
from dien_fuxictr.dataset.samples.samples import Samples, latest_kept, save_info
from dien_fuxictr.dataset.samples.sampling import make_samples

TOKENS = ["session_history", "day_history"]
LEADING = ["label", "user_id", "item_id", "cate_id", "item_history", "cate_history"]
OPTIONS = BuildOptions.of({"source": "amazon", "reviews": "r", "meta": "m", "max_len": 5})


@pytest.fixture(scope="module")
def samples() -> Samples:
    return make_samples(as_log(random_reviews()), OPTIONS)


def csv_rows(samples: Samples, split: str) -> list[dict[str, str]]:
    """Return the rows of a CSV file, each history extracted separately."""
    behaviours = samples.behaviours.to_dicts()
    names = [name for name in samples.behaviours.columns if name.endswith("_history")]
    rows = []
    for row in samples.splits[split].to_dicts():
        start = row.pop("history_start")
        history = behaviours[start : start + row.pop("history_length")]
        joined = {name: "^".join(behaviour[name] for behaviour in history) for name in names}
        rows.append({name: str(value) for name, value in (row | joined).items()})
    return rows


def read(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    with open(path, newline="") as file:
        reader = csv.DictReader(file)
        return list(reader.fieldnames or []), list(reader)


def test_csv_has_the_form_of_amazonelectronics_x1(samples: Samples, tmp_path: Path) -> None:
    samples.save_csv(tmp_path, verbose=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(f"{split}.csv" for split in SPLITS)
    for split in SPLITS:
        header, rows = read(tmp_path / f"{split}.csv")
        assert header == LEADING + TOKENS
        assert rows == csv_rows(samples, split)
    assert max(row["item_history"].count("^") for row in rows) == 4


def test_csv_is_written_in_parts(samples: Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "whole").mkdir()
    samples.save_csv(tmp_path / "whole", verbose=False)
    monkeypatch.setattr("dien_fuxictr.dataset.samples.samples.CSV_ROWS", 7)
    samples.save_csv(tmp_path)
    for split in SPLITS:
        assert (tmp_path / f"{split}.csv").read_bytes() == (tmp_path / "whole" / f"{split}.csv").read_bytes()


def test_side_columns_negatives_and_empty_histories_in_csv(tmp_path: Path) -> None:
    log = as_log(random_reviews()).with_columns(
        colour=pl.format('quoted, "{}"', pl.int_range(pl.len()) % 7),
        label=(pl.int_range(pl.len()) % 3 > 0).cast(pl.Int8),
    )
    samples = make_samples(log, replace(OPTIONS, min_history=0))
    samples.save_csv(tmp_path, verbose=False)
    for split in SPLITS:
        header, rows = read(tmp_path / f"{split}.csv")
        assert header == [
            *LEADING,
            "colour",
            "colour_history",
            "neg_item_history",
            "neg_cate_history",
            "neg_colour_history",
            *TOKENS,
        ]
        assert rows == csv_rows(samples, split)
    _, rows = read(tmp_path / "train.csv")
    assert any(row["item_history"] == "" for row in rows)


@pytest.mark.parametrize("max_len", [3, 5])
def test_csv_and_parquet_are_read_equally(max_len: int, tmp_path: Path) -> None:
    samples = make_samples(as_log(random_reviews()), replace(OPTIONS, max_len=max_len))
    samples.save(tmp_path)
    samples.save_csv(tmp_path, verbose=False)
    columns = [{"name": name, "type": "categorical", "dtype": "str"} for name in ("user_id", "item_id", "cate_id")]
    columns += [{"name": name, "type": "sequence", "dtype": "str"} for name in ("item_history", "cate_history")]
    reader = SplitReader(columns, [{"name": "label", "dtype": "float"}])
    for split in SPLITS:
        stored, text = (reader.read(tmp_path / f"{split}.{form}", form) for form in ("parquet", "csv"))
        assert stored.frame.equals(text.frame)
        for name in ("item_history", "cate_history"):
            spelled = [
                [
                    history.tokens.words[int(code)]
                    for code in history.tokens.codes[history.start[row] : history.start[row] + history.length[row]]
                ]
                for history in (stored.histories[name], text.histories[name])
                for row in range(len(stored))
            ]
            assert spelled[: len(stored)] == spelled[len(stored) :]


def test_each_behaviour_is_stored_once_and_comes_back(samples: Samples, tmp_path: Path) -> None:
    samples.save(tmp_path)
    save_info(samples.info, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "behaviours.parquet",
        "samples.json",
        "test.parquet",
        "train.parquet",
        "valid.parquet",
    ]
    loaded = Samples.load(tmp_path)
    assert loaded.behaviours.equals(samples.behaviours) and loaded.behaviours.height == len(random_reviews())
    assert all(loaded.splits[split].equals(samples.splits[split]) for split in SPLITS)
    assert loaded.info == json.loads((tmp_path / "samples.json").read_text()) == samples.info
    assert loaded.history_columns == ["item_history", "cate_history", *TOKENS]


@pytest.mark.parametrize("missing", ["behaviours.parquet", "valid.parquet"])
def test_no_folder_of_samples(missing: str, samples: Samples, tmp_path: Path) -> None:
    samples.save(tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(UserError, match=rf"is not a folder of samples: {missing} is missing"):
        Samples.load(tmp_path)


def test_what_a_build_kept_of_a_history(tmp_path: Path) -> None:
    assert latest_kept(tmp_path) is None
    save_info({"options": replace(OPTIONS, max_len=7).stated()}, tmp_path)
    assert latest_kept(tmp_path) == 7
    for content in ("{", "{}", "[]"):
        (tmp_path / "samples.json").write_text(content)
        with pytest.raises(UserError, match=r"samples\.json was not written by a build"):
            latest_kept(tmp_path)
