"""Processes of a study: none is left behind, whatever ends it."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dien_fuxictr.distributed import run_pool
from dien_fuxictr.distributed.run_pool import Job, Pool, Process, run_jobs

ROOT = Path(__file__).parents[2]
# Short sleeps until a signal: a longer sleep, or a pause, would miss a signal that comes just before it.
WAIT = """
import os, time
open(f"{os.getpid()}.pid", "w").close()
for _ in range(60_000):
    time.sleep(0.01)
"""
SAYS_GOODBYE = """
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
"""


def jobs(count: int, *arguments: str) -> list[Job]:
    return [Job(str(i), list(arguments), Path("logs", f"{i}.log")) for i in range(count)]


def wait_for(condition: Callable[[], bool], seconds: float = 300.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def started() -> list[int]:
    return [int(path.stem) for path in Path().glob("*.pid")]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"


@pytest.fixture
def interrupt() -> Iterator[None]:
    """Send Ctrl-C once two children run, even if the tests ignore SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def wait_and_kill() -> None:
        wait_for(lambda: len(started()) == 2)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=wait_and_kill)
    thread.start()
    yield
    thread.join()
    signal.signal(signal.SIGINT, before)


def test_each_device_has_a_run_and_its_share_of_the_cores(script, monkeypatch):
    script("import os, sys\nprint(sys.argv[1:], os.environ['OMP_NUM_THREADS'])")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(run_pool, "cores", lambda: 6)
    start, on_gpu, ended = Pool.start, {}, []

    def watched(pool: Pool, job: Job, gpu: int) -> Process:
        assert gpu not in on_gpu.values()
        on_gpu[job.name] = gpu
        return start(pool, job, gpu)

    def on_end(name: str, code: int) -> None:
        ended.append((name, on_gpu.pop(name), code))

    monkeypatch.setattr(Pool, "start", watched)
    run_jobs(jobs(5, "an argument"), Pool([0, 3]), on_end)
    assert sorted(name for name, _, _ in ended) == list("01234")
    assert {gpu for _, gpu, _ in ended} == {0, 3} and {code for _, _, code in ended} == {0}
    assert Path("logs/0.log").read_text() == "['an argument', '--gpu', '0'] 3\n"


def test_exit_codes(script):
    script("import os, signal, sys\nif sys.argv[1] == '9': os.kill(os.getpid(), signal.SIGKILL)\nsys.exit(3)")
    codes = []
    run_jobs(jobs(1, "x"), Pool([-1]), lambda _, code: codes.append(code))
    run_jobs(jobs(1, "9"), Pool([-1]), lambda _, code: codes.append(code))
    assert codes == [3, -signal.SIGKILL]


def test_log_is_new_unless_the_run_is_resumed(script):
    script("import sys\nprint(sys.argv[1])")
    for argument, goes_on in (("a", False), ("b", True), ("c", False), ("d", True)):
        run_jobs([Job("x", [argument], Path("x.log"), goes_on)], Pool([-1]), lambda *_: None)
    assert Path("x.log").read_text() == "c\nd\n"


@pytest.mark.parametrize("stubborn", [False, True])
def test_interrupt_ends_all_children(script, interrupt, monkeypatch, stubborn):
    script((SAYS_GOODBYE if not stubborn else "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n") + WAIT)
    monkeypatch.setattr(run_pool, "_GRACE_SECONDS", 0.1 if stubborn else 300)
    with pytest.raises(KeyboardInterrupt):
        run_jobs(jobs(3), Pool([-1, -1]), lambda *_: None)
    assert len(started()) == 2 and not any(map(alive, started()))
    assert ("terminated" in Path("logs/0.log").read_text()) == (not stubborn)


def test_jobs_start_on_idle_devices_and_end_when_over(script, monkeypatch):
    script(SAYS_GOODBYE + "if sys.argv[1] == 'waits':" + WAIT.replace("\n", "\n    "))
    monkeypatch.setattr(run_pool, "_GRACE_SECONDS", 300)
    order: list[str] = []

    def lazily() -> Iterator[Job]:
        for name, what in (("a", "waits"), ("b", ""), ("c", "")):
            order.append(f"asked for {name}")
            yield Job(name, [what], Path(f"{name}.log"))

    def is_over(name: str) -> bool:
        return name == "a" and len(order) == 5 and len(started()) == 1

    run_jobs(lazily(), Pool([-1, -1]), lambda name, code: order.append(f"{name} {code and 'ended'}"), is_over)
    assert order == ["asked for a", "asked for b", "b 0", "asked for c", "c 0", "a ended"]
    assert "terminated" in Path("a.log").read_text()


def test_error_in_the_study_ends_all_children(script):
    script("import sys\nif sys.argv[1] == 'waits':" + WAIT.replace("\n", "\n    "))

    def fail(*_: object) -> None:
        wait_for(lambda: len(started()) == 1)
        raise OSError

    with pytest.raises(OSError):
        run_jobs([*jobs(1, ""), Job("other", ["waits"], Path("other.log"))], Pool([-1, -1]), fail)
    assert len(started()) == 1 and not any(map(alive, started()))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent is gone")
def test_killed_study_takes_its_children_along(script):
    file = script(WAIT)
    code = (
        "import sys\nfrom pathlib import Path\nfrom dien_fuxictr.distributed import run_pool\n"
        f"run_pool.COMMAND = (sys.executable, {str(file)!r})\n"
        "jobs = [run_pool.Job(i, [], Path('logs', i)) for i in 'ab']\n"
        "run_pool.run_jobs(jobs, run_pool.Pool([-1, -1]), lambda *_: None)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)})
    wait_for(lambda: len(started()) == 2)
    parent.kill()
    parent.wait()
    wait_for(lambda: not any(map(alive, started())))


def test_the_package_is_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    if sys.version_info >= (3, 11):
        Path("torch.py").write_text("raise AssertionError('shadows the installed package')")
    codes = []
    run_jobs([Job("help", ["--help"], Path("help.log"))], Pool([-1]), lambda _, code: codes.append(code))
    assert codes == [0] and Path("help.log").read_text().startswith("usage: run_expid.py")
