"""Models trained for an epoch on a small project, and their bundles."""

from pathlib import Path

import pytest
from made_project import make_project

from dien_fuxictr import Experiment, open_experiment
from dien_fuxictr.experiment.cli import main as train
from dien_fuxictr.serving.bundle import Bundle, open_bundle
from dien_fuxictr.serving.write import write_bundle

EXPIDS = ("DIEN_amazon", "WideDeep_amazon", "DIENLight_amazon")


@pytest.fixture(scope="session")
def trained_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_project(tmp_path_factory.mktemp("serving"), epochs=1, verbose=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for expid in EXPIDS:
            assert train(["--expid", expid]) == 0
    return folder


@pytest.fixture
def project(trained_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(trained_folder)
    return trained_folder


@pytest.fixture
def experiment(project: Path) -> Experiment:
    return open_experiment("DIEN_amazon")


@pytest.fixture
def bundle(experiment: Experiment, tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    write_bundle(experiment, folder, [])
    return folder


@pytest.fixture(scope="session")
def bundle_folder(trained_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a bundle of the DIEN, for tests that do not change it."""
    folder = tmp_path_factory.mktemp("bundle") / "DIEN_amazon"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(trained_folder)
        write_bundle(open_experiment("DIEN_amazon"), folder, [])
    return folder


@pytest.fixture(scope="session")
def opened(bundle_folder: Path) -> Bundle:
    return open_bundle(bundle_folder)
