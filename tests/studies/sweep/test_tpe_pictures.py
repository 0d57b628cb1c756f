"""Pictures of a small study."""

from pathlib import Path
from typing import Any

import matplotlib
import optuna
from matplotlib import style

from dien_fuxictr.studies.sweep.tpe import draw_trials


def study(values: list[float]) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    made = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    space = {"x": optuna.distributions.FloatDistribution(0, 1)}
    for number, value in enumerate(values):
        made.add_trial(optuna.create_trial(params={"x": number / 10}, distributions=space, value=value))
    return made


def test_pictures_that_there_is_enough_for(tmp_path: Path) -> None:
    assert draw_trials(study([]), tmp_path) == []
    assert draw_trials(study([0.5, 0.5]), tmp_path) == [tmp_path / "history.png"]
    assert draw_trials(study([0.5, 0.6]), tmp_path) == [tmp_path / "history.png", tmp_path / "importance.png"]


def settings() -> dict[str, Any]:
    """All but where pictures are shown: Optuna's are drawn for a file."""
    return {name: value for name, value in matplotlib.rcParams.items() if not name.startswith("backend")}


def test_a_users_style_is_neither_seen_nor_changed(tmp_path: Path) -> None:
    pictures = []
    for name in ("default", "dark_background"):
        with style.context(name):
            before = settings()
            (file,) = draw_trials(study([0.5]), tmp_path)
            assert settings() == before
        pictures.append(file.read_bytes())
    assert pictures[0] == pictures[1]
