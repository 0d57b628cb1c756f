"""Sweeps the hyper-parameters of an experiment: `python run_param_tuner.py --config config/tuner/X.yaml --gpu 0 1`."""

import sys

from dien_fuxictr.commands import run_param_tuner as main

if __name__ == "__main__":
    sys.exit(main())
