"""Compare experiments over seeds: `python run_comparison.py --expids ID ID`."""

import sys

from dien_fuxictr.commands import run_comparison as main

if __name__ == "__main__":
    sys.exit(main())
