"""The options of a command that trains many runs: how many at a time, and where."""

import argparse

from dien_fuxictr.experiment.options import add_cluster_option, positive_count


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add `--workers`, `--gpu` and `--cluster`."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--workers",
        type=positive_count,
        metavar="N",
        help="runs at a time on the CPU; default 1, or as many as the CPUs of --cluster",
    )
    where.add_argument(
        "--gpu",
        type=int,
        nargs="+",
        default=[],
        metavar="N",
        help="one run at a time on each of these GPUs, or as many on the CPU if this machine has no GPU; with "
        "--cluster any GPU for each",
    )
    add_cluster_option(parser, "each run is a task")


def describe_runs(command: str, folder: str) -> str:
    """Return the part of a command's help that is about its runs.

    Args:
        command: what the command runs, a comparison or a sweep.
        folder: what its help calls the folder of its files.
    """
    return f"""Run again, {command} skips the runs whose result.json is of the same configuration, and goes on with
those that were interrupted. To train a finished run anew, delete {folder}/runs/ID. While runs train, stderr shows the
last epoch and the best value of the monitor of each.

On a cluster all machines share the working directory, {folder} and the folders of data sets and checkpoints, at the
same paths. A run whose task is killed, or whose machine is lost, goes on from its state elsewhere."""
