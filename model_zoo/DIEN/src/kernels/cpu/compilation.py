"""Compile the kernels with the system's C++ compiler, once per machine.

This happens on first use. The result is kept in the user's cache. A library of the cache runs with the permissions of
the user, so no other user may be able to write there.
"""

import hashlib
import logging
import os
import platform
import shlex
import shutil
import stat
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from filelock import FileLock

SOURCES = sorted(path for path in Path(__file__).parent.iterdir() if path.suffix in (".cpp", ".h"))
# Not -ffast-math: a library linked with it turns off denormal numbers in the whole process.
FLAGS = [
    "-O3",
    "-std=c++17",
    "-ffp-contract=fast",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-shared",
    "-fPIC",
    "-march=native" if platform.machine().lower() in ("x86_64", "amd64", "i686") else "-mcpu=native",
]
OPENMP = "-fopenmp"


def build() -> Path:
    """Return the library for this machine, compiled unless the cache has it.

    `CXX` names the compiler, else it is c++, g++ or clang++; `DIEN_CXXFLAGS` adds to its flags.

    Raises:
        RuntimeError: there is no compiler, it fails, or no cache folder is writable by this user alone.
    """
    command = [*_compiler(), *FLAGS, *shlex.split(os.environ.get("DIEN_CXXFLAGS", ""))]
    # The macros that a compiler defines identify its version, and what -march=native means on this machine.
    macros = _run([*command, "-dM", "-E", "-x", "c++", os.devnull])
    cache = _cache()
    library = _find(cache, _key(command, macros, OPENMP))
    if library:
        return library
    try:
        openmp = OPENMP if _links(command, OPENMP, cache) else ""
        key = _key(command, macros, openmp)
        with FileLock(cache / f"{key}.lock"):
            return _find(cache, key) or _compile([*command, *([openmp] if openmp else [])], cache, key)
    except OSError as error:
        raise RuntimeError(f"The compiled kernels cannot be written to {cache}: {error}") from error


def _cache() -> Path:
    """Return the folder of the libraries, and create it if it does not exist.

    Raises:
        RuntimeError: it cannot be created, or other users may write to it.
    """
    base = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    if not base.is_absolute():  # without a home directory, ~ is not expanded
        raise RuntimeError(f"Compiled kernels are not kept in {base}: XDG_CACHE_HOME must be an absolute path.")
    cache = base / "dien-fuxictr"
    try:
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        is_own = _is_own(cache)
    except OSError as error:
        raise RuntimeError(
            f"The folder of compiled kernels, {cache}, cannot be made: {error}. Name one of yours in XDG_CACHE_HOME."
        ) from error
    if not is_own:
        raise RuntimeError(
            f"{cache} is a link, belongs to another user or may be written by others, so that what is in it may not be "
            "what was compiled. Remove it, or name another folder in XDG_CACHE_HOME."
        )
    return cache


def _is_own(path: Path) -> bool:
    """Return whether only this user may write to the path, and it is not a link."""
    status = path.lstat()
    mine = not hasattr(os, "getuid") or status.st_uid == os.getuid()
    return mine and not stat.S_ISLNK(status.st_mode) and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _compiler() -> list[str]:
    named = shlex.split(os.environ.get("CXX", ""))
    for name, *arguments in [named] if named else [["c++"], ["g++"], ["clang++"]]:
        if path := shutil.which(name):
            return [path, *arguments]
    missing = f"CXX={named[0]!r}" if named else "any of c++, g++, clang++"
    raise RuntimeError(
        f"The compiled backend needs a C++ compiler, and {missing} is not found. Install one (Debian, Ubuntu: "
        "apt install g++; macOS: xcode-select --install; conda: conda install cxx-compiler) or name yours in CXX."
    )


def _key(command: list[str], macros: str, openmp: str) -> str:
    digest = hashlib.sha256()
    for part in (*command, openmp, macros, *(path.name + path.read_text(encoding="utf-8") for path in SOURCES)):
        digest.update(part.encode() + b"\0")
    return f"kernels-{digest.hexdigest()[:16]}"


def _content(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _find(cache: Path, key: str) -> Path | None:
    # The name ends with a digest of the file: an incomplete library can crash the process that loads it.
    own = filter(_is_own, cache.glob(f"{key}-*.so"))
    whole = (path for path in own if path.stem == f"{key}-{_content(path)}")
    return next(whole, None)


def _links(command: list[str], flag: str, cache: Path) -> bool:
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        arguments = [*command, flag, "-x", "c++", os.devnull, "-o", f"{folder}/empty.so"]
        return subprocess.run(arguments, capture_output=True).returncode == 0


def _compile(command: list[str], cache: Path, key: str) -> Path:
    threads = "with OpenMP" if OPENMP in command else "without OpenMP, for one thread"
    screen = {"screen": "  compiling the kernels, once for this machine"}
    logging.info(
        "Compiling the kernels with %s (%s) into %s, once for this machine", command[0], threads, cache, extra=screen
    )
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        new = Path(folder) / "new.so"
        sources = [path for path in SOURCES if path.suffix == ".cpp"]
        objects = [f"{folder}/{path.stem}.o" for path in sources]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(lambda source, to: _run([*command, "-c", str(source), "-o", to]), sources, objects))
        _run([*command, *objects, "-o", str(new)])
        new.chmod(0o700)  # independent of the umask: a file that others may write is never loaded
        return new.replace(cache / f"{key}-{_content(new)}.so")


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{shlex.join(command)} failed:\n{done.stderr[-2000:]}")
    return done.stdout
