"""Serve a trained experiment over HTTP: `python run_serve.py --expid ID`."""

import sys

from dien_fuxictr.commands import run_serve as main

if __name__ == "__main__":
    sys.exit(main())
