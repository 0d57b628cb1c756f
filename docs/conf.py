"""Settings of the site: `python -m sphinx -W -c docs . site` builds it.

The site consists of the repository's pages and needs no network. Pages keep their places, so that their relative links
work in the repository and on the site.
"""

import shutil
from pathlib import Path

from sphinx.application import Sphinx

CONTENTS = {
    "Start": ("docs/tutorial", "docs/settings", "docs/faq"),
    "Guides": ("docs/guides/data", "docs/guides/training", "docs/guides/comparing", "docs/guides/*"),
    "Reference": ("docs/reference/*",),
    "Developers": ("docs/developer/architecture", "docs/developer/*", "CONTRIBUTING", "CHANGELOG"),
    "Research": ("research/README", "research/*", "research/results/*", "data/amazon_sample/*"),
}
"""Caption of the navigation -> pages below it; a pattern matches the pages that no earlier line has."""

project = html_title = "DIEN for FuxiCTR"
extensions = ["myst_parser"]
include_patterns = ["*.md", "docs/**.md", "research/**.md", "data/amazon_sample/*.md"]
exclude_patterns = ["[.]*", "site", "config", "tests"]
root_doc = "README"
myst_heading_anchors = 6
highlight_language = "sh"  # blocks without a language are commands
html_theme = "furo"
html_copy_source = False
html_show_copyright = False


def setup(app: Sphinx) -> None:
    """Add the navigation, which the repository's pages do not have."""
    app.connect("source-read", add_navigation)
    app.connect("build-finished", add_index)


def add_navigation(app: Sphinx, page: str, source: list[str]) -> None:
    """Add `CONTENTS` to the first page; leave moved pages out of the navigation."""
    if page == root_doc:
        for caption, pages in CONTENTS.items():
            source[0] += "\n".join(
                ("\n```{toctree}", ":hidden:", ":glob:", f":caption: {caption}", "", *pages, "```\n")
            )
    elif source[0].startswith("This page has moved"):
        source[0] = f"---\norphan: true\n---\n# {Path(page).name}\n\n{source[0]}"


def add_index(app: Sphinx, error: Exception | None) -> None:
    """Answer the site's address with its first page."""
    if error is None:
        shutil.copyfile(app.outdir / f"{root_doc}.html", app.outdir / "index.html")
