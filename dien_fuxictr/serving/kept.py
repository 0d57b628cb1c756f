"""The accepted bundle, kept for workers that restart.

A restarted worker loads it, even if the folder has changed. The supervisor holds its files open, so that they stay
available when the folder is replaced or removed, without a copy or a place to write one. A folder of links,
`/proc/<supervisor>/fd/<number>` with the names of the files, can be read as a bundle.
"""

import logging
import os
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path

from .manifest import stated_digest


class Kept:
    """Kept bundle of one server.

    Args:
        folder: folder for the links; it exists, and its owner removes it.

    Attributes:
        link: path of the kept bundle; dangling until there is one.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._files = folder, ExitStack()
        self.link = folder / "accepted"

    def keep(self, bundle: Path, digest: str) -> None:
        """Keep a bundle instead of what was kept before.

        Args:
            bundle: a folder, or a symlink to it. Where it holds something else by now, nothing changes.
            digest: digest of what was accepted.
        """
        if digest == stated_digest(self.link):
            return
        links = Path(tempfile.mkdtemp(prefix="bundle-", dir=self._folder))
        try:
            with ExitStack() as files:
                _hold(bundle, links, files)
                if stated_digest(links) == digest:
                    earlier, self._files = self._files, files.pop_all()
                    self._replace(links)
                    earlier.close()
                    return
        except OSError as error:
            logging.warning(f"bundle {bundle} cannot be kept for a worker that starts again: {error}")
        shutil.rmtree(links)

    def _replace(self, links: Path) -> None:
        earlier = self._folder / os.readlink(self.link) if self.link.is_symlink() else None
        new = links.with_suffix(".link")
        new.symlink_to(links.name)
        os.replace(new, self.link)
        if earlier:
            shutil.rmtree(earlier)


def _hold(bundle: Path, links: Path, files: ExitStack) -> None:
    """Open all files of the current folder, even if it is replaced meanwhile."""
    folder = os.open(bundle, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for place, _, names, there in os.fwalk(".", dir_fd=folder):
            (links / place).mkdir(exist_ok=True)
            for name in names:
                file = os.open(name, os.O_RDONLY | os.O_NONBLOCK, dir_fd=there)
                files.callback(os.close, file)
                (links / place / name).symlink_to(f"/proc/{os.getpid()}/fd/{file}")
    finally:
        os.close(folder)
