"""Raw files -> a folder of samples, by the command line."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from made_raw import random_reviews, review_line, write_lines

from dien_fuxictr.dataset.samples.leak_audit import audit, table
from dien_fuxictr.dataset.samples.samples import Samples
from dien_fuxictr.experiment.build_dataset import main

PARQUET = ["behaviours.parquet", "samples.json", "test.parquet", "train.parquet", "valid.parquet"]
CSV = ["test.csv", "train.csv", "valid.csv"]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("form", "files"),
    [("parquet", PARQUET), ("csv", sorted([*CSV, "samples.json"])), ("both", sorted([*CSV, *PARQUET]))],
)
def test_forms_of_samples(form: str, files: list[str], raw: list[str], tmp_path: Path) -> None:
    out = tmp_path / "new" / "built"
    assert main([*raw, "--format", form, "--max-len", "3", "--out", str(out)]) == 0
    assert names(out) == files and names(out.parent) == ["built"]
    info = json.loads((out / "samples.json").read_text())
    assert info["options"]["max_len"] == 3 and info["options"]["format"] == form
    assert info["counts"]["users"] == 40 and info["counts"]["behaviours"] == len(random_reviews())
    assert info["audit"]["trivial"]["training popularity"] == 0.5


def test_equal_commands_give_equal_files(raw: list[str], tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        assert main([*raw, "--format", "both", "--out", str(folder)]) == 0
    assert names(one) == names(other)
    assert all((one / name).read_bytes() == (other / name).read_bytes() for name in names(one))


@pytest.mark.parametrize(
    "protocol",
    [
        ["--protocol", "last", "--folds", "4", "--fold", "3"],
        ["--protocol", "leave_one_out", "--negatives", "uniform"],
        ["--protocol", "time", "--valid-from", "1970-02-05", "--test-from", "1970-02-15", "--exclude-history"],
        ["--protocol", "window", "--target-days", "30", "--valid-days", "5", "--test-days", "5"],
    ],
)
def test_protocols(protocol: list[str], raw: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*raw, *protocol, "--out", str(tmp_path / "out"), "--verbose"]) == 0
    samples = Samples.load(tmp_path / "out")
    assert samples.info["options"]["protocol"] == protocol[1]
    assert table(audit(samples)) in capsys.readouterr().err
    assert samples.info["audit"] == audit(samples)


@pytest.mark.parametrize("name", ["log.csv", "log.parquet"])
def test_a_log_of_exposures(name: str, log_file: list[str], tmp_path: Path) -> None:
    arguments = [
        *log_file,
        "--input",
        str(tmp_path / name),
        "--label",
        "clicked",
        "--request",
        "shown",
        "--side",
        "brand",
        "--protocol",
        "time",
        "--valid-from",
        "2014-01-25",
        "--test-from",
        "2014-02-05",
    ]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 0
    samples = Samples.load(tmp_path / "out")
    assert samples.history_columns == [
        "item_history",
        "cate_history",
        "brand_history",
        "neg_item_history",
        "neg_cate_history",
        "neg_brand_history",
        "session_history",
        "day_history",
    ]
    assert samples.splits["test"].columns == [
        "label",
        "user_id",
        "item_id",
        "cate_id",
        "brand",
        "history_start",
        "history_length",
    ]


def test_a_leak_is_warned_of(raw: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    reviews = [(f"u{user}", f"i{item}", 0) for user in range(300) for item in rng.choice(90, 5, replace=False) + 10]
    write_lines(Path(raw[2]), [review_line(review, "2014") for review in sorted(reviews, key=lambda each: each[1])])
    assert main([*raw, "--ties", "file", "--out", str(tmp_path / "out")]) == 0
    warnings = json.loads((tmp_path / "out" / "samples.json").read_text())["audit"]["warnings"]
    shown = capsys.readouterr()
    assert warnings and all(f"warning: {warning}\n" in shown.err for warning in warnings)
    assert re.search(rf"^audit +{len(warnings)} leaks?, see the warnings; best rule ", shown.out, re.MULTILINE)


def test_rebuild(raw: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main([*raw, "--format", "both", "--out", str(out)]) == 0
    assert main([*raw, "--seed", "1", "--rebuild", "--out", str(out)]) == 0
    assert names(out) == PARQUET and Samples.load(out).info["options"]["seed"] == 1
    assert not [name for name in names(tmp_path) if name.startswith(".")]
