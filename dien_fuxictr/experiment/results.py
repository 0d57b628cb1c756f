"""Zoo's line of results, one per run, in a CSV in the working directory."""

import os
import sys
from datetime import datetime
from pathlib import Path

from fuxictr.utils import print_to_list

from dien_fuxictr.common.errors import UserError

from .evaluation.evaluate import Evaluation


def results_file(config: Path) -> Path:
    """Return `<name of the configuration folder>.csv` in the working directory."""
    return Path(f"{os.path.basename(os.path.abspath(config)).replace('.yaml', '')}.csv")


def append_result(file: Path, expid: str, dataset_id: str, evaluations: dict[str, Evaluation]) -> None:
    """Append a run's line, in the zoo's form.

    Args:
        file: result of `results_file`.
        expid: experiment id.
        dataset_id: id of the data set.
        evaluations: `valid` and `test`, if they exist.

    Raises:
        UserError: the file cannot be written.
    """
    valid, test = (
        print_to_list(evaluations[split].metrics) if split in evaluations else "" for split in ("valid", "test")
    )
    try:
        with open(file, "a+", encoding="utf-8") as results:
            if os.name == "posix":
                import fcntl

                fcntl.flock(results, fcntl.LOCK_EX)  # on a disk of several machines, appends alone overwrite each other
            results.write(
                f" {datetime.now():%Y%m%d-%H%M%S},[command] python {' '.join(sys.argv)},[exp_id] {expid},"
                f"[dataset_id] {dataset_id},[train] N.A.,[val] {valid},[test] {test}\n"
            )
    except OSError as error:
        raise UserError(f"cannot write {file}: {error.strerror}") from error
