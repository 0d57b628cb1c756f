"""docs/developer/architecture.md names files, and what is in them, that exist."""

import re

import pytest
from source_code import ROOT

PAGE = (ROOT / "docs" / "developer" / "architecture.md").read_text(encoding="utf-8")
WHERE = re.findall(r"^\| (.+) \| `(.+)` \| (`.+`) \|$", PAGE, re.MULTILINE)
ASKED = (
    "a sample's negative is drawn",
    "a negative of the auxiliary loss is drawn",
    "a batch is padded",
    "a gate is computed",
    "a metric is computed",
    "a run's result is written",
)


def test_all_paths_exist() -> None:
    paths = [path for path in re.findall(r"`([^`\s]*/[^`\s]*)`", PAGE) if "<" not in path]
    assert len(paths) > 30
    assert not [path for path in paths if not (ROOT / path).exists()]


@pytest.mark.parametrize("question", ASKED)
def test_architecture_page_says_where(question: str) -> None:
    assert [what for what, _, _ in WHERE if what.startswith(question)]


@pytest.mark.parametrize(("file", "names"), [row[1:] for row in WHERE])
def test_it_is_there(file: str, names: str) -> None:
    source = (ROOT / file).read_text(encoding="utf-8")
    for name in re.findall(r"`(\w+)`", names):
        assert re.search(rf"^\s*(def|class) {name}\b|^\S.* {name}\(", source, re.MULTILINE), name
