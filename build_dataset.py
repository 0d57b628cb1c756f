"""Makes samples of raw reviews or of a log of behaviours: `python build_dataset.py log --help`."""

import sys

from dien_fuxictr.dataset.build import main

if __name__ == "__main__":
    sys.exit(main())
