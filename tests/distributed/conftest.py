"""What trainings of several workers read."""

from pathlib import Path

import pytest
from made import write_catalogues


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_catalogues(folder)
    return folder
