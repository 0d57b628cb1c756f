"""Sweep hyper-parameters: `python run_param_tuner.py --config FILE --gpu 0 1`."""

import sys

from dien_fuxictr.commands import run_param_tuner as main

if __name__ == "__main__":
    sys.exit(main())
