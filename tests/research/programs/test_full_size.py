"""The made log, and a table of what the commands on it take, at a small size."""

import gzip
import importlib
import json
import runpy
import sys
from contextlib import redirect_stdout
from pathlib import Path

import polars as pl
import pytest

from benchmarks.report import Row
from dien_fuxictr.common.errors import TrainingError
from dien_fuxictr.dataset.samples.amazon import read_amazon
from research.programs import full_size, raw_clicks, raw_reviews, taobao
from research.programs.full_size import Step, main, measure
from research.programs.raw_clicks import Clicks
from research.programs.raw_reviews import LOGS

SHARE = 0.002
FILES = ("reviews_Books_5.json.gz", "meta_Books.json.gz")


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("raw")
    assert raw_reviews.main([str(folder), "--log", "Books", "--share", str(SHARE)]) == 0
    return folder


@pytest.fixture(scope="module")
def reviews(raw: Path) -> pl.DataFrame:
    return read_amazon(*(raw / name for name in FILES), "2014", verbose=False)


def test_the_log_is_as_large_as_it_is_to_be(reviews: pl.DataFrame) -> None:
    log = LOGS["Books"].share(SHARE)
    assert (log.users, log.items, log.reviews) == (1207, 736, 17_796)
    assert reviews.height == log.reviews
    assert reviews["user_id"].n_unique() == log.users and reviews["item_id"].n_unique() == log.items
    for column in ("user_id", "item_id"):
        sizes = reviews.group_by(column).len()["len"]
        assert sizes.min() >= 5 and sizes.max() > 5 * sizes.median()
    assert 2 <= reviews["cate_id"].n_unique() <= log.categories and "unknown" not in reviews["cate_id"]


def test_the_log_is_like_a_5_core(reviews: pl.DataFrame) -> None:
    """Sorted by item, no pair twice, whole days, several reviews of a user on one."""
    assert reviews["item_id"].is_sorted()
    assert reviews.select("user_id", "item_id").is_unique().all()
    assert (reviews["time"] % 86_400 == 0).all()
    tied = reviews.group_by("user_id", "time").len().filter(pl.col("len") > 1)["len"].sum() / reviews.height
    assert 0.3 < tied < 0.95


def test_the_same_seed_makes_the_same_lines(raw: Path, tmp_path: Path) -> None:
    for seed in ("2019", "7"):
        assert raw_reviews.main([str(tmp_path / seed), "--log", "Books", "--share", str(SHARE), "--seed", seed]) == 0
    for name in FILES:
        made, same, other = (
            gzip.decompress((folder / name).read_bytes()) for folder in (raw, tmp_path / "2019", tmp_path / "7")
        )
        assert same == made != other


def test_lines_are_made_in_chunks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(raw_reviews, "CHUNK", 100)
    assert raw_reviews.main([str(tmp_path), "--share", "0.0005"]) == 0
    for name, count in (("reviews_Electronics_5.json.gz", 845), ("meta_Electronics.json.gz", 250)):
        assert len(set(gzip.decompress((tmp_path / name).read_bytes()).splitlines())) == count


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands run here, which saves their starts, and are not measured."""

    def measure(step: Step, folder: Path) -> Row:
        monkeypatch.chdir(folder)
        _, program, *arguments = step.command
        if program in ("-m", "-c"):
            name, *arguments = arguments
        monkeypatch.setattr(sys, "argv", [program, *arguments])
        if program == "-m":
            with open(f"{step.name}.log", "w") as output, redirect_stdout(output):
                assert importlib.import_module(name).main(arguments) == 0
        elif program == "-c":
            exec(name, {})
        else:
            with pytest.raises(SystemExit) as end:
                runpy.run_path(program, run_name="__main__")
            assert end.value.code == 0
        return {"step": step.title}

    monkeypatch.setattr(full_size, "measure", measure)


@pytest.mark.usefixtures("in_this_process")
def test_the_commands_lead_from_the_log_to_an_epoch(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder, report = tmp_path / "new", tmp_path / "out.json"
    assert main([str(folder), "--log", "Books", "--share", str(SHARE), "--json", str(report)]) == 0
    printed = capsys.readouterr().out
    log = LOGS["Books"].share(SHARE)
    ((title, rows),) = json.loads(report.read_text())["tables"].items()
    assert title.startswith(f"{log.users:,} users, ") and title in printed
    made, last, leave_one_out, encoded, epoch = (row["rows"] for row in rows)
    assert made == log.reviews and last == encoded == 2 * log.users
    assert leave_one_out == 2 * (log.reviews - log.users)
    assert epoch == json.loads((folder / "report" / "result.json").read_text())["train_rows"] < last
    assert main([str(folder), "--share", str(SHARE)]) == 2
    assert f"{folder} exists" in capsys.readouterr().err


@pytest.mark.usefixtures("in_this_process")
def test_a_log_larger_than_memory(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(taobao, "FITS", 2000)
    monkeypatch.setattr(taobao, "STEPS", 2)
    monkeypatch.setattr(taobao, "BATCH_SIZE", 16)
    folder, report = tmp_path / "new", tmp_path / "out.json"
    assert main([str(folder), "--log", "Taobao", "--share", "0.00004", "--json", str(report)]) == 0
    steps, rates = json.loads(report.read_text())["tables"].values()
    assert [row["step"].split(": ") for row in steps] == [
        [loader, what] for loader in ("memory_mapped", "in_memory") for what in ("made log", "build", "2 steps")
    ]
    made, built, trained, *fits = (row["rows"] for row in steps)
    assert made == 4000 and built == 2 * (made - 40) and trained == built - 4 * 40 and fits[0] == 2000
    assert (folder / "data" / "memory_mapped" / "encoded" / "rows_train.bin").is_file()
    assert (folder / "data" / "in_memory" / "encoded" / "train.npz").is_file()
    assert [row["data_loader"] for row in rates] == ["memory_mapped", "in_memory"]
    assert all(row[name] > 0 for row in rates for name in ("loader alone, batches/s", "training, steps/s"))
    assert "training, steps/s" in capsys.readouterr().out


def test_clicks_are_like_those_of_a_shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raw_clicks, "CHUNK", 40_000)
    for folder, seed in (("one", "2019"), ("same", "2019"), ("other", "7")):
        assert raw_clicks.main([str(tmp_path / folder), "--share", "0.001", "--seed", seed]) == 0
    one, same, other = (pl.read_parquet(tmp_path / folder / "*.parquet") for folder in ("one", "same", "other"))
    assert one.equals(same) and not one.equals(other)
    assert len(list((tmp_path / "one").iterdir())) == 3 and one.height == Clicks().share(0.001).behaviours == 100_000
    assert one["user"].n_unique() == 1000 and 3900 < one["item"].n_unique() <= 4000
    assert one.group_by("item").agg(pl.col("category").n_unique())["category"].max() == 1
    popular = one.group_by("item").len()["len"].sort(descending=True)
    tenth = popular[:400].sum() / one.height
    assert tenth == pytest.approx(0.1**0.4, abs=0.02)  # of the n most popular items: (n / all) ** (1 - 0.6)
    assert one["time"].max() - one["time"].min() < 9 * 86_400


def test_a_command_is_measured(tmp_path: Path) -> None:
    """Its own memory, not that of this process, which has torch."""
    code = "held = b'x' * 200_000_000; open('made', 'wb').write(held[:3_000_000]); print('done', flush=True); "
    code += "import time; time.sleep(0.1)"
    small, large = (
        measure(Step("a step", name, [sys.executable, "-c", program]), tmp_path)
        for name, program in (("small", ""), ("large", code))
    )
    assert 0.2 < large["private, GB"] <= large["peak memory, GB"] and small["private, GB"] < 0.05
    assert 0.001 < small["peak memory, GB"] < 0.05 and small["written, GB"] < 0.0001
    assert 0.2 < large["peak memory, GB"] < 0.25
    assert large["written, GB"] == pytest.approx(0.003, abs=0.0001)
    assert large["CPU s"] > 0 and large["s"] > 0
    assert (tmp_path / "large.log").read_text() == "done\n"


def test_a_command_that_fails_ends_it(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import sys; print('what was wrong'); sys.exit(3)"]
    with pytest.raises(TrainingError, match="a step has ended with code 3: what was wrong"):
        measure(Step("a step", "name", command), tmp_path)
