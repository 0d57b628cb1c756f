"""Draw the evolution of a user's interest: `python run_evolution.py --expid ID`."""

import sys

from dien_fuxictr.commands import run_evolution as main

if __name__ == "__main__":
    sys.exit(main())
