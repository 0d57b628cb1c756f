"""The command line of the builders: its help, what it refuses, what it prints."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from made_raw import random_reviews, write_raw

from dien_fuxictr.dataset.build import main
from dien_fuxictr.dataset.samples.options import options_of

ROOT = Path(__file__).parents[2]

NAMED = ["amazon", "--reviews", "r", "--meta", "m", "--out", "x"]


def test_help_lists_every_option_and_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    flags = {
        source: {f"--{name.replace('_', '-')}" for name in [*options_of(source), "out", "rebuild", "help"]}
        for source in ("amazon", "log")
    }
    for source, own in flags.items():
        with pytest.raises(SystemExit) as caught:
            main([source, "--help"])
        shown = capsys.readouterr().out
        assert caught.value.code == 0 and own <= set(re.findall(r"--\w[\w-]*", shown))
        assert all(f"\n  {name} " in shown for name in ("last", "leave_one_out", "time", "window"))
    with pytest.raises(SystemExit):
        main(["--help"])
    assert set(re.findall(r"--\w[\w-]*", capsys.readouterr().out)) <= flags["amazon"] | flags["log"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: source"),
        (["csv"], "argument source: invalid choice: 'csv'"),
        (["amazon"], "the following arguments are required: --reviews, --meta, --out"),
        (["log", "--out", "x"], "the following arguments are required: --input, --user, --item, --category, --time"),
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


def test_the_scripts_say_what_they_do_on_stdout(tmp_path: Path) -> None:
    reviews = random_reviews()
    files = write_raw(tmp_path, reviews, {item: ["all", "c"] for _, item, _ in reviews})
    out = tmp_path / "out"
    command = ["amazon", "--reviews", str(files[0]), "--meta", str(files[1]), "--out", str(out)]
    built = run("build_dataset.py", *command)
    assert built.returncode == 0 and re.search(r"INFO Read \d+ reviews from .*INFO Wrote ", built.stdout, re.DOTALL)
    assert "Traceback" not in built.stderr and "INFO" not in built.stderr
    audited = run("audit_dataset.py", str(out))
    assert audited.returncode == 0 and audited.stdout in built.stdout
    again = run("build_dataset.py", *command)
    assert again.returncode == 2 and again.stderr == f"error: {out} exists and is not empty; --rebuild replaces it\n"
