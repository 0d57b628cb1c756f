"""README's commands, and the figures that it and research/results.md promise."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
COMMANDS = [line.strip() for line in README.splitlines() if line.startswith("    python3 -m venv .venv")]
RESULTS = (ROOT / "research" / "results.md").read_text()
METRICS = ("AUC", "gAUC", "logloss")
PRINTED = re.compile(r"^(validation|test) +1,080 +(\S+) +(\S+) +(\S+)$", re.MULTILINE)
DEVIATIONS = 5
"""A different CPU rounds differently, which is another draw; deviations of eight draws are known to a third or so."""


def test_ci_runs_the_test_command() -> None:
    assert (ROOT / ".ci" / "run").read_text().splitlines()[-1] == COMMANDS[1]


def test_commands_install_and_run() -> None:
    run, test = (command.split(" && ") for command in COMMANDS)
    assert run == [
        "python3 -m venv .venv",
        ".venv/bin/pip install -q -r requirements.txt",
        ".venv/bin/python run_expid.py --expid DIEN_amazon",
    ]
    assert test[1] == ".venv/bin/pip install -q -r requirements-test.txt"
    assert "-r requirements.txt" in (ROOT / "requirements-test.txt").read_text().splitlines()


@pytest.fixture(scope="module")
def sample_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess]:
    folder = tmp_path_factory.mktemp("sample")
    for name in ("config", "data/amazon_sample"):
        shutil.copytree(ROOT / name, folder / name)
    command = [sys.executable, str(ROOT / "run_expid.py"), "--expid", "DIEN_amazon"]
    return folder, subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600)


def test_the_first_command_builds_trains_and_evaluates(sample_run: tuple[Path, subprocess.CompletedProcess]) -> None:
    folder, run = sample_run
    assert run.returncode == 0, run.stderr
    assert "  building  data/amazon" in run.stderr.splitlines() and "\r" not in run.stdout + run.stderr
    assert re.search(r"\[exp_id\] DIEN_amazon,.*\[val\] AUC: .*\[test\] AUC: ", (folder / "config.csv").read_text())
    samples = re.search(r"^  data      (\S+) training rows", run.stderr, re.MULTILINE)
    assert samples and int(samples[1].replace(",", "")) <= 15_000


def test_the_first_command_gives_the_stated_figures(sample_run: tuple[Path, subprocess.CompletedProcess]) -> None:
    _, run = sample_run
    lines, shown = PRINTED.findall(run.stdout), PRINTED.findall(README)
    for (split, *measured), (_, *printed) in zip(lines, shown, strict=True):
        stated = re.search(rf"^\| {split} \| (.+ ± .+) \| (.+ ± .+) \| (.+ ± .+) \|$", RESULTS, re.MULTILINE)
        assert stated, f"research/results.md has no figures of {split}"
        for metric, here, readme, there in zip(METRICS, measured, printed, stated.groups(), strict=True):
            mean, deviation = map(float, there.split(" ± "))
            for figure in (here, readme):
                assert float(figure) == pytest.approx(mean, abs=DEVIATIONS * deviation), f"{split} {metric}"


def test_the_readme_shows_lines_of_the_run(sample_run: tuple[Path, subprocess.CompletedProcess]) -> None:
    _, run = sample_run
    (block,) = re.findall(r"^```text\n(.+?)^```", README, re.MULTILINE | re.DOTALL)
    figures = re.compile(r"\d+\.\d+|\d+:\d\d")
    printed = iter(figures.sub("", run.stderr + run.stdout).splitlines())
    for line in figures.sub("", block).splitlines():
        assert line == "..." or line in printed, f"the run does not print {line!r}, or prints it earlier"
    assert block.endswith(run.stdout.split("\n\n")[1]), "the files"


def test_the_readme_has_at_most_100_lines() -> None:
    assert len(README.splitlines()) <= 100
