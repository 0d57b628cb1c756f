"""Report an unexpected error: a line for the user, and a file with the traceback."""

import contextlib
import os
import sys
import tempfile
import traceback
from datetime import datetime
from pathlib import Path

_OWN = [Path(__file__).resolve().parents[2] / name for name in ("dien_fuxictr", "model_zoo", "benchmarks", "research")]


def summary(error: Exception) -> str:
    """Return what has happened, and in which function of this project."""
    text = " ".join(str(error).split())[:300]
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame.name for frame in frames if any(Path(frame.filename).is_relative_to(folder) for folder in _OWN)]
    place = own[-1] if own else "a command"
    if _is_out_of_memory(error):
        return f"out of memory while {place} ran{f' ({text})' if text else ''}"
    return f"unexpected {type(error).__name__} in {place}{f': {text}' if text else ''}"


def keep_traceback(error: Exception, log: Path | None) -> str:
    """Append the traceback to a file.

    Args:
        error: with its traceback.
        log: the file; where it is None or cannot be written, `<command>.error.log` in the working directory, else a new
            file in the folder for temporary ones.

    Returns:
        Where it is.
    """
    lines = traceback.format_exception(error)
    text = f"{datetime.now():%Y-%m-%d %H:%M:%S} P{os.getpid()} ERROR {' '.join(sys.argv)}\n{''.join(lines)}"
    program = Path(sys.argv[0])
    name = f"{program.parent.name if program.stem == '__main__' else program.stem}.error"
    for place in (log, Path(f"{name}.log")):
        if place:
            with contextlib.suppress(OSError):
                place.parent.mkdir(parents=True, exist_ok=True)
                with open(place, "a", encoding="utf-8") as file:
                    file.write(text)
                return str(place)
    with contextlib.suppress(OSError):
        with tempfile.NamedTemporaryFile("w", prefix=f"{name}.", suffix=".log", delete=False, encoding="utf-8") as file:
            file.write(text)
        return file.name
    print(text, file=sys.stderr)
    return "the lines above, as no file can be written"


def _is_out_of_memory(error: Exception) -> bool:
    """Return whether the error is a lack of memory, in Python, NumPy, a GPU or torch.

    On the CPU torch has no error class for it.
    """
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "can't allocate memory" in str(error)
    )
