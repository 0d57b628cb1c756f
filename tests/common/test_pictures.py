"""A user's style is neither seen in a picture nor changed by one."""

import sys

import matplotlib
import pytest

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.common.pictures import default_style


def test_default_style_is_temporary() -> None:
    with matplotlib.rc_context({"lines.linewidth": 7}):
        with default_style({"text.parse_math": False}):
            default = matplotlib.rcParamsDefault
            assert matplotlib.rcParams["lines.linewidth"] == default["lines.linewidth"] != 7
            assert default["text.parse_math"] and not matplotlib.rcParams["text.parse_math"]
            matplotlib.style.use("ggplot")
        assert matplotlib.rcParams["lines.linewidth"] == 7
        assert matplotlib.rcParams["axes.facecolor"] == default["axes.facecolor"]


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UserError, match="pip install matplotlib"), default_style():
        pass
