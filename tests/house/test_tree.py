"""Tree: folders have a docstring, tests mirror them, names are unique."""

import ast
from collections import Counter
from pathlib import Path

import pytest
from source_code import ROOT, modules

PACKAGE = [module for module in modules("dien_fuxictr")]
SHARED = {"__init__", "__main__", "cli"}
FOLDERS = sorted({module.folder for module in PACKAGE if module.file.name != "__init__.py"})


@pytest.mark.parametrize("name", sorted({module.folder for module in PACKAGE}))
def test_a_folder_says_what_it_is_for_and_what_may_live_there(name: str) -> None:
    (init,) = (module for module in PACKAGE if module.name == name)
    opening = ast.get_docstring(init.tree)
    assert opening, f"{init.file} has no docstring"
    first, *rest = opening.split("\n\n")
    assert "\n" not in first and rest, f"{init.file}: one line what it is for, then what may live there"


@pytest.mark.parametrize("name", FOLDERS)
def test_every_folder_has_its_tests(name: str) -> None:
    tests = ROOT.joinpath("tests", *name.split(".")[1:])
    assert list(tests.glob("test_*.py")), f"{tests.relative_to(ROOT)} has no test"


def test_every_folder_of_tests_has_what_it_tests() -> None:
    folders = {file.parent.relative_to(ROOT / "tests") for file in (ROOT / "tests").rglob("test_*.py")}
    for folder in folders - {Path("house")}:
        assert (ROOT / "dien_fuxictr" / folder).is_dir() or (ROOT / folder).is_dir(), f"tests/{folder}"


def test_no_two_modules_have_one_name() -> None:
    names = Counter(module.file.stem for module in modules("dien_fuxictr", "model_zoo"))
    assert {name for name, count in names.items() if count > 1} <= SHARED
