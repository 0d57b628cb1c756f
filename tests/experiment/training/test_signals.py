"""Ctrl-C and SIGTERM in a training: finish the step, save, and resume exactly."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from made_training import assert_equal

from dien_fuxictr import open_experiment
from dien_fuxictr.common.signals import Terminated, sigterm_raises
from dien_fuxictr.experiment.report import Report, read_curve
from dien_fuxictr.experiment.training import checkpoint, run_state, trainer
from dien_fuxictr.experiment.training.observer import Observer

ROOT = Path(__file__).parents[3]
SETTINGS = {"eval_steps": 5, "learning_rate": 0.1, "net_dropout": 0.4}


@pytest.fixture(autouse=True)
def usual_handler():
    """Install the default handlers, whatever the tests or Ray have set."""
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def whole(workspace) -> dict[str, torch.Tensor]:
    """Return the weights of an uninterrupted run, and remove its files."""
    open_experiment("Tiny_test", overrides=SETTINGS).fit()
    weights = checkpoint.load(workspace.file(".model"))
    for path in workspace.file(".model").parent.iterdir():
        path.unlink()
    return weights


class At(Observer):
    """Sends this process a signal in a step, or while an evaluation is noted."""

    def __init__(self, number: int, step: int, evaluation: int = 0) -> None:
        self.number, self.at_step, self.at_evaluation = number, step, evaluation

    def step(self, step: int, *_: object) -> None:
        if step == self.at_step:
            os.kill(os.getpid(), self.number)

    def evaluation(self, step: int, *_: object) -> None:
        if step == self.at_evaluation:
            os.kill(os.getpid(), self.number)

    def close(self) -> None:
        pass


def weights_of_the_resumed(workspace) -> dict[str, torch.Tensor]:
    open_experiment("Tiny_test", overrides=SETTINGS).fit(resume=True)
    return checkpoint.load(workspace.file(".model"))


def steps_saved(workspace) -> tuple[int, int]:
    """Return the state's numbers of all steps and of steps since an evaluation."""
    progress = checkpoint.load(workspace.file(".resume"))["progress"]
    return progress["total_steps"], progress["loss_steps"]


@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)])
@pytest.mark.parametrize(
    ("step", "evaluation", "saved"),
    [
        (2, 0, (2, 2)),  # before the first evaluation
        (5, 0, (5, 5)),  # an evaluation is due
        (7, 0, (7, 2)),  # the last one of an epoch
        (21, 0, (21, 1)),  # the last one of all
        (0, 10, (10, 0)),  # when the metrics are computed
    ],
)
def test_a_resumed_run_equals_a_whole_one(workspace, whole, number, error, step, evaluation, saved):
    with pytest.raises(KeyboardInterrupt, match="the state is saved, --resume continues it") as ended:
        open_experiment("Tiny_test", overrides=SETTINGS).fit(observers=[At(number, step, evaluation)])
    assert type(ended.value) is error and steps_saved(workspace) == saved
    assert_equal(weights_of_the_resumed(workspace), whole)


@pytest.mark.parametrize("at_the_end_of_an_epoch", [False, True])
def test_an_evaluation_is_broken_off_and_done_again(workspace, whole, monkeypatch, at_the_end_of_an_epoch):
    settings = SETTINGS | ({"eval_steps": 7} if at_the_end_of_an_epoch else {})
    if at_the_end_of_an_epoch:
        open_experiment("Tiny_test", overrides=settings).fit()
        whole = checkpoint.load(workspace.file(".model"))
    report = Report(workspace.folder / "report")
    evaluate, calls = trainer.evaluate, []

    def interrupted(*arguments):
        calls.append(evaluate(*arguments))
        if len(calls) == 2:
            torch.rand(3)  # a loader may have drawn
            os.kill(os.getpid(), signal.SIGTERM)
        return calls[-1]

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "evaluate", interrupted)
        with pytest.raises(Terminated):
            open_experiment("Tiny_test", overrides=settings).fit(observers=[report])
    steps = settings["eval_steps"]
    assert steps_saved(workspace) == (2 * steps, steps)
    open_experiment("Tiny_test", overrides=settings).fit(resume=True, observers=[Report(workspace.folder / "report")])
    assert_equal(checkpoint.load(workspace.file(".model")), whole)
    curve = read_curve(workspace.folder / "report" / "curve.jsonl")
    assert [point["step"] for point in curve] == list(range(steps, 22, steps))
    assert [point["epoch"] for point in curve] == ([1, 2, 3] if at_the_end_of_an_epoch else [1, 2, 3, 3])


def test_as_the_next_epoch_begins(workspace, whole, monkeypatch):
    run = open_experiment("Tiny_test", overrides=SETTINGS)
    order, epochs = run_state.RunState.paused, []

    def began(self):
        epochs.append(self.progress.epoch)
        if self.progress.batches_done == 0 and self.progress.epoch == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return order(self)

    with monkeypatch.context() as patch:
        patch.setattr(run_state.RunState, "paused", began)
        with pytest.raises(Terminated):
            run.fit()
    assert steps_saved(workspace) == (7, 2)
    assert_equal(weights_of_the_resumed(workspace), whole)


def test_while_the_zoo_makes_the_optimizer(workspace, monkeypatch):
    class Late(torch.optim.Adam):
        def __init__(self, *arguments, **keywords):
            os.kill(os.getpid(), signal.SIGTERM)
            super().__init__(*arguments, **keywords)

    monkeypatch.setattr(torch.optim, "Adam", Late)
    with sigterm_raises(), pytest.raises(Terminated):
        open_experiment("Tiny_test", overrides=SETTINGS).fit()


def test_signal_before_first_step_keeps_earlier_files(workspace, monkeypatch):
    open_experiment("Tiny_test", overrides=SETTINGS).fit()
    files = {path: path.read_bytes() for path in workspace.file(".model").parent.iterdir()}
    allowed = run_state.DeferredSignals.allowed

    def signalled(self):
        os.kill(os.getpid(), signal.SIGTERM)
        return allowed(self)

    monkeypatch.setattr(run_state.DeferredSignals, "allowed", signalled)
    with pytest.raises(Terminated) as ended:
        open_experiment("Tiny_test", overrides=SETTINGS).fit()
    assert str(ended.value) == ""
    assert {path: path.read_bytes() for path in workspace.file(".model").parent.iterdir()} == files


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_while_the_state_is_saved(workspace, whole, monkeypatch, second):
    """Ignore SIGTERM; end at once on Ctrl-C, with the state of the last evaluation."""
    replace = os.replace

    def signalled(source, target):
        if Path(target).suffix == ".resume" and run.progress_of_now().total_steps == 8:
            os.kill(os.getpid(), second)
        replace(source, target)

    save = run_state.RunState.save

    def watched(self):
        run.progress_of_now = lambda: self.progress
        save(self)

    run = open_experiment("Tiny_test", overrides=SETTINGS)
    with monkeypatch.context() as patch:
        patch.setattr(run_state.RunState, "save", watched)
        patch.setattr(os, "replace", signalled)
        with pytest.raises(KeyboardInterrupt) as ended:
            run.fit(observers=[At(signal.SIGTERM, 8)])
    assert (type(ended.value) is Terminated) == (second == signal.SIGTERM)
    assert steps_saved(workspace) == ((8, 3) if second == signal.SIGTERM else (5, 0))
    assert not list(workspace.file(".resume").parent.glob("*.tmp"))
    assert_equal(weights_of_the_resumed(workspace), whole)


def test_a_handler_of_the_program_stays(workspace):
    came = []
    signal.signal(signal.SIGTERM, lambda *_: came.append(True))
    try:
        open_experiment("Tiny_test", overrides=SETTINGS).fit(observers=[At(signal.SIGTERM, 2)])
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    assert came == [True]


def start(workspace, *command: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=workspace.folder,
        env={**os.environ, "PYTHONPATH": str(workspace.folder), "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        start_new_session=True,
    )


def wait_for(condition, process) -> None:
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_command_in_its_first_epoch(workspace, number, code):
    workspace.write_configs({"Tiny_test": {"epochs": 2, "fault": "slow"}, "whole": {"epochs": 2}})
    assert workspace.run(expid="whole") == 0
    process = start(workspace, str(ROOT / "run_expid.py"), "--expid", "Tiny_test")
    wait_for(workspace.file(".log").exists, process)
    process.send_signal(number)
    _, error = process.communicate()
    assert process.returncode == code
    assert error.splitlines()[-1] == "error: interrupted; the state is saved, --resume continues it"
    assert 0 < steps_saved(workspace)[0] < 7 and "Traceback" not in error
    assert workspace.run("--resume") == 0
    assert_equal(checkpoint.load(workspace.file(".model")), checkpoint.load(workspace.file(".model", "whole")))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_all_processes_of_a_command(workspace, number, code):
    """Signal all processes of a command, including those that load batches.

    Slurm does so for SIGTERM, a terminal for Ctrl-C.
    """
    workspace.write_configs({"Tiny_test": {"epochs": 2, "fault": "slow", "num_workers": 2}})
    process = start(workspace, str(ROOT / "run_expid.py"), "--expid", "Tiny_test")
    wait_for(workspace.file(".log").exists, process)
    os.killpg(process.pid, number)
    _, error = process.communicate()
    assert process.returncode == code, error
    assert error.splitlines()[-1] == "error: interrupted; the state is saved, --resume continues it"
    assert workspace.run("--resume") == 0


def test_a_loader_that_fails_between_steps_after_a_signal(workspace, whole, monkeypatch):
    """Fail like torch's loader when a signal has ended its process."""
    fetched = run_state.RunState._fetched

    def fails(self, batches):
        def failing():
            for batch in batches:
                yield batch
                if self.progress.total_steps == 2:
                    os.kill(os.getpid(), signal.SIGTERM)
                    raise RuntimeError("DataLoader worker exited unexpectedly")

        return fetched(self, failing())

    with monkeypatch.context() as patch:
        patch.setattr(run_state.RunState, "_fetched", fails)
        with pytest.raises(Terminated):
            open_experiment("Tiny_test", overrides=SETTINGS).fit()
    assert steps_saved(workspace) == (2, 2)
    assert_equal(weights_of_the_resumed(workspace), whole)


def test_sweep_interrupts_and_continues_its_runs(workspace):
    workspace.write_configs({expid: {"epochs": 4, "fault": "held"} for expid in ("one", "two")})
    command = [str(ROOT / "run_param_tuner.py"), "--config", "config", "--workers", "2"]
    process = start(workspace, *command)
    logs = [workspace.file(".log", expid) for expid in ("one", "two")]
    wait_for(lambda: all(log.exists() for log in logs), process)
    process.send_signal(signal.SIGTERM)
    (workspace.folder / "go").touch()
    _, error = process.communicate()
    assert process.returncode == 143
    assert error.splitlines()[-1] == "error: interrupted; the same command continues with what is left"
    assert all(workspace.file(".resume", expid).exists() for expid in ("one", "two"))
    process = start(workspace, *command)
    _, error = process.communicate()
    assert process.returncode == 0, error
    assert error.count("continues") == 2
    assert all("Resume training @epoch" in log.read_text() for log in logs)
