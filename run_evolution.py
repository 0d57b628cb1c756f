"""Draws how a user's interest evolves towards candidate items: `python run_evolution.py --expid DIEN_amazon`."""

import sys

from dien_fuxictr.commands import run_evolution as main

if __name__ == "__main__":
    sys.exit(main())
