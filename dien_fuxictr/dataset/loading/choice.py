"""Which loader a data set has whose entry names none."""

import logging
from pathlib import Path

from dien_fuxictr.common.errors import UserError

from ..samples.build import raw_files
from ..samples.options import check_options
from ..samples.raw_table import has_more_rows
from .fingerprint import Fingerprint
from .flat import check_can_build

FLAT_ABOVE = 20_000_000
"""A log of more rows is not held in memory."""


def choose_loader(params: dict, built: Fingerprint | None) -> str:
    """in_memory | flat: that of the set that is there, else by the number of rows of the log.

    Args:
        params: of an experiment whose splits are not encoded.
        built: of the set that is there and is not to be replaced.

    Raises:
        UserError: a wrong option of the build, or a log that cannot be read.
    """
    if built:
        return "flat" if built.entry.get("data_loader") == "flat" else "in_memory"
    if not params.get("build"):
        return "in_memory"
    options = check_options(params["build"])
    if options["source"] != "log" or not has_more_rows(Path(options["input"]), raw_files(options)["input"], FLAT_ABOVE):
        return "in_memory"
    size = f"{options['input']} has more than {FLAT_ABOVE:,} rows"
    try:
        check_can_build(params)
    except UserError as error:
        logging.warning(f"{size}, which are all held in memory: {error}")
        return "in_memory"
    logging.info(
        f"{size}: they are built and read from mapped files (data_loader: flat); data_loader: in_memory in the data "
        "set's entry holds them in memory"
    )
    return "flat"
