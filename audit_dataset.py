"""Print the AUC of trivial rules: `python audit_dataset.py data/amazon`."""

import sys

from dien_fuxictr.commands import audit_dataset as main

if __name__ == "__main__":
    sys.exit(main())
