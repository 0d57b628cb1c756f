"""Which commit of the code a run has used."""

import subprocess
from pathlib import Path


def revision(folder: Path) -> str | None:
    """Return the commit that is checked out, with "+changes" if files differ from it.

    Only tracked files of the folder count.

    Returns:
        None if git is missing or does not track the folder, as in an unpacked archive, even one inside another
        repository.
    """
    try:
        _git(folder, "ls-files", "--error-unmatch", ".")
        commit = _git(folder, "rev-parse", "HEAD")
        changes = _git(folder, "status", "--porcelain", "--untracked-files=no", ".")
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + ("+changes" if changes else "")


def _git(folder: Path, *arguments: str) -> str:
    # Parallel runs must neither wait for nor break the lock under which `git status` refreshes the index.
    command = ["git", "--no-optional-locks", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
