"""Build samples, or rows to predict: `python build_dataset.py log --help`.

The raw data are reviews or a log of behaviours.
"""

import sys

from dien_fuxictr.commands import build_dataset as main

if __name__ == "__main__":
    sys.exit(main())
