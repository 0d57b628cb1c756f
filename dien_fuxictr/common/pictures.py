"""Pictures by matplotlib, which is an optional package."""

import re
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .errors import UserError


@contextmanager
def default_style(settings: dict[str, Any] | None = None) -> Iterator[None]:
    """Matplotlib's default style, whatever a user or a library has set (Optuna does); that is back at the end.

    Args:
        settings: what differs from it.

    Raises:
        UserError: matplotlib is not installed.
    """
    try:
        from matplotlib import style
    except ImportError as error:
        raise UserError("no pictures, as a package is not installed: pip install matplotlib") from error
    with style.context(["default", settings or {}]):
        yield


_SYLLABLE = re.compile(r"(?:HANGUL SYLLABLE|(?:HIRAGANA|KATAKANA) LETTER(?: SMALL)?) (\w+)")


def use_fonts_for(text: str) -> dict[int, str]:
    """Let matplotlib take further installed fonts, until its style changes, for characters that its own font lacks.

    Returns:
        For `str.translate`: a spelling in its own font for each character that no installed font has.
    """
    import matplotlib
    from matplotlib import font_manager

    own = _characters(font_manager.findfont(font_manager.FontProperties()))
    missing = set(text) - own - {"\n"}
    if not missing:
        return {}
    # "Last Resort" has a box for every character. Fonts of symbols have symbols at the codes of control characters.
    names = {font.name for font in font_manager.fontManager.ttflist if "Last Resort" not in font.name}
    fonts = {name: font_manager.findfont(font_manager.FontProperties(family=[name])) for name in names}  # upright
    drawable = {character for character in missing if character.isprintable()}
    found = {name: drawable & _characters(file) for name, file in fonts.items()}
    families = list(matplotlib.rcParams["font.family"])
    for name in sorted(found, key=lambda name: (-len(found[name]), name)):
        if found[name] & missing:
            families.append(name)
            missing -= found[name]
    matplotlib.rcParams["font.family"] = families
    return {ord(character): _spelling(character, own) for character in missing}


def _characters(file: str) -> set[str]:
    """Those that a font has."""
    from matplotlib import font_manager

    try:
        return set(map(chr, font_manager.get_font(file).get_charmap()))
    except (OSError, RuntimeError):  # a damaged or unreadable file
        return set()


def _spelling(character: str, known: set[str]) -> str:
    """A plain form of the character, the sound of a syllable, or else its code."""
    plain = unicodedata.normalize("NFKC", character)
    if known.issuperset(plain):
        return plain
    if syllable := _SYLLABLE.fullmatch(unicodedata.name(character, "")):
        return syllable[1].lower()
    return character.encode("ascii", "backslashreplace").decode()
