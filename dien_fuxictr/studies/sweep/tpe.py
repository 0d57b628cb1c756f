"""`--search tpe`: Optuna proposes runs, prunes bad ones, and remembers all.

The study is a journal in the sweep's folder, which processes and machines may share, or in a database. The process that
runs a trial holds a lock on a file until it has told the study how the trial ended. A trial that runs in the study but
whose lock is free was therefore interrupted, and continues unchanged: with the same parameters, the same id and the
resume state of its run. A database may have trials whose locks and states are on other disks; those trials are left to
the commands there.
"""

import warnings
from collections import Counter
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import optuna
from filelock import FileLock, Timeout
from optuna.exceptions import OptunaError
from optuna.storages import JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.common.files import write_atomic
from dien_fuxictr.common.pictures import default_style
from dien_fuxictr.distributed.run_pool import Job, Pool, run_jobs
from dien_fuxictr.experiment.configuration.paths import resolve_paths
from dien_fuxictr.experiment.configuration.yaml_files import write_config
from dien_fuxictr.experiment.contract import check_configuration

from ..runs.run import Curve, Run, check_monitor, load_runs
from ..runs.run_progress import RunProgress
from .grid import Tuner, digest, enumerate_space
from .space import Choices, Range

RANDOM_TRIALS = 5  # before the sampler has something to learn from
_FIRST_PRUNED = 2  # evaluation; the first one says little about the last
_FIXED = ("monitor", "monitor_mode", "metrics")


@dataclass
class _Running:
    trial: Trial
    run: Run
    lock: FileLock
    curve: Curve
    is_pruned: bool = False


class TpeSweep:
    """TPE sweep over the space of a tuner file, which continues an earlier one.

    Args:
        tuner: what varies.
        total: trials of the study; those that failed before now do not count.
        storage: URL of the database that has the study; None: the journal.

    Raises:
        UserError: nothing varies, a value that is not allowed, a study that cannot be read, or a file of the data that
            is missing while trials are left.
    """

    def __init__(self, tuner: Tuner, total: int, storage: str | None = None) -> None:
        self.tuner, self.total = tuner, total
        params = _check(tuner)
        self._seed = int(params["seed"])
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        tuner.folder.mkdir(parents=True, exist_ok=True)
        # a grid's file, which would override the trials' files in folders
        for kind in ("model_config", "dataset_config"):
            (tuner.folder / f"{kind}.yaml").unlink(missing_ok=True)
        fixed = {key: value for key, value in tuner.base.params.items() if key not in tuner.space}
        name = f"{tuner.name}_{digest([fixed, tuner.entry, repr(tuner.space)])}"
        self.place = hide_password(storage) if storage else str(tuner.folder / "study.journal")
        try:
            self.study = optuna.create_study(
                storage=RDBStorage(storage) if storage else JournalStorage(JournalFileBackend(self.place)),
                pruner=optuna.pruners.MedianPruner(RANDOM_TRIALS - 1, n_warmup_steps=_FIRST_PRUNED),
                study_name=name,
                direction="minimize" if params.get("monitor_mode") == "min" else "maximize",
                load_if_exists=True,
            )
        except (OSError, ValueError, KeyError, RuntimeError, OptunaError, SQLAlchemyError) as error:
            raise UserError(f"{self.place} is not readable as a study: {error}") from error
        except ImportError as error:
            raise UserError(f"--storage {self.place} needs a package of its database: {error}") from error
        self._locks = tuner.folder / "locks"
        self._locks.mkdir(exist_ok=True)
        self._mutex = FileLock(self._locks / f"{name}.lock")
        self._disk = self._name_of_disk() if storage else None
        self._running: dict[str, _Running] = {}
        self._failed_before = {trial.number for trial in self._trials() if trial.state == TrialState.FAIL}
        if len(self._counted()) < total:
            resolve_paths(deepcopy(params), tuner.folder)

    def run(self, pool: Pool) -> list[str]:
        """Run what is left of the trials, one at a time on each device.

        Returns:
            Ids of the failed runs.
        """
        with RunProgress(self.total, self._ended()) as self._progress:
            try:
                run_jobs(self._jobs(), pool, self._on_end, self._is_over, self._progress.poll)
            finally:
                for running in self._running.values():
                    running.lock.release()
        return self._progress.failed

    def runs(self) -> list[Run]:
        """Return the runs of all trials; write those that come from elsewhere first."""
        trials = {trial.user_attrs["expid"]: trial for trial in self._trials() if "expid" in trial.user_attrs}
        for expid, trial in trials.items():
            if not (self.tuner.folder / "model_config" / f"{expid}.yaml").is_file():
                self._write(Trial(self.study, trial._trial_id))
        return [run for run in load_runs(self.tuner.folder) if run.expid in trials] if trials else []

    def summary(self) -> str:
        """Describe how the trials have ended."""
        words = {
            TrialState.COMPLETE: "finished",
            TrialState.PRUNED: "pruned",
            TrialState.FAIL: "failed",
            TrialState.RUNNING: "not over",
        }
        counts = Counter(trial.state for trial in self._trials())
        listed = ", ".join(f"{counts[state]} {word}" for state, word in words.items() if counts[state])
        return f"{counts.total()} trials{f' ({listed})' if listed else ''}"

    def _trials(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False)

    def _counted(self) -> list[FrozenTrial]:
        waiting = TrialState.WAITING  # between the two lines of _claim that begin a study
        return [t for t in self._trials() if t.number not in self._failed_before and t.state != waiting]

    def _ended(self) -> int:
        """Return the number of trials that have ended, those of other processes included."""
        return sum(trial.state.is_finished() for trial in self._counted())

    def _jobs(self) -> Iterator[Job]:
        while claimed := self._claim():
            trial, lock = claimed
            # The seed is the trial's number, so that an interruption does not change its draws.
            seed = int(digest([self._seed, trial.number]), 16)
            self.study.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=RANDOM_TRIALS)
            run = self._write(trial)
            self._running[run.expid] = _Running(trial=trial, run=run, lock=lock, curve=Curve(run.curve))
            job = self._progress.start(run)
            if run.result:  # finished, but killed before it was reported to the study
                self._on_end(run.expid, 0)
            else:
                yield job

    def _claim(self) -> tuple[Trial, FileLock] | None:
        """Return an interrupted or new trial with its lock; None if there is none left."""
        with self._mutex:
            for trial in self._trials():
                if trial.state == TrialState.RUNNING and trial.user_attrs.get("disk") == self._disk:
                    lock = self._lock(trial.number)
                    try:
                        lock.acquire(timeout=0)
                    except Timeout:
                        continue
                    return Trial(self.study, trial._trial_id), lock
            if len(self._counted()) >= self.total:
                return None
            if not self._trials():
                self.study.enqueue_trial(self._own_values())
            trial = self.study.ask()
            if self._disk:
                trial.set_user_attr("disk", self._disk)
            lock = self._lock(trial.number)
            lock.acquire()
            return trial, lock

    def _own_values(self) -> dict[str, Any]:
        """Return the experiment's own values within the space, for the first trial."""
        own, space = self.tuner.base.params, self.tuner.space
        return {key: _label(own[key]) for key, allowed in space.items() if key in own and _allows(allowed, own[key])}

    def _name_of_disk(self) -> str:
        """Return the name of the disk with the locks, equal for all that see them."""
        file = self._locks / "disk"
        with self._mutex:
            if not file.exists():
                write_atomic(file, lambda output: output.write(uuid4().hex.encode()))
        return file.read_text(encoding="utf-8")

    def _lock(self, number: int) -> FileLock:
        return FileLock(self._locks / f"{self.study.study_name}_{number:03d}.lock")

    def _write(self, trial: Trial) -> Run:
        """Write the trial as an experiment in the sweep's folder, in separate files."""
        values = {key: [_suggest(trial, key, allowed)] for key, allowed in self.tuner.space.items()}
        datasets, experiments = enumerate_space(self.tuner, values, first_number=trial.number)
        (dataset_id,), (expid,) = datasets, experiments
        write_config(self.tuner.folder / "dataset_config" / f"{dataset_id}.yaml", datasets)
        write_config(self.tuner.folder / "model_config" / f"{expid}.yaml", experiments)
        if "expid" not in trial.user_attrs:
            trial.set_user_attr("expid", expid)
        return load_runs(self.tuner.folder, expid)[0]

    def _is_over(self, expid: str) -> bool:
        running = self._running[expid]
        if self._report_new(running):
            running.is_pruned = running.trial.should_prune()
        return running.is_pruned

    def _report_new(self, running: _Running) -> bool:
        """Report the run's new evaluations to the study; return whether there are any."""
        if not running.curve.update():
            return False
        values = {number: point["monitor"] for number, point in enumerate(running.curve.points, 1)}
        new = values.keys() - self._trials()[running.trial.number].intermediate_values.keys()
        for step in sorted(new):
            running.trial.report(values[step], step)
        return bool(new)

    def _on_end(self, expid: str, code: int) -> None:
        running = self._running[expid]
        self._report_new(running)
        result = running.run.result
        with self._mutex:
            if result:
                self.study.tell(running.trial, running.run.monitor.get_value(result["valid"]), skip_if_finished=True)
            else:
                state = TrialState.PRUNED if running.is_pruned else TrialState.FAIL
                self.study.tell(running.trial, state=state, skip_if_finished=True)
            del self._running[expid]
            running.lock.release()
        if not result and not running.is_pruned:
            self._progress.end(expid, code, "failed", self._ended())
            return
        states = Counter(trial.state for trial in self._trials())
        best = {"best": f"{self.study.best_value:.6f}"} if states[TrialState.COMPLETE] else {}
        how = "finished" if result else "pruned"
        self._progress.end(expid, code, how, self._ended(), pruned=states[TrialState.PRUNED], **best)


def hide_password(storage: str) -> str:
    """Return the URL of a database without its password.

    Raises:
        UserError: it is not a URL.
    """
    try:
        return make_url(storage).render_as_string(hide_password=True)
    except ArgumentError as error:
        raise UserError("--storage must be the URL of a database, sqlite:///FILE or postgresql://HOST/NAME") from error


def _check(tuner: Tuner) -> dict[str, Any]:
    """Check every value before anything starts; return one combination."""
    varying = [key for key, allowed in tuner.space.items() if len(allowed.examples) > 1]
    if not varying:
        raise UserError(f"{tuner.file}: nothing in tuner_space varies; --search needs a list or a range")
    if fixed := [key for key in _FIXED if key in varying]:
        raise UserError(f"{tuner.file}: {fixed[0]} in tuner_space must be one value, since trials are compared by it")
    first = {**tuner.base.params, **{key: allowed.examples[0] for key, allowed in tuner.space.items()}}
    for key, allowed in tuner.space.items():
        for value in allowed.examples:
            check_configuration(deepcopy({**first, key: value}), tuner.where)
    check_monitor(tuner.name, first)
    return first


def _allows(allowed: Range | Choices, value: Any) -> bool:
    if isinstance(allowed, Choices):
        return len(allowed.examples) > 1 and value in allowed.examples
    return isinstance(value, (int, float)) and allowed.low <= value <= allowed.high


def _label(value: Any) -> Any:
    """Return what Optuna stores for a value: the value, or else its text."""
    return value if isinstance(value, (type(None), bool, int, float, str)) else repr(value)


def _suggest(trial: Trial, key: str, allowed: Range | Choices) -> Any:
    if isinstance(allowed, Choices):
        values = allowed.examples
        if len(values) == 1:
            return values[0]
        labels = [_label(value) for value in values]
        return values[labels.index(trial.suggest_categorical(key, labels))]
    if allowed.is_whole:
        return trial.suggest_int(key, int(allowed.low), int(allowed.high), log=allowed.log)
    return trial.suggest_float(key, allowed.low, allowed.high, log=allowed.log)


def draw_trials(study: optuna.Study, folder: Path) -> list[Path]:
    """Draw history.png of finished trials, and importance.png if two differ.

    Args:
        study: study of the search.
        folder: receives the pictures.

    Returns:
        The files; none without matplotlib.
    """
    try:
        import matplotlib
    except ImportError:
        return []
    matplotlib.use("Agg")  # Optuna draws by pyplot
    from matplotlib import pyplot
    from optuna.visualization.matplotlib import plot_optimization_history, plot_param_importances

    values = {trial.value for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))}
    files = []
    for name, plot, enough in (("history", plot_optimization_history, 1), ("importance", plot_param_importances, 2)):
        if len(values) < enough:
            continue
        files.append(folder / f"{name}.png")
        with warnings.catch_warnings(), default_style():
            warnings.simplefilter("ignore")  # Optuna calls these functions experimental
            plot(study)
            figure = pyplot.gcf()
            figure.savefig(files[-1], dpi=120, bbox_inches="tight")
        pyplot.close(figure)
    return files
