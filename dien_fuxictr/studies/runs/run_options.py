"""Options of a command that trains many runs: how many at a time, and where."""

import argparse

from dien_fuxictr.experiment.options import add_cluster_option, positive_count


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add `--workers`, `--gpu` and `--cluster`."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--workers",
        type=positive_count,
        metavar="N",
        help="number of parallel runs on the CPU; default 1, or the number of CPUs of --cluster",
    )
    where.add_argument(
        "--gpu",
        type=int,
        nargs="+",
        default=[],
        metavar="N",
        help="indices of GPUs, one run at a time on each; on a machine without a GPU, as many parallel runs on the "
        "CPU; with --cluster an index stands for any GPU",
    )
    add_cluster_option(parser, "run each run as a task")


def describe_runs(command: str, folder: str) -> str:
    """Return the part of a command's help that is about its runs.

    Args:
        command: what the command runs, a comparison or a sweep.
        folder: what its help calls the folder of its files.
    """
    return f"""Started again, {command} skips runs whose result.json has an equal configuration, and continues
interrupted runs. To train a finished run again, delete {folder}/runs/ID. While runs train, stderr shows the last epoch
of each run and its best value of the monitor.

On a cluster, all machines must share the working directory, {folder} and the folders of data sets and checkpoints, at
the same paths. If a task is killed or a machine is lost, the run continues from its saved state on another machine."""
