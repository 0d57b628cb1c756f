"""Pictures of a search: its history, and how much each parameter mattered."""

import warnings
from pathlib import Path

from optuna import Study
from optuna.trial import TrialState

from dien_fuxictr.common.pictures import default_style


def draw(study: Study, folder: Path) -> list[Path]:
    """Draw what there is enough for: history.png with a finished trial, importance.png with two that differ.

    Args:
        study: of the search.
        folder: receives the pictures.

    Returns:
        The files; none without matplotlib.
    """
    try:
        import matplotlib
    except ImportError:
        return []
    matplotlib.use("Agg")  # Optuna draws by pyplot
    from matplotlib import pyplot
    from optuna.visualization.matplotlib import plot_optimization_history, plot_param_importances

    values = {trial.value for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))}
    files = []
    for name, plot, enough in (("history", plot_optimization_history, 1), ("importance", plot_param_importances, 2)):
        if len(values) < enough:
            continue
        files.append(folder / f"{name}.png")
        with warnings.catch_warnings(), default_style():
            warnings.simplefilter("ignore")  # Optuna calls these functions experimental
            plot(study)
            figure = pyplot.gcf()
            figure.savefig(files[-1], dpi=120, bbox_inches="tight")
        pyplot.close(figure)
    return files
