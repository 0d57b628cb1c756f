"""Score a data set by rules without a model, to find leaks and give a baseline.

    python audit_dataset.py FOLDER                # a built data set, samples, or train.csv and test.csv; for a set
    built
                                                  # with data_loader: memory_mapped, the audit that its build stored
    python audit_dataset.py train.csv test.csv    # the published form: histories joined by "^"

The *trivial* rules know nothing of interests: how often a value of a column occurs, whether it is missing, the order of
values and of rows, the hour of a time, what is constant per user and, where negatives are sampled, how often a value
belongs to a positive. If the AUC of a trivial rule differs from .5, in either direction, a model can use the same
information; a warning names the rules that differ by more than .02 and by more than chance. The *untrained* rules use a
little of the interests. The last part shows how often an item occurs in the history of its own sample: a difference
between positives and negatives is information for a model, too.
"""

import json
import sys
from pathlib import Path

from dien_fuxictr.common.command_parser import command_parser
from dien_fuxictr.common.errors import UserError, run_command
from dien_fuxictr.common.progress import stage_bar
from dien_fuxictr.common.signals import starting


def main(arguments: list[str] | None = None) -> int:
    """Print the audit of a data set.

    Args:
        arguments: the command line without the program's name; None: the process's.

    Returns:
        Exit code, see `run_command`.
    """
    parser = command_parser("audit_dataset.py", __doc__)
    parser.add_argument("path", nargs="+", type=Path, help="folder of samples, or the training and the test CSV file")
    return run_command(lambda: _run(parser.parse_args(arguments).path), "interrupted")


def _run(paths: list[Path]) -> int:
    with starting():
        from .samples.leak_audit import audit, read_csv, table  # imported here: `--help` needs none of it
        from .samples.samples import Samples, samples_in
    if len(paths) == 1:
        if not paths[0].exists():
            raise UserError(f"{paths[0]} does not exist; give one folder, or the training and the test CSV file")
        paths = [samples_in(paths[0])]
    try:
        if len(paths) == 1 and (paths[0] / "train.csv").is_file() and not (paths[0] / "train.parquet").is_file():
            paths = [paths[0] / "train.csv", paths[0] / "test.csv"]
        if len(paths) > 2 or (len(paths) == 1 and not paths[0].is_dir()):
            raise UserError("give one folder, or two files: the training and the test CSV")
        result = _audit_of_build(paths[0]) if len(paths) == 1 else None
        if result is None:
            with stage_bar(2) as begin:
                begin("reading")
                samples = Samples.load(paths[0]) if len(paths) == 1 else read_csv(*paths)
                begin("auditing")
                result = audit(samples)
    except OSError as error:
        raise UserError(str(error)) from error
    print(table(result))
    for warning in result["warnings"]:
        print(f"warning: {warning}", file=sys.stderr)
    return 0


def _audit_of_build(folder: Path) -> dict | None:
    """Return the audit stored by a memory-mapped build; None if samples are there."""
    info = folder / "samples.json"
    if not info.is_file() or (folder / "behaviours.parquet").is_file():
        return None
    try:
        # default values for older builds
        return {"threshold": 0.05, "left_out": []} | json.loads(info.read_text())["audit"]
    except (ValueError, LookupError, TypeError) as error:
        raise UserError(f"{info} was not written by a build ({error!r}); move it away") from error
