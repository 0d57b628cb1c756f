"""The commands, by the names that they are installed under.

Each is imported while a Ctrl-C ends the process with one line: its own imports take a moment.
"""

from collections.abc import Sequence
from functools import partial
from importlib import import_module

from .common.signals import starting


def _run(module: str, arguments: Sequence[str] | None = None) -> int:
    """Run the `main` of a module; None: with the arguments of the process."""
    with starting():
        main = import_module(module, __package__).main
    return main(arguments)


run_expid = partial(_run, ".experiment.cli")
run_param_tuner = partial(_run, ".studies.sweep.cli")
run_comparison = partial(_run, ".studies.comparison.cli")
run_evolution = partial(_run, ".studies.evolution.cli")
run_serve = partial(_run, ".serving.cli")
build_dataset = partial(_run, ".experiment.build_dataset")
audit_dataset = partial(_run, ".dataset.audit")
