"""Decide after an evaluation: best weights, learning rate, end of the run."""

import logging
import math

from fuxictr.pytorch.models import BaseModel

from .resume import Progress

MIN_DELTA = 1e-6


def judge(model: BaseModel, place: Progress, value: float) -> bool:
    """Process a value of the monitor, like `BaseModel.checkpoint_and_earlystop`.

    NaN is not an improvement.

    Args:
        model: has mode, patience and optimizer; on a plateau its learning rates are reduced.
        place: best value, count and stop are updated.
        value: value of the monitor.

    Returns:
        Whether the weights are kept.
    """
    mode = model._monitor_mode
    better = value <= place.best_metric - MIN_DELTA if mode == "min" else value >= place.best_metric + MIN_DELTA
    better = better and math.isfinite(value)
    if better:
        place.stopping_steps = 0
        place.best_metric = value
        if model._save_best_only:
            logging.info(f"Save best model: monitor({mode})={value:.6f}")
    else:
        place.stopping_steps += 1
        logging.info(f"Monitor({mode})={value:.6f} STOP!")
        if model._reduce_lr_on_plateau:
            model.lr_decay()
            logging.info(f"Reduce learning rate on plateau: {model.optimizer.param_groups[0]['lr']:.6f}")
    if place.stopping_steps >= model._early_stop_patience:
        place.stop = True
        logging.info(f"********* Epoch={place.epoch + 1} early stop *********")
    return better if model._save_best_only else math.isfinite(value)
