"""One run: configuration -> data -> model -> training -> checkpoint -> evaluation and prediction.

`open_experiment` is the way in from Python. What needs several runs is in `studies`.
"""

from .experiment import Experiment, open_experiment

__all__ = ["Experiment", "open_experiment"]
