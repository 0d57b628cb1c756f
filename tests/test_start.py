"""Commands answer before torch and the like are imported, which takes seconds."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
COMMANDS = sorted(file.stem for file in ROOT.glob("*.py"))
HEAVY = ("torch", "fuxictr", "ray", "sklearn", "pandas", "polars")
ARGUMENTS = {
    "run_param_tuner": ["--config", str(ROOT / "config" / "tuner" / "DIEN_amazon.yaml")],
    "run_comparison": ["--expids", "DIEN_amazon"],
    "build_dataset": ["amazon", "--reviews", "reviews.json.gz", "--meta", "meta.json.gz", "--out", "built"],
    "audit_dataset": ["built"],
}
"""Enough of them for the command to import what it needs."""
# Ctrl-C just before a module is imported.
INTERRUPTED = """
import os, signal, sys
class Interrupt:
    def find_spec(name, *_):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Interrupt)
from {command} import main
main({arguments})
"""


def python(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command, environment = [sys.executable, "-c", code], {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_imports_nothing_heavy(command: str, tmp_path: Path) -> None:
    done = python(
        f"import sys, {command}\n"
        f"try: {command}.main(['--help'])\n"
        f"except SystemExit as end: print([name for name in {HEAVY} if name in sys.modules], end.code)",
        tmp_path,
    )
    assert done.stdout.startswith("usage: ") and done.stdout.endswith("\n[] 0\n"), done.stderr


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("is_late", [False, True])
def test_ctrl_c_while_it_starts_is_one_line(command: str, is_late: bool, tmp_path: Path) -> None:
    heavy = "polars" if command.endswith("_dataset") else "torch"
    code = INTERRUPTED.format(
        module=heavy if is_late else "argparse", command=command, arguments=ARGUMENTS.get(command, [])
    )
    done = python(code, tmp_path)
    assert done.stderr.splitlines()[-1] == "error: interrupted while starting; nothing was written"
    assert done.returncode == 130 and "Traceback" not in done.stderr


def without_torch(expid: str, folder: Path) -> subprocess.CompletedProcess[str]:
    arguments = ["--config", str(ROOT / "config"), "--expid", expid]
    return python(
        f"import sys; sys.modules['torch'] = None; from run_expid import main; sys.exit(main({arguments}))", folder
    )


def test_a_wrong_experiment_is_refused_before_torch_is_imported(tmp_path: Path) -> None:
    done = without_torch("DIEN_nowhere", tmp_path)
    assert done.returncode == 2 and done.stderr.startswith("error: ")


def test_the_first_line_comes_before_torch_is_imported(tmp_path: Path) -> None:
    done = without_torch("DIEN_amazon", tmp_path)
    assert done.stderr.splitlines()[0] == "DIEN_amazon: DIEN on data set amazon"
    assert done.returncode == 2 and "torch" in done.stderr


def test_a_build_of_samples_does_not_import_torch(tmp_path: Path) -> None:
    sample = ROOT / "data" / "amazon_sample"
    raw = ["--reviews", str(sample / "reviews_Sample_5.json.gz"), "--meta", str(sample / "meta_Sample.json.gz")]
    done = python(
        f"import sys, build_dataset\nassert build_dataset.main(['amazon', *{raw}, '--out', 'built']) == 0\n"
        "print('torch' in sys.modules)",
        tmp_path,
    )
    assert done.stdout.endswith("\nFalse\n"), done.stderr
