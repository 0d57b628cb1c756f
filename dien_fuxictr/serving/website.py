"""The page for a person, one answer that needs nothing beside it; all that it shows it asks of the API."""

import base64
import hashlib
from pathlib import Path
from string import Template
from typing import NamedTuple

_FOLDER = Path(__file__).with_name("page")
_SCRIPTS = ("charts.js", "page.js")


class Page(NamedTuple):
    """Attributes: html: UTF-8. policy: Content-Security-Policy, by which nothing but its own style and script runs."""

    html: bytes
    policy: str


def packed() -> Page:
    """Style and script put into the page."""
    style, script = _text("page.css"), "".join(map(_text, _SCRIPTS))
    allowed = {
        "default-src": "'none'",
        "connect-src": "'self'",
        "img-src": "data:",
        "style-src": _hash(style),
        "script-src": _hash(script),
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    html = Template(_text("page.html")).substitute(style=style, script=script)
    return Page(html.encode(), "; ".join(" ".join(rule) for rule in allowed.items()))


def _text(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
