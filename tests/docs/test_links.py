"""Links between the project's pages work, and named source files exist."""

import re
from pathlib import Path

import pytest
from pages import PAGES, ROOT, prose

FOLDERS = (
    "benchmarks/",
    "config/",
    "data/amazon_sample/",
    "dien_fuxictr/",
    "docs/",
    "model_zoo/",
    "research/",
    "tests/",
)
FILES = [file for folder in FOLDERS for file in (ROOT / folder, *(ROOT / folder).rglob("*"))] + [*ROOT.glob("*.*")]
NOT_HERE = {
    "experiment/run_expid.py": "a FuxiCTR checkout's",
    "model_config.yaml": "a form that the zoo allows",
    "dataset_config.yaml": "a form that the zoo allows",
    "write_log.py": "the reader's",
    "config/dataset_config/my_clicks.yaml": "the reader's",
    "config/model_config/my_clicks.yaml": "the reader's",
    "config/dataset_config/my_columns.yaml": "the reader's",
    "config/model_config/my_columns.yaml": "the reader's",
    "config/dataset_config/my_shop.yaml": "the reader's",
    "config/tuner/DIEN_amazon/": "of a sweep",
    "table.md": "of a comparison",
    "config.yaml": "of a bundle",
}
"""File that pages name -> whose it is."""


def links(page: Path) -> list[str]:
    return re.findall(r"\]\(([^)\s]+)\)", prose(page))


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def named_files(page: Path) -> set[str]:
    """Names in backticks that are source files by their suffix or folder."""
    names = re.findall(r"`([\w./-]+)`", prose(page))
    return {name for name in names if name.endswith((".py", ".md", ".yaml", ".toml")) or name.startswith(FOLDERS)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_have_targets(page: Path) -> None:
    for link in links(page):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_named_files_exist(page: Path) -> None:
    for name in named_files(page) - NOT_HERE.keys():
        parts = Path(name).parts
        assert any(file.parts[-len(parts) :] == parts for file in FILES), name


def test_missing_files_are_named_as_such() -> None:
    assert NOT_HERE.keys() <= {name for page in PAGES for name in named_files(page)}


def test_readme_leads_to_every_page() -> None:
    reached, left = set[Path](), [ROOT / "README.md"]
    while left:
        page = left.pop()
        targets = {(page.parent / link.partition("#")[0]).resolve() for link in links(page) if "://" not in link}
        new = {target for target in targets - reached if target.suffix == ".md"}
        reached |= new
        left += new
    kept = [page for page in PAGES if not page.read_text(encoding="utf-8").startswith("This page has moved")]
    assert {*kept, ROOT / "CONTRIBUTING.md"} - {ROOT / "README.md"} <= reached
