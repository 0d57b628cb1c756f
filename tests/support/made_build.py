"""A process that builds a data set, and waits when most of it is written.

Its arguments are the entry, a marker and seconds.
"""

import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

from dien_fuxictr.dataset.encoding import encode_splits
from dien_fuxictr.dataset.loading import prepare
from dien_fuxictr.dataset.loading.entry import DatasetEntry


def main(params: dict[str, Any], marker: Path, pause: float) -> None:
    """Print the file of the training rows; the marker is there when the pause begins."""
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
    save = encode_splits.save_catalogues

    def slow_save(*args: Any) -> None:
        save(*args)
        marker.touch()
        time.sleep(pause)

    encode_splits.save_catalogues = slow_save
    print(prepare.prepare_dataset(DatasetEntry.of(params))["train_data"])


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]))
