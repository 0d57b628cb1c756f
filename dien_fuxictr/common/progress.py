"""Progress on stderr: lines and, in a terminal, bars below them."""

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # commands answer before tqdm is imported
    from tqdm import tqdm

_LOCK = threading.RLock()
"""Lock of the bars. tqdm's own is shared with forks: one that is killed while it writes would stop the others."""


def has_terminal() -> bool:
    """Return whether stderr is a terminal, where a bar can be drawn again and again."""
    return sys.stderr is not None and sys.stderr.isatty()


def progress_bar(iterable: Any = None, verbose: int = 1, **options: Any) -> "tqdm[Any]":
    """Return a bar that disappears when it is complete; without a terminal nothing is shown.

    Args:
        iterable: what to go through; None: the caller updates the bar.
        verbose: 0 shows nothing.
        options: of tqdm.
    """
    from tqdm import tqdm

    tqdm.set_lock(_LOCK)
    if not verbose or not has_terminal():
        return tqdm(iterable, disable=True, **options)
    return tqdm(iterable, file=sys.stderr, leave=False, **terminal_size(), **options)


@contextmanager
def stage_bar(stages: int, verbose: int = 1) -> Iterator[Callable[[str], None]]:
    """Show a bar over the stages of a work; yields the function that begins a stage, by its name."""
    form, begun = "{desc} |{bar}| {n_fmt}/{total_fmt} [{elapsed}]", []
    with progress_bar(total=stages, verbose=verbose, bar_format=form) as bar:

        def begin(name: str) -> None:
            bar.update(bool(begun))  # the stage before, if any, has ended
            bar.set_description_str(name)
            begun.append(name)

        yield begin


def terminal_size() -> dict[str, Any]:
    """Return the size for tqdm, which shows nothing if a terminal reports no rows."""
    try:
        is_known = all(os.get_terminal_size(sys.stderr.fileno()))
    except OSError:
        is_known = False
    return {"dynamic_ncols": True} if is_known else {"ncols": 80, "nrows": 24}


def say(line: str) -> None:
    """Print a line on stderr, above the bars; a closed stderr (`2>&1 | head`) does not end the work."""
    with suppress(OSError), above_bars():
        print(line, file=sys.stderr, flush=True)


@contextmanager
def above_bars() -> Iterator[None]:
    """Clear the bars while the block writes to stderr, and draw them again."""
    module = sys.modules.get("tqdm")  # without it there are no bars
    if module:
        module.tqdm.set_lock(_LOCK)
    with module.tqdm.external_write_mode(sys.stderr) if module else nullcontext():
        yield
