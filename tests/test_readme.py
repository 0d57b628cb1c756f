"""The README's commands and the figures that it promises."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
COMMANDS = [line.strip() for line in README.splitlines() if line.startswith("    python3 -m venv .venv")]
METRICS = ("AUC", "gAUC", "logloss")
DEVIATIONS = 5
"""Another CPU's roundings are another draw. README's deviations are those of eight draws, known to a third or so."""


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
    (serve,) = re.findall(r"^    (.venv/bin/pip .+run_serve.+)$", README, re.MULTILINE)
    assert serve.split(" && ") == [
        ".venv/bin/pip install -q -r requirements-serve.txt",
        ".venv/bin/python run_serve.py --expid DIEN_amazon --port 8080",
    ]
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
    assert "100%" in run.stdout + run.stderr
    assert "Building data set data/amazon" in run.stderr
    assert re.search(r"\[exp_id\] DIEN_amazon,.*\[val\] AUC: .*\[test\] AUC: ", (folder / "config.csv").read_text())
    samples = re.search(r"Train samples: total/(\d+)", run.stderr)
    assert samples and int(samples[1]) <= 15_000


def test_the_first_command_gives_the_stated_figures(sample_run: tuple[Path, subprocess.CompletedProcess]) -> None:
    _, run = sample_run
    lines = re.findall(r"\[Metrics\] AUC: (\S+) - gAUC: (\S+) - logloss: (\S+)", run.stderr)
    for split, measured in zip(("validation", "test"), lines, strict=True):
        stated = re.search(rf"^\| {split} \| (.+) \| (.+) \| (.+) \|$", README, re.MULTILINE)
        assert stated, f"README has no figures of {split}"
        for metric, here, there in zip(METRICS, measured, stated.groups(), strict=True):
            mean, deviation = map(float, there.split(" ± "))
            assert float(here) == pytest.approx(mean, abs=DEVIATIONS * deviation), f"{split} {metric}"
