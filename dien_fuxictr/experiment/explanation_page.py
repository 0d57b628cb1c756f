"""Draw an explanation in a browser: one HTML file, which needs no network.

The server has such a page, which reads from the API; `run_evolution.py` writes one that contains its numbers. Their
common explanation.js and explanation.css are in this folder.
"""

from pathlib import Path
from string import Template
from typing import NamedTuple

_HERE = Path(__file__).parent


class ExplanationPage(NamedTuple):
    """Parts of a page.

    Attributes:
        html: HTML with `$style`, `$script` and more as placeholders.
        style: CSS, including the common one.
        script: JavaScript, including the common one.
    """

    html: str
    style: str
    script: str

    def fill(self, **texts: str) -> str:
        """Return the page, with further texts in it."""
        return Template(self.html).substitute(style=self.style, script=self.script, **texts)


def read_page(folder: Path) -> ExplanationPage:
    """Read the page.html of a folder, its page.css and its page.js."""
    html, own_style, own_script = (_read(folder / f"page.{kind}") for kind in ("html", "css", "js"))
    style, script = (_read(_HERE / f"explanation.{kind}") for kind in ("css", "js"))
    return ExplanationPage(html, style + own_style, script + own_script)


def _read(file: Path) -> str:
    return file.read_text(encoding="utf-8")
