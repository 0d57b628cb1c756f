"""Progress of long work, as the zoo shows it."""

import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm


def progress_bar(loader: Iterable[Any], verbose: int, **options: Any) -> Iterable[Any]:
    """Return the loader with the zoo's progress bar; without a bar for `verbose: 0`."""
    return tqdm(loader, file=sys.stdout, **options) if verbose > 0 else loader
