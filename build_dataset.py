"""Makes samples, or rows to predict, of raw reviews or a log of behaviours: `python build_dataset.py log --help`."""

import sys

from dien_fuxictr.commands import build_dataset as main

if __name__ == "__main__":
    sys.exit(main())
