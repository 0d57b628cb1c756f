"""Train, compare and serve Deep Interest Evolution in the CTR model zoo FuxiCTR.

`open_experiment` is the way in from Python. One floor a folder, and imports go down only: `common` < `dataset` <
`experiment` < `studies`. The models are in `model_zoo/` next to this package and import nothing of it.
"""

from typing import TYPE_CHECKING, Any

from .common.version import __version__

if TYPE_CHECKING:
    from .experiment.experiment import Experiment, open_experiment

__all__ = ["Experiment", "__version__", "open_experiment"]


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that commands start without torch."""
    if name not in ("Experiment", "open_experiment"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .experiment import experiment

    return getattr(experiment, name)
