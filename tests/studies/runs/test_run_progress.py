"""Progress of running runs, in a terminal and in a file."""

import io
import json
from pathlib import Path

import pytest

from dien_fuxictr.distributed.run_pool import Pool
from dien_fuxictr.experiment.training.resume import as_text
from dien_fuxictr.studies.runs import run_progress
from dien_fuxictr.studies.runs.run import Run
from dien_fuxictr.studies.runs.run_progress import RunProgress, describe_progress, run_with_progress

PARAMS = {"model_root": "models", "dataset_id": "d", "epochs": 8}
# Two evaluations; between them it waits until the first was shown.
EVALUATIONS = """
import json, os, sys, time
os.makedirs(sys.argv[6])
for epoch, monitor in ((1, 0.7), (2, 0.6)):
    with open(sys.argv[6] + "/curve.jsonl", "a") as curve:
        curve.write(json.dumps({"step": epoch, "epoch": epoch, "monitor": monitor}) + "\\n")
    for _ in range(30_000):
        if os.path.exists("shown"):
            break
        time.sleep(0.01)
    else:
        sys.exit("it was not shown")
with open(sys.argv[6] + "/result.json", "w") as result:
    json.dump({"config": CONFIG}, result)
"""


def made(expid: str, **params: object) -> Run:
    return Run(expid, PARAMS | params, Path("config"), Path("study"))


def points(*values: float) -> list[dict[str, float]]:
    return [{"step": 10 * epoch, "epoch": epoch, "monitor": value} for epoch, value in enumerate(values, 1)]


def write(run: Run, *values: float) -> None:
    run.report.mkdir(parents=True, exist_ok=True)
    run.curve.write_text("".join(f"{json.dumps(point)}\n" for point in points(*values)))


def finish(run: Run) -> None:
    run.report.mkdir(parents=True, exist_ok=True)
    (run.report / "result.json").write_text(json.dumps({"config": as_text(run.params)}))


class Shown(io.StringIO):
    """Replaces stderr; creates the file `shown` after the first text."""

    def __init__(self, is_terminal: bool = False, awaited: str = "-") -> None:
        super().__init__()
        self.isatty = lambda: is_terminal
        self.awaited = awaited

    def write(self, text: str) -> int:
        if self.awaited in text:
            Path("shown").touch()
        return super().write(text)


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("params", "values", "text"),
    [
        ({}, [0.5, 0.7, 0.6], "epoch 3/8, AUC 0.6000, best 0.7000 in epoch 2"),
        (
            {"monitor_mode": "min", "monitor": "logloss"},
            [0.5, 0.7],
            "epoch 2/8, logloss 0.7000, best 0.5000 in epoch 1",
        ),
        ({"monitor": {"AUC": 1, "logloss": -1}}, [0.1], "epoch 1/8, AUC+logloss 0.1000, best 0.1000 in epoch 1"),
        ({}, [float("nan")], "epoch 1/8, AUC nan"),
        ({}, [0.5, float("nan")], "epoch 2/8, AUC nan, best 0.5000 in epoch 1"),
    ],
)
def test_the_last_epoch_and_the_best_so_far(params: dict, values: list[float], text: str) -> None:
    assert describe_progress(made("a", **params), points(*values)) == text


@pytest.mark.parametrize("is_terminal", [False, True])
def test_a_running_run_is_shown_as_it_writes(script, monkeypatch, is_terminal: bool) -> None:
    script(EVALUATIONS.replace("CONFIG", repr(as_text(PARAMS))))
    shown = Shown(is_terminal, awaited="a: epoch 1/8, AUC 0.7000, best 0.7000 in epoch 1")
    monkeypatch.setattr("sys.stderr", shown)
    assert run_with_progress([made("a")], Pool([-1]), finished=2) == []
    assert "epoch 2/8, AUC 0.6000, best 0.7000 in epoch 1" in shown.getvalue() and "3/3" in shown.getvalue()


def test_a_file_gets_a_line_an_event(capsys: pytest.CaptureFixture[str]) -> None:
    a, b = made("a"), made("b")
    with RunProgress(4, 1) as progress:
        progress.start(a)
        progress.start(b)
        write(a, 0.5)
        for _ in range(3):
            progress.poll()
        write(a, 0.5, 0.6, 0.7)
        progress.poll()
        write(b, 0.5)
        progress.end("b", 0, "pruned", pruned=1)
        finish(a)
        progress.end("a", 0, finished=4)
    assert capsys.readouterr().err.splitlines() == [
        "a: started",
        "b: started",
        "a: epoch 1/8, AUC 0.5000, best 0.5000 in epoch 1",
        "a: epoch 3/8, AUC 0.7000, best 0.7000 in epoch 3",
        "b: epoch 1/8, AUC 0.5000, best 0.5000 in epoch 1",
        "b: pruned; 2/4 runs, pruned 1",
        "a: finished; 4/4 runs, pruned 1",
    ]


@pytest.mark.parametrize(("code", "how"), [(3, "exit code 3"), (-9, "killed by SIGKILL"), (0, "without a result")])
def test_a_failure_is_shown_with_the_end_of_its_log(capsys: pytest.CaptureFixture[str], code: int, how: str) -> None:
    with RunProgress(2, 0) as progress:
        log = progress.start(made("a")).log
        log.parent.mkdir(parents=True)
        log.write_text("\n".join(f"line {i}" for i in range(9)) + "\n0%|\r50%|\r100%|\nerror: a reason\n")
        if code:
            finish(made("a"))
        progress.end("a", code)
    assert progress.failed == ["a"]
    _, first, *lines, last = capsys.readouterr().err.splitlines()
    assert first == f"failed: a, {how}; the end of {log}:" and last == "a: failed; 1/2 runs, failed 1"
    assert lines == [f"    {text}" for text in (*(f"line {i}" for i in range(3, 9)), "100%|", "error: a reason")]


def test_a_terminal_has_a_row_for_each_running_run(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Shown(is_terminal=True)
    monkeypatch.setattr("sys.stderr", shown)

    def new() -> str:
        text = shown.getvalue()
        shown.seek(0)
        shown.truncate()
        return text

    with RunProgress(3, 0) as progress:
        finish(made("a"))
        progress.start(made("a"))
        progress.start(made("b"))
        assert "0/3" in (text := new()) and text.index("a: started") < text.index("\n\r  b: started")
        progress.end("a", 0)
        assert "1/3" in new()
        progress.start(made("c"))
        assert "\r\x1b[A\n\r  c: started" in new()  # in the row of a
        write(made("b"), *[0.5] * 3)
        progress.poll()
        assert "\n\n\r  b: epoch 3/8" in new()
        progress.start(made("x" * 150))
        assert 0 < new().count("x") < 80  # as wide as the terminal


def test_clock_of_a_terminal_advances_during_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    shown, now = Shown(is_terminal=True), [100.0]
    monkeypatch.setattr("sys.stderr", shown)
    monkeypatch.setattr(run_progress, "monotonic", lambda: now[0])
    with RunProgress(1, 0) as progress:
        before = len(shown.getvalue())
        progress.poll()
        assert len(shown.getvalue()) == before
        now[0] = 101.5
        progress.poll()
        assert "0/1" in shown.getvalue()[before:]
