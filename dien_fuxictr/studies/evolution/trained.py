"""The model whose interests are drawn."""

from typing import cast

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.experiment.experiment import Experiment
from model_zoo.DIEN.src import DIEN


def load_trained(experiment: Experiment) -> DIEN:
    """The experiment's model with the weights of its checkpoint, in evaluation mode.

    Raises:
        UserError: no data set or checkpoint; a model other than DIEN, or one without attention.
    """
    if not issubclass(experiment.model_class, DIEN):
        raise UserError(f"{experiment.expid} is a {experiment.params['model']}: only DIEN has interests that evolve")
    if experiment.params.get("gru_type") == "GRU":
        raise UserError(
            f"{experiment.expid} has gru_type: GRU, whose states do not depend on the candidate; those of AIGRU, "
            "AGRU and AUGRU do"
        )
    experiment.load()
    return cast(DIEN, experiment.model)
