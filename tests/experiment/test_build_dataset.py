"""Command line of builds and of new rows: help, refusals, output."""

import json
import re
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
import yaml
from made_data import FEATURE_COLS
from made_raw import random_reviews, write_raw
from made_workspace import Workspace

from dien_fuxictr.dataset.samples.build_options import options_of
from dien_fuxictr.experiment.build_dataset import main

ROOT = Path(__file__).parents[2]

OTHERS = "out", "entry", "config", "rebuild", "verbose", "help"
NAMED = ["amazon", "--reviews", "r", "--meta", "m", "--out", "x"]


def test_help_lists_every_option_and_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    flags = {
        source: {f"--{name.replace('_', '-')}" for name in (*options_of(source), *OTHERS)}
        for source in ("amazon", "log")
    }
    for source, own in flags.items():
        with pytest.raises(SystemExit) as caught:
            main([source, "--help"])
        shown = capsys.readouterr().out
        assert caught.value.code == 0 and own <= set(re.findall(r"--\w[\w-]*", shown))
        assert all(f"\n  {name} " in shown for name in ("last", "leave_one_out", "time", "window"))
    with pytest.raises(SystemExit):
        main(["apply", "--help"])
    apply = {"--log", "--rows", "--dataset", "--out", "--config", "--verbose", "--help"}
    assert set(re.findall(r"--\w[\w-]*", capsys.readouterr().out)) == apply | {"--predict"}
    with pytest.raises(SystemExit):
        main(["--help"])
    known = flags["amazon"] | flags["log"] | apply | {"--predict", "--version"}
    assert set(re.findall(r"--\w[\w-]*", capsys.readouterr().out)) <= known


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: source"),
        (["csv"], "argument source: invalid choice: 'csv'"),
        (["amazon"], "the following arguments are required: --reviews, --meta"),
        (NAMED[:5], "one of the arguments --out --entry is required"),
        ([*NAMED, "--entry", "y"], "argument --entry: not allowed with argument --out"),
        (["log", "--out", "x"], "the following arguments are required: --input, --user, --item, --time"),
        ([*NAMED, "--ties", "stable"], "argument --ties: invalid choice: 'stable'"),
        ([*NAMED, "--seed", "one"], "argument --seed: invalid int value: 'one'"),
        ([*NAMED, "--see", "1"], "unrecognized arguments: --see 1"),
    ],
)
def test_wrong_command_lines(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2 and f"error: {message}" in capsys.readouterr().err


def run(script: str, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, ROOT / script, *arguments], capture_output=True, text=True)


def test_a_build_prints_head_table_files_and_next_commands(tmp_path: Path) -> None:
    reviews = [*random_reviews(), *random_reviews()[:3]]
    files = write_raw(tmp_path, reviews, {item: ["all", "c"] for _, item, _ in reviews})
    out = tmp_path / "out"
    command = ["amazon", "--reviews", str(files[0]), "--meta", str(files[1]), "--out", str(out)]
    built = run("build_dataset.py", *command)
    assert built.returncode == 0 and "INFO" not in built.stdout + built.stderr
    head, settings, *lines = built.stderr.splitlines()
    assert head == f"{out}: samples of {files[0]} and {files[1]}"
    assert settings == "  settings  max_len=100 (all others: defaults)"
    assert len(lines) < 6 and re.search(r"^    \d+ reviews in ", built.stderr, re.MULTILINE)
    counts = json.loads((out / "samples.json").read_text())["counts"]
    for split, name in (("train", "training"), ("valid", "validation"), ("test", "test")):
        of = counts[split]
        assert re.search(rf"^{name} +{of['rows']} +{of['positives']} ", built.stdout, re.MULTILINE)
    assert "\nDropped 3 repeated reviews (same user, item and time)\n" in built.stdout
    assert built.stdout.endswith(f"\nsamples     {out}\n\nNext:\n  python audit_dataset.py {out}\n")
    audited = run("audit_dataset.py", str(out))
    shown = run("build_dataset.py", *command, "--rebuild", "--verbose")
    assert audited.returncode == 0 and audited.stdout in shown.stderr and shown.stdout == built.stdout
    again = run("build_dataset.py", *command)
    refusal = f"error: {out} already exists and is not empty; --rebuild replaces it\n"
    assert again.returncode == 2 and again.stderr.endswith(refusal)


@pytest.fixture
def reviewed(workspace: Workspace) -> Workspace:
    """Return a workspace whose data set is built from reviews in the form of 2023.

    Each user's reviews are on different days.
    """
    days = {}
    for user, item, _ in random_reviews():
        days.setdefault(user, []).append(item)
    start = 1_650_000_000
    reviews = [(user, item, start + day * 86_400) for user, items in days.items() for day, item in enumerate(items)]
    (workspace.folder / "raw").mkdir()
    categories: dict[str, list[str] | None] = {item: ["all", f"c{item[-1]}"] for _, item, _ in reviews}
    reviews_file, meta_file = write_raw(workspace.folder / "raw", reviews, categories, "2023")
    build = {"source": "amazon", "max_len": 4, "reviews": f"raw/{reviews_file.name}", "meta": f"raw/{meta_file.name}"}
    dataset = {"data_root": "./built/", "data_format": "parquet", "feature_cols": FEATURE_COLS, "build": build}
    model = {
        "model": "DIEN",
        "group_id": "user_id",
        "dnn_hidden_units": [4],
        "dien_target_field": [("item_id", "cate_id")],
        "dien_sequence_field": [("item_history", "cate_history")],
        "epochs": 1,
    }
    workspace.write_configs({"X": model}, dataset | {"label_col": {"name": "label", "dtype": "float"}})
    return workspace


def test_scores_of_applied_rows_are_those_of_the_test_split(
    reviewed: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert reviewed.run(expid="X") == 0
    samples = reviewed.folder / "built" / "tiny" / "samples"
    test, behaviours = pl.read_parquet(samples / "test.parquet"), pl.read_parquet(samples / "behaviours.parquet")
    time = behaviours["time"].gather(test["history_start"] + test["history_length"])
    test.select("user_id", "item_id", time=time).write_csv("candidates.csv")
    (log,) = (reviewed.folder / "raw").glob("reviews*")
    command = ["apply", "--rows", "candidates.csv", "--dataset", "tiny", "--log", str(log)]
    assert main([*command, "--config", "config", "--out", "rows.parquet"]) == 0
    assert reviewed.run("--predict", "rows.parquet", "--out", "ours.csv", expid="X") == 0
    assert reviewed.run("--predict", str(samples / "test.parquet"), "--out", "theirs.csv", expid="X") == 0
    assert Path("ours.csv").read_bytes() == Path("theirs.csv").read_bytes()
    assert pl.read_csv("ours.csv").height == test.height and test["history_length"].max() == 4
    # The meta file of the entry is found next to the configuration, from any working directory.
    (reviewed.folder / "elsewhere").mkdir()
    monkeypatch.chdir(reviewed.folder / "elsewhere")
    away = ["apply", "--rows", "../candidates.csv", "--dataset", "tiny", "--log", str(log), "--config", "../config"]
    assert main([*away, "--out", "rows.csv.gz"]) == 0
    assert pl.read_csv("rows.csv.gz", infer_schema=False).equals(
        pl.read_parquet("../rows.parquet").with_columns(pl.col(pl.List(pl.String)).list.join("^")), null_equal=True
    )
    own_log = [word for word in away if word not in ("--log", str(log))]
    assert main([*own_log, "--out", "of_own_log.csv"]) == 0
    assert pl.read_csv("of_own_log.csv", infer_schema=False).equals(pl.read_csv("rows.csv.gz", infer_schema=False))
    capsys.readouterr()
    assert main([*away, "--out", "rows.csv.gz"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == "error: --out rows.csv.gz already exists; name a new file"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (["--dataset", "tny"], "dataset_id 'tny' is not in config; nearest: tiny"),
        (["--dataset", "../x"], "dataset_id '../x' must be a name"),
        (["--config", "none"], "--config none does not exist"),
        (["--config", "config/model_config.yaml"], "--config config/model_config.yaml is a file; it must be a folder"),
        (["--log", "none"], "--log none does not exist"),
        (["--out", "raw"], "--out raw already exists; name a new file"),
        (["--out", "model_zoo/Tiny/src/Tiny.py/x.csv"], "cannot write model_zoo/Tiny/src/Tiny.py/x.csv: "),
        (["--out", "config/x.csv"], "--out config/x.csv lies in --config = config"),
        (["--out", "nowhere.csv"], "--out nowhere.csv is a link to none.csv, which does not exist"),
    ],
)
def test_what_apply_refuses(
    changed: list[str], message: str, reviewed: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    (log,) = (reviewed.folder / "raw").glob("reviews*")
    (reviewed.folder / "nowhere.csv").symlink_to("none.csv")
    given = {"--rows": "rows.csv", "--dataset": "tiny", "--log": str(log), "--config": "config", "--out": "out.csv"}
    given |= dict([changed])
    assert main(["apply", *(word for pair in given.items() for word in pair)]) == 2
    error = capsys.readouterr().err
    assert error.splitlines()[-1].startswith(f"error: {message}") and error.count("error: ") == 1


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("feature_cols", "item_id", "feature_cols = 'item_id' in config/dataset_config.yaml [tiny] must be a list"),
        ("feature_cols", [{"name": "item_id"}], "type is missing in 'item_id' of feature_cols in config/"),
        ("label_col", None, "label_col is missing in "),
        ("build", None, "build is missing in data set tiny"),
        ("build", {"source": "amazon", "reviews": "none"}, "meta is missing in the build from source amazon"),
    ],
)
def test_entries_that_apply_refuses(
    key: str, value: object, message: str, reviewed: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    file = reviewed.folder / "config" / "dataset_config.yaml"
    content = yaml.safe_load(file.read_text())
    content["tiny"][key] = value
    file.write_text(yaml.dump(content))
    (log,) = (reviewed.folder / "raw").glob("reviews*")
    command = ["apply", "--rows", "rows.csv", "--dataset", "tiny", "--log", str(log), "--out", "out.csv"]
    assert main(command) == 2
    error = capsys.readouterr().err
    assert message in error and error.startswith("error: ") and error.count("\n") == 1
