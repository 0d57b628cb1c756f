"""Data of trainings with several processes."""

from pathlib import Path

import pytest
from made import write_catalogues
from warm_start import COLD


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_catalogues(folder)
    return folder


@pytest.fixture(autouse=True)
def cold_start(monkeypatch):
    """Start processes without the starter: launchers identify workers by process id."""
    monkeypatch.setenv(COLD, "1")
