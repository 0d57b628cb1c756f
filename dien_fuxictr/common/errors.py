"""Errors that end a command with one clear line, and exit codes."""

import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path

from .command_parser import as_called
from .signals import Terminated, sigterm_raises
from .traceback_file import keep_traceback, summary

REQUIRED = (
    *("fuxictr", "torch", "ray", "polars", "pandas", "pyarrow", "numpy", "sklearn", "scipy", "h5py", "yaml", "tqdm"),
    *("filelock", "pydantic"),
)
"""Modules of the packages in requirements.txt."""


class UserError(ValueError):
    """Error of a wrong input, in one line: what, where, which value, what is allowed.

    Entry scripts print it to stderr as `error: ...` and exit with code 2, without a traceback.
    """


class TrainingError(RuntimeError):
    """Error of a training that cannot continue although its input was valid.

    Examples are a non-finite loss or gradient, or no checkpoint at the end. The entry script prints the message as one
    line and exits with code 1.
    """


def fail(message: str, code: int) -> int:
    """Print the line; returns `code`."""
    print(f"error: {as_called(' '.join(message.split()))}", file=sys.stderr)
    return code


def run_command(
    run: Callable[[], int],
    interrupted: str,
    log: Callable[[], Path | None] = lambda: None,
    tell: Callable[[str, int], int] = fail,
) -> int:
    """Run a command.

    Args:
        run: returns an exit code.
        interrupted: what to say after a Ctrl-C or SIGTERM that says nothing itself.
        log: returns the file for the traceback of an unexpected error; see `keep_traceback`.
        tell: says how it has ended, as `fail` does.

    Returns:
        Its code; 1 for a `TrainingError` or an unexpected error, 2 for bad input, a full disk,
        a file that may not be used or a required package that is not installed, 130 after a Ctrl-C, 143 after SIGTERM.
    """
    with sigterm_raises():
        try:
            return run()
        except UserError as error:
            return tell(str(error), 2)
        except TrainingError as error:
            return tell(str(error), 1)
        except KeyboardInterrupt as error:
            return tell(str(error) or interrupted, 143 if isinstance(error, Terminated) else 130)
        except BrokenPipeError:  # the reader of the output, such as `head`, has closed it
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except Exception as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                return tell(f"cannot write {error.filename or 'a file'}: {error.strerror}", 2)
            if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
                return tell(f"{error.filename or 'a file'}: {error.strerror}", 2)
            if isinstance(error, ModuleNotFoundError) and error.name in REQUIRED:
                remedy = "activate the environment that has the packages of requirements.txt, or install them"
                return tell(f"{error.name} is not installed for {sys.executable}: {remedy}", 2)
            return tell(f"{summary(error)}; the traceback is in {keep_traceback(error, log())}", 1)
