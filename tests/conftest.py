import os
import shutil
import sys
import tempfile
from pathlib import Path

import hypothesis
import pytest
import torch
import warm_start

from model_zoo.DIEN.src.kernels import backends

hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")
pytest_plugins = ["made_cluster", "made_workspace"]

LONG = ("distributed", "serving", "studies", "house", "benchmarks", "docs", "experiment")
"""Folders with files that take half a minute or more."""

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # triton reads it when it is imported


if sys.platform == "linux":  # before imports of modules that may store `sys.executable`
    starters = Path(tempfile.mkdtemp(prefix="tests-"))
    forking = warm_start.use(starters)


def pytest_configure(config):
    if sys.platform == "linux":
        config.add_cleanup(lambda: (forking.communicate(), shutil.rmtree(starters)))


def pytest_collection_modifyitems(items):
    """Start the longest files first, so that no process waits at the end."""
    places = {Path(__file__).with_name(name): place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: min(places.get(folder, len(LONG)) for folder in item.path.parents))


def pytest_addoption(parser):
    parser.addoption("--recurrence-backend", choices=backends.BACKENDS, help="what `auto` stands for in this process")


@pytest.fixture(autouse=True)
def backend_of_auto(request, monkeypatch):
    if name := request.config.getoption("--recurrence-backend"):
        monkeypatch.setattr(backends, "automatic", lambda inputs: name)


@pytest.fixture
def real_auto(pytestconfig):
    """For tests of what `auto` chooses by itself."""
    if pytestconfig.getoption("--recurrence-backend"):
        pytest.skip("auto is what --recurrence-backend says")


@pytest.fixture(autouse=True)
def one_thread():
    """More threads only wait for each other on batches this small."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
