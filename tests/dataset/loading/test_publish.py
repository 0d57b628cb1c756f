"""One build at a time, whole or not at all: real processes, one of them killed."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import polars as pl
import pytest
from made_data import as_csv, entry, prepare_entry, write_samples

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.dataset.loading import prepare
from dien_fuxictr.dataset.loading.fingerprint import Fingerprint
from dien_fuxictr.dataset.loading.publish import build_and_publish

ROOT = Path(__file__).parents[3]


@pytest.fixture
def params(tmp_path: Path) -> dict:
    return entry(as_csv(write_samples(tmp_path / "samples"), tmp_path / "csv"), tmp_path / "root")


def start(params: dict, marker: Path, pause: float) -> subprocess.Popen:
    environment = {
        **os.environ,
        "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests' / 'support'}",
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.Popen(
        [sys.executable, "-m", "made_build", json.dumps(params), str(marker), str(pause)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for(marker: Path, process: subprocess.Popen) -> None:
    while not marker.exists():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)


def test_killed_build_is_repeated_by_another_process(params: dict, tmp_path: Path) -> None:
    data_dir = tmp_path / "root" / "made"
    killed = start(params, tmp_path / "killed", 600)
    wait_for(tmp_path / "killed", killed)
    temporary = list((tmp_path / "root").glob(".made.building-*"))
    assert len(temporary) == 1 and (temporary[0] / "made" / "feature_map.json").exists()
    waiting = start(params, tmp_path / "waiting", 0)
    while True:
        line = waiting.stdout.readline()
        if not line or line.startswith(f"Waiting: data set {data_dir} is in use by process {killed.pid} on "):
            break
    assert line
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    output, _ = waiting.communicate()
    assert waiting.returncode == 0 and output.count("Building data set") == 1
    assert output.splitlines()[-1] == str(data_dir / "encoded" / "train.npz")
    assert {path.name for path in (tmp_path / "root").iterdir()} <= {"made", ".made.lock"}
    prepare_entry(params)


def test_two_processes_on_a_missing_set_build_once(params: dict, tmp_path: Path) -> None:
    first = start(params, tmp_path / "first", 1)
    second = start(params, tmp_path / "second", 1)
    outputs = [process.communicate()[0] for process in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0), outputs
    assert sum(output.count("Building data set") for output in outputs) == 1
    assert outputs[0].splitlines()[-1] == outputs[1].splitlines()[-1]


def test_killed_while_publishing_into_a_folder(params: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data_dir = tmp_path / "root" / "made"
    data_dir.mkdir(parents=True)
    (data_dir / "mine.csv").touch()
    replace = os.replace

    def killed(source: Path, target: Path) -> None:
        if Path(target).parent.name == "encoded":
            raise KeyboardInterrupt
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr("dien_fuxictr.dataset.loading.publish.os.replace", killed)
        with pytest.raises(KeyboardInterrupt):
            prepare_entry(params)
    assert (data_dir / "fingerprint.json").exists() and not (data_dir / "feature_map.json").exists()
    prepare_entry(params)
    assert (data_dir / "feature_map.json").exists() and (data_dir / "mine.csv").exists()


def test_rebuild_by_another_process_is_not_repeated(params: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare_entry(params)
    held, builds, data_dir = prepare.held, [], Path(params["data_root"], "made")

    def after_the_other(*args, **kwargs):
        monkeypatch.setattr("dien_fuxictr.dataset.loading.prepare.held", held)
        prepare_entry(params, rebuild=True)
        builds.append(Fingerprint.load(data_dir))
        return held(*args, **kwargs)

    monkeypatch.setattr("dien_fuxictr.dataset.loading.prepare.held", after_the_other)
    prepare_entry(params, rebuild=True)
    assert builds == [Fingerprint.load(data_dir)]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (PermissionError(13, "Permission denied", "raw.csv"), "cannot build .*Permission denied: 'raw.csv'"),
        (pl.exceptions.ComputeError("No space left on device (os error 28)"), "the disk is full"),
    ],
)
def test_system_errors_of_a_build(error: Exception, message: str, tmp_path: Path) -> None:
    def build(folder: Path) -> None:
        (folder / "half").touch()
        raise error

    with pytest.raises(UserError, match=message):
        build_and_publish(tmp_path / "made", build, Fingerprint({}, {}, []), None)
    assert not list(tmp_path.iterdir())


def test_an_error_of_the_temporary_folder_names_the_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(prefix: str, dir: Path) -> str:
        raise PermissionError(13, "Permission denied", f"{dir}/{prefix}0")

    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    with pytest.raises(UserError) as refused:
        build_and_publish(tmp_path / "made", lambda _: None, Fingerprint({}, {}, []), None)
    assert str(refused.value) == f"cannot build {tmp_path / 'made'}: Permission denied"


def test_other_errors_pass_through(tmp_path: Path) -> None:
    def build(folder: Path) -> None:
        raise pl.exceptions.ComputeError("a bug")

    with pytest.raises(pl.exceptions.ComputeError):
        build_and_publish(tmp_path / "made", build, Fingerprint({}, {}, []), None)


def test_a_damaged_fingerprint(params: dict) -> None:
    prepare_entry(params)
    Path(params["data_root"], "made", "fingerprint.json").write_text("{")
    with pytest.raises(UserError, match=r"fingerprint\.json is damaged .*; move the folder away to build it again"):
        prepare_entry(params)
