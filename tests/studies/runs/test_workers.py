"""Processes of a sweep: none is left behind, whatever ends it."""

import io
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from dien_fuxictr.studies.runs.workers import Job, run_jobs, run_with_progress

ROOT = Path(__file__).parents[3]
SLEEP = "import os, sys, time\nopen(f'{os.getpid()}.pid', 'w').close()\nprint('asleep', flush=True)\ntime.sleep(60)\n"


def jobs(count: int, *arguments: str) -> dict[str, Job]:
    return {str(i): Job(list(arguments), Path("logs", f"{i}.log")) for i in range(count)}


def wait_for(condition, seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


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
def interrupt(monkeypatch):
    """Ctrl-C once two children run; also where the tests themselves were started with SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def wait_and_kill() -> None:
        wait_for(lambda: len(started()) == 2)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=wait_and_kill)
    thread.start()
    yield
    thread.join()
    signal.signal(signal.SIGINT, before)


def test_a_run_at_a_time_on_each_gpu_index_with_its_share_of_the_cores(script, monkeypatch):
    script(
        "import os, sys, time\nprint(sys.argv[1:], os.environ['OMP_NUM_THREADS'])\ntime.sleep(0.3)\n"
        "open('times.txt', 'a').write(f'{sys.argv[-1]} {time.monotonic()}\\n')"
    )
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("dien_fuxictr.studies.runs.workers._cores", lambda: 6)
    ended = []
    run_jobs(jobs(4, "an argument").items(), [0, 3], lambda name, code: ended.append((name, code)))
    assert sorted(ended) == [(str(i), 0) for i in range(4)]
    assert Path("logs/0.log").read_text() == "['an argument', '--gpu', '0'] 3\n"
    lines = [line.split() for line in Path("times.txt").read_text().splitlines()]
    for gpu in ("0", "3"):
        first, second = [float(moment) for index, moment in lines if index == gpu]
        assert second - first >= 0.3


def test_exit_codes(script):
    script("import os, signal, sys\nif sys.argv[1] == '9': os.kill(os.getpid(), signal.SIGKILL)\nsys.exit(3)")
    codes = []
    run_jobs(jobs(1, "x").items(), [-1], lambda _, code: codes.append(code))
    run_jobs(jobs(1, "9").items(), [-1], lambda _, code: codes.append(code))
    assert codes == [3, -signal.SIGKILL]


@pytest.mark.parametrize("stubborn", [False, True])
def test_interrupt_ends_all_children(script, interrupt, monkeypatch, stubborn):
    script(("import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n" if stubborn else "") + SLEEP)
    monkeypatch.setattr("dien_fuxictr.studies.runs.workers._GRACE_SECONDS", 0.3)
    with pytest.raises(KeyboardInterrupt):
        run_jobs(jobs(3).items(), [-1, -1], lambda *_: None)
    assert len(started()) == 2 and not any(map(alive, started()))
    assert ("KeyboardInterrupt" in Path("logs/0.log").read_text()) == (not stubborn)


def test_jobs_are_asked_for_when_a_worker_is_idle_and_ended_when_they_are_over(script):
    script(SLEEP.replace("60", "float(sys.argv[1])"))
    order: list[str] = []

    def lazily():
        for name, seconds in (("a", "60"), ("b", "0"), ("c", "0")):
            order.append(f"asked for {name}")
            yield name, Job([seconds], Path(f"{name}.log"))

    def is_over(name: str) -> bool:
        return name == "a" and len(order) == 4

    run_jobs(lazily(), [-1, -1], lambda name, code: order.append(f"{name} {code and 'interrupted'}"), is_over)
    assert order == ["asked for a", "asked for b", "b 0", "asked for c", "a interrupted", "c 0"]
    assert "KeyboardInterrupt" in Path("a.log").read_text()


def test_error_in_the_sweep_ends_all_children(script):
    script(SLEEP.replace("60", "60 * int(sys.argv[1])"))

    def fail(*_: object) -> None:
        wait_for(lambda: len(started()) == 2)
        raise OSError

    with pytest.raises(OSError):
        run_jobs([*jobs(1, "0").items(), ("other", Job(["1"], Path("other.log")))], [-1, -1], fail)
    assert not any(map(alive, started()))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent is gone")
def test_killed_sweep_takes_its_children_along(script):
    file = script(SLEEP)
    code = (
        "from pathlib import Path\nfrom dien_fuxictr.studies.runs import workers\n"
        f"workers.SCRIPT = Path({str(file)!r})\n"
        "jobs = {i: workers.Job([], Path('logs', i)) for i in 'ab'}\n"
        "workers.run_jobs(jobs.items(), [-1, -1], lambda *_: None)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)})
    wait_for(lambda: len(started()) == 2)
    parent.kill()
    parent.wait()
    wait_for(lambda: not any(map(alive, started())))


def test_the_bar_of_a_terminal_goes_on_while_a_run_does(script, monkeypatch):
    script("import time\ntime.sleep(2.5)\n")
    shown = io.StringIO()
    shown.isatty = lambda: True
    monkeypatch.setattr("sys.stderr", shown)
    assert run_with_progress(jobs(1), [-1], finished=0) == []
    assert re.search(r"0/1 \[00:0[12]<\?", shown.getvalue())
