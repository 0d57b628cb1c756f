"""Start commands as forks of a process that has imported torch and the zoo.

The import takes seconds, and the tests start some hundred commands. `sys.executable` of the tests is a *starter*: it
passes its arguments, environment, folder and standard streams to the forking process, tells it of signals, and ends
when the fork ends. Only the forking process sends signals to a fork: it has not waited for the fork yet, so no other
process has its id. Nothing of the project is imported before the fork. Other Python programs start as usual, and so do
all programs if the environment variable `COLD` is set.
"""

import os
import signal
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from subprocess import Popen

ROOT = Path(__file__).parents[2]
SOCKET, COLD = "DIEN_TESTS_SOCKET", "DIEN_TESTS_COLD"
HEAVY = (
    *("torch", "torch._dynamo", "ray.data", "sklearn.metrics", "scipy.sparse", "pandas", "pyarrow.parquet", "h5py"),
    "pydantic",
)
"""The first optimizer imports torch._dynamo, in 2 s. Not polars: it starts a thread, for which a fork would wait."""
PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)


def use(folder: Path) -> "Popen[bytes]":
    """Start the forking process, and make `sys.executable` a starter in the folder.

    The process ends when its standard input is closed.
    """
    import subprocess

    python, starter = sys.executable, folder / "python"
    program = f"import sys\nsys.path.insert(0, {str(Path(__file__).parent)!r})\nimport warm_start\nwarm_start.start()\n"
    starter.write_text(f"#!{python} -IS\n{program}")
    starter.chmod(0o755)
    os.environ[SOCKET] = str(folder / "socket")
    sys.executable = str(starter)
    return subprocess.Popen([python, "-I", __file__], cwd="/", stdin=subprocess.PIPE, start_new_session=True)


def start() -> None:
    """Be the program that was started: by a fork if it is a command of the project."""
    import array
    import json

    arguments = sys.argv[1:]
    if COLD in os.environ or SOCKET not in os.environ or not _is_command(arguments):
        os.execv(sys.executable, [sys.executable, *arguments])
    woken, wakeup = socket.socketpair()
    wakeup.setblocking(False)
    signal.set_wakeup_fd(wakeup.fileno())
    for number in PASSED_ON:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda *_: None)
    server = _connect(os.environ[SOCKET])
    what = json.dumps([arguments, os.getcwd(), dict(os.environ), os.getpid(), os.getppid()]).encode()
    streams = array.array("i", range(3)).tobytes()
    server.sendmsg([len(what).to_bytes(8, "big")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, streams)])
    server.sendall(what)
    for stream in range(3):
        os.close(stream)
    events = DefaultSelector()
    events.register(server, EVENT_READ)
    events.register(woken, EVENT_READ)
    while True:
        for key, _ in events.select():
            if key.fileobj is server:
                _end(int(server.recv(8) or b"1"))
            with suppress(OSError):  # the fork has ended
                server.sendall(woken.recv(64))


def _is_command(arguments: list[str]) -> bool:
    named = [argument for argument in arguments if argument != "-u"]
    if named[:1] == ["-m"]:
        return named[1].startswith(("dien_fuxictr.", "made_build"))
    file = Path(named[0]).resolve() if named else Path()
    return file.suffix == ".py" and (file.parent == ROOT or file.name == "run_expid.py")


def _connect(path: str) -> socket.socket:
    while True:
        server = socket.socket(socket.AF_UNIX)
        try:
            server.connect(path)
            return server
        except OSError:
            server.close()
            time.sleep(0.02)


def _end(code: int) -> NoReturn:
    if code < 0:
        signal.set_wakeup_fd(-1)
        with suppress(OSError):  # SIGKILL has no handler
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


def serve() -> None:
    """Fork for each starter, until the standard input is closed."""
    path = os.environ[SOCKET]
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"{path}.new")
    listener.listen(64)
    os.rename(f"{path}.new", path)
    woken, wakeup = socket.socketpair()
    wakeup.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wakeup.fileno())
    events = DefaultSelector()
    for end in (listener, woken, sys.stdin):
        events.register(end, EVENT_READ)
    forks: dict[int, socket.socket] = {}
    while sys.stdin:
        ready = {key.fileobj for key, _ in events.select()}
        if sys.stdin in ready:
            break
        if woken in ready:
            woken.recv(64)
        while forks and (ended := os.waitpid(-1, os.WNOHANG))[0]:
            starter = forks.pop(ended[0])
            with suppress(OSError):
                starter.sendall(b"%8d" % os.waitstatus_to_exitcode(ended[1]))
            if starter in events.get_map():
                events.unregister(starter)
            starter.close()
        for fork, starter in forks.items():
            if starter in ready:
                numbers = _numbers(starter)
                for number in numbers:
                    os.kill(fork, number)
                if not numbers:  # it was killed
                    events.unregister(starter)
                    _kill(fork)
        if listener in ready:
            for name in HEAVY:  # when a caller asks
                __import__(name)
            starter, _ = listener.accept()
            process, streams = _hear(starter)
            if not (fork := os.fork()):
                signal.set_wakeup_fd(-1)
                for end in (events, listener, woken, wakeup, starter, *forks.values()):
                    end.close()
                _become(*process, streams)
            for stream in streams:
                os.close(stream)
            forks[fork] = starter
            events.register(starter, EVENT_READ)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for fork in forks:
        _kill(fork)


def _numbers(starter: socket.socket) -> bytes:
    """Return the signals that a starter has received; none if it has ended."""
    try:
        return starter.recv(64)
    except ConnectionError:
        return b""


def _kill(fork: int) -> None:
    """Kill a fork that is not waited for yet, and the processes of its session.

    The session may not have begun yet.
    """
    os.kill(fork, signal.SIGKILL)
    with suppress(ProcessLookupError):
        os.killpg(fork, signal.SIGKILL)


def _hear(starter: socket.socket) -> tuple[list, list[int]]:
    import json

    size, streams, *_ = socket.recv_fds(starter, 8, 3)
    said = b""
    while len(said) < int.from_bytes(size, "big"):
        said += starter.recv(1 << 20)
    return json.loads(said), list(streams)


def _become(
    arguments: list[str], folder: str, environment: dict[str, str], own: int, parent: int, streams: list[int]
) -> NoReturn:
    """Run a command in this fork as if it had been started with this.

    Other processes know it by the id of its starter.
    """
    import atexit
    import runpy
    import threading

    import torch

    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    os.getpid, os.getppid = lambda: own, lambda: parent
    is_unbuffered = arguments[0] == "-u"
    for number, (name, stream) in enumerate(zip(("stdin", "stdout", "stderr"), streams, strict=True)):
        os.dup2(stream, number)
        os.close(stream)
        file = open(number, "rw"[number > 0], encoding="utf-8", closefd=False, errors="backslashreplace")  # noqa: SIM115
        file.reconfigure(line_buffering=number == 2 or file.isatty(), write_through=is_unbuffered)
        setattr(sys, name, file)
        setattr(sys, f"__{name}__", file)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", len(os.sched_getaffinity(0)))))
    sys.dont_write_bytecode = "PYTHONDONTWRITEBYTECODE" in environment
    sys.argv = arguments[is_unbuffered:]
    sys.executable = str(Path(environment[SOCKET]).with_name("python"))
    sys.path[:0] = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    code = 0
    try:
        if sys.argv[0] == "-m":
            if not environment.get("PYTHONSAFEPATH"):
                sys.path.insert(0, folder)
            runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
        else:
            sys.path.insert(0, str(Path(sys.argv[0]).resolve().parent))
            runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as end:
        code = int(end.code or 0)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.raise_signal(signal.SIGINT)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    serve()
