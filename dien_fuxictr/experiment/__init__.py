"""Run one experiment: data, model, training, checkpoint, evaluation, prediction.

Code for several runs is in `studies`.
"""
