"""`pip install .`: content of the wheel, and a run without the checkout."""

import os
import re
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
import yaml
from made_recurrence import COMPILER

from dien_fuxictr import __version__

ROOT = Path(__file__).parents[2]
DIST_INFO = f"dien_fuxictr-{__version__}.dist-info"


def run(*command: object, cwd: Path, **variables: str) -> subprocess.CompletedProcess:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | variables
    done = subprocess.run([*map(str, command)], cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    offline = ("--no-deps", "--no-build-isolation", "--no-index", "--quiet")
    run(sys.executable, "-m", "pip", "wheel", *offline, "--wheel-dir", folder, ROOT, cwd=folder)
    (file,) = folder.glob("*.whl")
    return file


def environment_with(*pip_arguments: object, folder: Path) -> Path:
    """Create an environment with one more package; return its folder of programs.

    It sees the packages of this environment.
    """
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=ROOT)
    programs = folder / ("Scripts" if os.name == "nt" else "bin")
    (own,) = folder.glob("**/site-packages")
    packages = dict.fromkeys(sysconfig.get_path(kind) for kind in ("purelib", "platlib"))
    (own / "packages_of_the_tests.pth").write_text("\n".join(packages))
    install = ("-m", "pip", "install", "--no-deps", "--no-build-isolation", "--no-index", "--quiet")
    run(programs / "python", *install, *pip_arguments, cwd=folder)
    return programs


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return environment_with(wheel, folder=tmp_path_factory.mktemp("installed"))


def test_the_wheel_has_no_generic_top_level_names(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {"dien_fuxictr", "model_zoo", DIST_INFO}
    assert not [name for name in names if {"research", "benchmarks"} & set(name.split("/"))]
    assert "model_zoo/__init__.py" not in names, "it would hide the zoo's own model_zoo"


def project_files(*folders: str) -> list[str]:
    """Those of git, and new ones that it does not ignore."""
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard", *folders, cwd=ROOT)
    return [name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="git tells which files are the project's")
def test_wheel_has_packages_configuration_and_sample(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    expected = {name: name for name in project_files("dien_fuxictr", "model_zoo")}
    shipped = project_files("config", "data/amazon_sample")
    expected |= {f"dien_fuxictr/shipped/{name}": name for name in shipped}
    packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert packed == expected.keys()
    assert any(name.endswith(".cpp") for name in packed) and any(name.endswith(".json.gz") for name in packed)
    for name, source in expected.items():
        assert archive.read(name) == (ROOT / source).read_bytes(), name


@pytest.mark.parametrize(
    ("files", "extra"),
    [
        ("requirements.txt", ""),
        ("requirements-optional.txt requirements-serve.txt", "; extra == 'all'"),
        ("requirements-serve.txt", "; extra == 'serve'"),
    ],
)
def test_what_the_wheel_requires(wheel: Path, files: str, extra: str) -> None:
    metadata = zipfile.ZipFile(wheel).read(f"{DIST_INFO}/METADATA").decode()
    lines = [line for file in files.split() for line in (ROOT / file).read_text().splitlines() if line[0] != "#"]
    required = re.findall(rf"^Requires-Dist: ([^<>=;]+)[^;\n]*{extra}$", metadata, re.MULTILINE)
    assert required and sorted(required) == sorted(re.split("[<>=]", line)[0].lower() for line in lines)


def test_the_wheel_says_what_it_is(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    metadata = archive.read(f"{DIST_INFO}/METADATA").decode()
    for line in ("License-Expression: Apache-2.0", "Author: the DIEN-FuxiCTR developers", f"Version: {__version__}"):
        assert f"\n{line}\n" in metadata
    assert archive.read(f"{DIST_INFO}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()


def test_index_description_has_no_repository_links(wheel: Path) -> None:
    metadata = zipfile.ZipFile(wheel).read(f"{DIST_INFO}/METADATA").decode()
    description = metadata.split("\n\n", 1)[1]
    assert description.startswith("# DIEN for FuxiCTR") and "Which settings for which data?" in description
    links = re.findall(r"\]\(([^)]*)\)", description)
    assert links and all(link.startswith("https://") for link in links)
    assert "![" not in description


def test_the_citation_names_the_software_and_the_paper() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert citation["license"] == "Apache-2.0" and "version" not in citation, "the version has one home"
    (paper,) = citation["references"]
    assert paper["type"] == "conference-paper" and paper["doi"] and len(paper["authors"]) == 8


PROGRAM = """
import sys
optional = ["tensorboard", "matplotlib", "optuna", "onnxscript", "triton"]
of_serving = ["uvicorn", "orjson", "prometheus_client", "safetensors"]
sys.modules |= dict.fromkeys([*optional, *of_serving])  # cannot be imported
from importlib.metadata import distribution
import model_zoo.LongCTR, model_zoo.DIEN.src

for entry in distribution("dien-fuxictr").entry_points:
    assert callable(entry.load())
    print(entry.name)
print(model_zoo.DIEN.src.__file__)
"""


def test_installed_commands_use_the_installed_package(installed: Path, tmp_path: Path) -> None:
    *commands, dien = run(installed / "python", "-c", PROGRAM, cwd=tmp_path).stdout.splitlines()
    assert sorted(commands) == sorted(file.stem for file in ROOT.glob("*.py"))
    assert all((installed / name).is_file() for name in commands)
    assert Path(dien).is_relative_to(installed.parent) and Path(dien).is_file()
    help_of_a_run = run(installed / "python", "-m", "dien_fuxictr.experiment", "--help", cwd=tmp_path).stdout
    assert help_of_a_run.startswith("usage: run_expid [-h] [--version]")


def test_an_empty_folder_suffices(installed: Path, tmp_path: Path) -> None:
    """Train on the packaged sample; write nothing into the package."""
    (config,) = installed.parent.glob("**/dien_fuxictr/shipped/config")
    packages = config.parents[2]
    before = {path: path.stat().st_mtime_ns for path in packages.rglob("*")}
    kernels = "compiled" if COMPILER else "torch"
    command = [installed / "run_expid", "--set", "epochs=1", "--set", f"recurrence_backend={kernels}"]
    done = run(*command, cwd=tmp_path, PYTHONDONTWRITEBYTECODE="1")
    assert f"./config/ does not exist; using {config}" in done.stderr
    assert (tmp_path / "data" / "amazon" / "feature_map.json").is_file()
    assert (tmp_path / "checkpoints" / "amazon" / "DIEN_amazon.model").is_file()
    assert "[test] AUC: " in (tmp_path / "config.csv").read_text()
    assert {path: path.stat().st_mtime_ns for path in packages.rglob("*")} == before


def test_an_editable_install_is_the_checkout(tmp_path: Path) -> None:
    programs = environment_with("--editable", ROOT, folder=tmp_path / "editable")
    code = "import dien_fuxictr, model_zoo.parts as parts; print(dien_fuxictr.__file__, parts.__file__)"
    files = run(programs / "python", "-c", code, cwd=tmp_path).stdout.split()
    assert files == [str(ROOT / "dien_fuxictr" / "__init__.py"), str(ROOT / "model_zoo" / "parts" / "__init__.py")]
