"""`python -m dien_fuxictr.experiment` is `run_expid.py`, from any folder."""

import sys

from dien_fuxictr.common.signals import starting

with starting():
    from .cli import main

if __name__ == "__main__":
    sys.argv[0] = "-m dien_fuxictr.experiment"  # the line of results names the command
    sys.exit(main())
