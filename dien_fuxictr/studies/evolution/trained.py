"""The trained model of an experiment, as `run_expid.py` left it."""

import sys
from pathlib import Path
from typing import Any, cast

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.experiment.configuration.config import load_config
from dien_fuxictr.experiment.configuration.paths import resolve_paths
from dien_fuxictr.experiment.configuration.values import check_values
from dien_fuxictr.experiment.device import device_index
from dien_fuxictr.experiment.models import build_model, find_model, load_feature_map
from dien_fuxictr.experiment.training.checkpoint import load_weights
from model_zoo.DIEN.src import DIEN


def load_trained(folder: Path, expid: str, gpu: int) -> tuple[DIEN, dict[str, Any]]:
    """The model with the weights of its checkpoint, in evaluation mode, and the configuration with its paths resolved.

    Raises:
        UserError: no such experiment, data set or checkpoint; a model other than DIEN, or one without attention.
    """
    config = load_config(folder, expid)
    check_values(config.params, config.origin.__getitem__)
    params = config.params
    model_class = find_model(params["model"], params.get("zoo"))
    if not issubclass(model_class, DIEN):
        raise UserError(f"{expid} is a {params['model']}: only DIEN has interests that evolve")
    warnings = config.warnings + resolve_paths(params, folder)
    params["gpu"] = device_index(gpu, warnings)
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    model = cast(DIEN, build_model(model_class, load_feature_map(params), params))
    if model.gru_type == "GRU":
        raise UserError(
            f"{expid} has gru_type: GRU, whose states do not depend on the candidate; those of AIGRU, AGRU and AUGRU do"
        )
    file = Path(model.checkpoint)
    if not file.is_file():
        raise UserError(f"checkpoint {file} does not exist; run_expid.py --expid {expid} trains it")
    load_weights(model, file)
    model.eval()
    return model, params
