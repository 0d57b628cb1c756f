"""A refused build gives one line and exit code 2, and changes no file."""

import re
import tempfile
from pathlib import Path

import polars as pl
import pytest
from made_raw import random_reviews, review_line, write_lines

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.dataset.samples.build_options import BuildOptions, options_of
from dien_fuxictr.dataset.samples.build_samples import build_samples, published
from dien_fuxictr.dataset.samples.protocols import SPLITS
from dien_fuxictr.dataset.samples.samples import Samples
from dien_fuxictr.experiment.build_dataset import main

WINDOW = ["--protocol", "window"]


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def fails(arguments: list[str], message: str, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Check that the build ends with exit code 2 and the message, changing nothing."""
    before = {path: content(path) if path.is_dir() else path.read_bytes() for path in out.parent.iterdir()}
    capsys.readouterr()
    assert main([*arguments, "--out", str(out)]) == 2
    shown = capsys.readouterr().err
    lines = [line for line in shown.splitlines() if line.startswith(("error", "Traceback"))]
    assert len(lines) == 1 and message in lines[0] and shown.endswith(lines[0] + "\n")
    after = {path: content(path) if path.is_dir() else path.read_bytes() for path in out.parent.iterdir()}
    assert after == before


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--max-len", "0"], "max_len = 0 in the build from source amazon must be a whole number, 1 or more"),
        (["--fold", "1"], "fold in the build from source amazon cannot be combined with protocol leave_one_out"),
        (["--protocol", "last", "--fold", "10"], "fold 10 of 10 folds"),
        (["--protocol", "time", "--valid-from", "soon", "--test-from", "1970-01-20"], "valid_from = 'soon'"),
        (
            ["--protocol", "time", "--valid-from", "5", "--test-from", "5"],
            "valid_from = 5 must be before test_from = 5",
        ),
        (
            ["--protocol", "time", "--valid-from", "1970-01-20", "--test-from", "2014-01-01"],
            "the test split is empty: no row from test_from = 2014-01-01 on is a sample; the log has times from "
            "1970-01-01T00:00:00 to 1970-03-01T00:00:00",
        ),
        (
            ["--protocol", "time", "--valid-from", "2030-01-01", "--test-from", "2030-02-01"],
            "the valid split is empty: no row from valid_from = 2030-01-01 until test_from = 2030-02-01 is a sample; "
            "the log has times from 1970-01-01T00:00:00 to 1970-03-01T00:00:00",
        ),
        (
            ["--protocol", "time", "--valid-from", "1960-01-01", "--test-from", "1970-01-20"],
            "the train split is empty: no row before valid_from = 1960-01-01 is a sample; the log has times from 1970-",
        ),
        (["--protocol", "window", "--target-days", "3", "--valid-days", "2"], "target_days 3 must exceed valid_days 2"),
        (["--min-history", "90"], "the train split is empty: 40 users and"),
        (["--protocol", "last", "--folds", "41"], "the test split is empty: 40 users and"),
        ([*WINDOW, "--target-days", "3", "--history-days", "1"], "the train split is empty: 40 users and"),
        ([*WINDOW, "--history-days", "1"], "the valid split is empty: 40 users and"),
        ([*WINDOW, "--history-days", f"{10**20}"], f"history_days = {10**20} in the build"),
        (["--max-len", f"{10**20}"], f"max_len = {10**20} in the build"),
        (["--seed", f"{10**20}"], f"seed = {10**20} in the build"),
        (["--form", "2023"], "they must have user_id, parent_asin, timestamp"),
    ],
)
def test_wrong_options(
    more: list[str], message: str, raw: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fails([*raw, *more], message, tmp_path / "out", capsys)


@pytest.mark.parametrize("option", [name for name, option in options_of("amazon").items() if option.is_number], ids=str)
def test_the_largest_numbers_make_samples_or_a_line(
    option: str, raw: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known = options_of("amazon")[option]
    given = [f"--{option.replace('_', '-')}", str(2**63 - 1), "--protocol", known.meaning.protocol or "window"]
    if main([*raw, *given, "--min-history", "0", "--out", str(tmp_path / "out")]):
        error = capsys.readouterr().err.splitlines()[-1]
        lines = (
            "the .* split is empty",
            "fold .* of 10 folds",
            "target_days .* must exceed",
            "history_days = .* must be",
        )
        assert re.match(f"error: ({'|'.join(lines)})", error)


@pytest.mark.parametrize("split", SPLITS)
def test_a_split_of_one_label(
    split: str, log_file: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = pl.read_parquet(tmp_path / "log.parquet")
    age = (log["moment"].max() - pl.col("moment")).dt.total_days()
    of_split = {"train": age >= 2, "valid": age == 1, "test": age == 0}[split]
    log.with_columns(clicked=pl.when(of_split).then(0).otherwise("clicked")).write_parquet(tmp_path / "log.parquet")
    arguments = [
        *log_file,
        "--input",
        str(tmp_path / "log.parquet"),
        "--label",
        "clicked",
        *WINDOW,
        "--min-history",
        "0",
    ]
    fails(arguments, f"the {split} split has ", tmp_path / "out", capsys)
    fails(arguments, " samples, all with label 0: AUC needs both", tmp_path / "out", capsys)


def test_broken_raw_files(raw: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, reviews = tmp_path / "out", Path(raw[2])
    whole = reviews.read_bytes()
    fails(
        [*raw[:2], "gone.json.gz", *raw[3:], "--raw-from", "the  web"],
        "raw file gone.json.gz does not exist; to get it: the web",
        out,
        capsys,
    )
    reviews.write_bytes(whole[:-100])
    fails(raw, f"{reviews} is a truncated or damaged gzip file", out, capsys)
    reviews.write_bytes(b"")
    fails(raw, f"{reviews} has no reviews", out, capsys)
    write_lines(reviews, [b'{"asin": "a"}'])
    fails(raw, f"{reviews}: the records have the fields asin; they must have reviewerID", out, capsys)
    lines = [review_line(review, "2014") for review in random_reviews()]
    write_lines(reviews, [*lines[:3], b"{broken", *lines[3:]])
    fails(raw, f"{reviews}: line 4 is broken", out, capsys)
    assert main([*raw, "--skip-bad-lines", "--out", str(out)]) == 0
    shown = capsys.readouterr()
    assert f"warning: {reviews}: left out 1 broken lines\n" in shown.err
    assert "left out" not in shown.out
    assert Samples.load(out).behaviours.height == len(lines)


def test_broken_logs(log_file: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, arguments = tmp_path / "out", [*log_file, "--input", str(tmp_path / "log.csv")]
    fails([*log_file, "--input", "gone.csv"], "raw file gone.csv does not exist", out, capsys)
    fails([*arguments, "--label", "liked"], "has no column 'liked'; it has user_id", out, capsys)
    fails([*arguments, "--request", "shown"], "request needs label", out, capsys)
    fails([*arguments, "--side", "brand,brand"], "side column 'brand': the name is taken", out, capsys)
    fails([*arguments, "--time", "brand"], "row 1 has no usable brand ('b0'): times are numbers, days", out, capsys)
    log = pl.read_csv(tmp_path / "log.csv")
    unusable = pl.when(pl.int_range(pl.len()) == 2).then(pl.lit("soon")).otherwise("moment")
    log.with_columns(moment=unusable).write_csv(tmp_path / "log.csv")
    fails(arguments, "row 3 has no usable moment ('soon'): times are numbers, days such as", out, capsys)
    fails(
        [*arguments, "--time-format", "%d/%m/%Y"],
        "it does not match --time-format %d/%m/%Y; broken rows: ",
        out,
        capsys,
    )
    assert main([*arguments, "--skip-bad-lines", "--out", str(out)]) == 0
    assert Samples.load(out).behaviours.height == log.height - 1


@pytest.mark.parametrize("form", ["csv", "both"])
@pytest.mark.parametrize("column", ["item_id", "cate_id", "brand"])
def test_csv_rejects_a_value_with_the_splitter(
    column: str, form: str, log_file: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = tmp_path / "log.csv", tmp_path / "out"
    log = pl.read_csv(file)
    log.with_columns(
        pl.when(pl.int_range(pl.len()) == 7).then(pl.lit("SKU^0044")).otherwise(column).alias(column)
    ).write_csv(file)
    arguments = [*log_file, "--input", str(file), "--side", "brand", "--side-varies", "brand,cate_id"]
    message = (
        f"a value holds '^', which joins the histories of a CSV file: {column} = 'SKU^0044' in {file}; --format parquet"
    )
    fails([*arguments, "--format", form], message, out, capsys)
    assert main([*arguments, "--out", str(out)]) == 0
    assert "SKU^0044" in Samples.load(out).behaviours[f"{column.removesuffix('_id')}_history"]


def test_csv_keeps_users_with_the_splitter(log_file: list[str], tmp_path: Path) -> None:
    log = pl.read_csv(tmp_path / "log.csv").with_columns(pl.format('{}^,"\n{}', "user_id", "user_id").alias("user_id"))
    log.write_csv(tmp_path / "log.csv")
    out = tmp_path / "out"
    assert main([*log_file, "--input", str(tmp_path / "log.csv"), "--format", "csv", "--out", str(out)]) == 0
    assert set(pl.read_csv(out / "train.csv")["user_id"]) <= set(log["user_id"])


def test_what_stands_is_not_overwritten(raw: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    out.mkdir()
    assert main([*raw, "--out", str(out)]) == 0
    fails(raw, f"{out} already exists and is not empty; --rebuild replaces it", out, capsys)
    Path(raw[2]).write_bytes(b"")
    fails([*raw, "--rebuild"], "has no reviews", out, capsys)
    (out / "notes.txt").write_text("mine")
    fails([*raw, "--rebuild"], f"{out} already exists and has notes.txt, which no build wrote", out, capsys)


@pytest.mark.parametrize("name", ["train.csv", "photo.jpg"])
def test_folders_of_others(name: str, raw: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / name).write_text("mine")
    fails([*raw, "--rebuild"], f"{out} already exists and has {name}, which no build wrote", out, capsys)
    fails([*raw, "--rebuild"], "which no build wrote", out / name, capsys)


@pytest.mark.parametrize("out", [".", "..", "/"])
def test_a_folder_without_a_name(out: str, raw: list[str]) -> None:
    with pytest.raises(UserError, match="cannot be the name of a new folder"):
        build_samples(BuildOptions.of({"source": "amazon", "reviews": raw[2], "meta": raw[4]}), Path(out))


def test_a_folder_below_a_file(raw: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file" / "out", tmp_path / "file" / "deeper" / "out"):
        assert main([*raw, "--out", str(out)]) == 2
        assert capsys.readouterr().err.splitlines()[-1] == f"error: cannot write {out}: Not a directory"
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("rebuild", [[], ["--rebuild"]])
def test_a_folder_that_may_not_be_written_is_named_first(
    rebuild: list[str],
    raw: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before the log is read."""
    out = tmp_path / "out"
    if rebuild:
        assert main([*raw, "--out", str(out)]) == 0

    def refuse(*_: object, **named: object) -> None:
        raise PermissionError(13, "Permission denied", f"{named['dir']}/tmp_0")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    monkeypatch.setattr(
        "dien_fuxictr.dataset.samples.build_samples.read_raw", lambda *_: pytest.fail("the log was read")
    )
    fails([*raw, *rebuild], f"error: cannot write {out}: Permission denied", out, capsys)


def test_an_error_of_the_temporary_folder_names_the_folder(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(PermissionError) as refused, published(out) as folder:
        raise PermissionError(13, "Permission denied", str(folder / "train.parquet"))
    assert refused.value.filename == str(out) and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), pl.exceptions.ComputeError("os error 28"), UserError("no AUC")]
)
@pytest.mark.parametrize("stands", [True, False])
def test_build_is_complete_or_leaves_nothing(
    error: Exception,
    stands: bool,
    raw: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "out"
    if stands:
        assert main([*raw, "--out", str(out)]) == 0

    def save_some(samples: Samples, folder: Path) -> None:
        (folder / "behaviours.parquet").write_bytes(b"half of it")
        raise error

    monkeypatch.setattr(Samples, "save", save_some)
    fails([*raw, "--rebuild"], str(error), out, capsys)
