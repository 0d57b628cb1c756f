"""Site: it builds without a warning, has all pages, and loads nothing else."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from pages import PAGES, ROOT


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-c", "docs", ".", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder


class _Loaded(HTMLParser):
    """Addresses of scripts, styles, fonts and pictures that a page loads."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in ("script", "img", "iframe") and given.get("src"):
            self.addresses.append(given["src"] or "")
        elif tag == "link" and given.get("rel") in ("stylesheet", "icon", "preload"):
            self.addresses.append(given["href"] or "")


def test_the_site_has_every_page(site: Path) -> None:
    for page in [*PAGES, ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md"]:
        assert (site / page.relative_to(ROOT).with_suffix(".html")).is_file(), page
    assert (site / "index.html").read_bytes() == (site / "README.html").read_bytes()


def test_the_site_loads_its_own_files_only(site: Path) -> None:
    for page in site.rglob("*.html"):
        if "_downloads" in page.parts:
            continue
        addresses = _Loaded(page).addresses
        assert addresses
        for address in addresses:
            assert (page.parent / address.split("?")[0]).is_file(), (page, address)
    styles = [style.read_text(encoding="utf-8") for style in (site / "_static").rglob("*.css")]
    assert styles and not [style for style in styles if re.search(r"url\(['\"]?(https?:)?//", style)]


def test_the_search_knows_words_of_the_pages(site: Path) -> None:
    index = (site / "searchindex.js").read_text(encoding="utf-8")
    assert "docs/settings" in index and "augru" in index


def test_links_to_source_files_are_downloads(site: Path) -> None:
    assert list((site / "_downloads").rglob("notebook.ipynb"))
