"""Train and evaluate one experiment: `python run_expid.py --expid ID --gpu N`."""

import sys

from dien_fuxictr.commands import run_expid as main

if __name__ == "__main__":
    sys.exit(main())
