"""Serves a trained experiment over HTTP: `python run_serve.py --expid DIEN_amazon`."""

import sys

from dien_fuxictr.serving.cli import main

if __name__ == "__main__":
    sys.exit(main())
