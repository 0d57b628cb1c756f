"""The command line of the builders: its help, and what it refuses."""

import re

import pytest

from dien_fuxictr.dataset.build import main
from dien_fuxictr.dataset.samples.options import options_of

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
