"""Atomic writes, safe reads, and the state of the random generators."""

import os
import pickle
import random
import subprocess
import sys

import numpy as np
import pytest
import torch

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.experiment.training import checkpoint


class Malicious:
    def __reduce__(self):
        return os.system, ("touch pwned",)


def test_written_whole_with_the_usual_permissions(tmp_path):
    path = tmp_path / "new" / "a.model"
    checkpoint.save({"w": torch.ones(2)}, path)
    assert torch.equal(checkpoint.load(path)["w"], torch.ones(2))
    assert [file.name for file in path.parent.iterdir()] == ["a.model"]
    (tmp_path / "plain").write_text("")
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("function", ["os.fsync", "os.replace"])
def test_full_disk_keeps_old_file_and_removes_temporary(tmp_path, monkeypatch, function):
    path = tmp_path / "a.model"
    path.write_text("old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(function, full)
    with pytest.raises(UserError, match=r"cannot write .*a.model: No space left on device"):
        checkpoint.save({"w": torch.ones(2)}, path)
    assert [file.name for file in tmp_path.iterdir()] == ["a.model"] and path.read_text() == "old"


def test_write_beyond_the_file_size_limit_is_one_line(tmp_path):
    code = """
import resource, sys, pathlib, torch
from dien_fuxictr.common.errors import UserError
from dien_fuxictr.experiment.training import checkpoint
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    checkpoint.save({"w": torch.ones(1_000_000)}, pathlib.Path(sys.argv[1]))
except UserError as error:
    print(error)
"""
    result = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.model")], capture_output=True, text=True)
    assert result.stdout == f"cannot write {tmp_path / 'a.model'}: File too large\n", result.stderr
    assert list(tmp_path.iterdir()) == []


def test_other_errors_of_the_writer_are_not_hidden(tmp_path):
    with pytest.raises(RuntimeError, match="a bug"):
        checkpoint.write_atomic(tmp_path / "a", lambda file: (_ for _ in ()).throw(RuntimeError("a bug")))
    assert list(tmp_path.iterdir()) == []


def test_malicious_pickle_is_refused_and_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, write in {
        "zip": lambda file: torch.save({"w": Malicious()}, file),
        "legacy": lambda file: torch.save({"w": Malicious()}, file, _use_new_zipfile_serialization=False),
        "bare": lambda file: file.write(pickle.dumps(Malicious())),
    }.items():
        with open(name, "wb") as file:
            write(file)
        with pytest.raises(UserError, match="refused"):
            checkpoint.load(tmp_path / name)
    assert not (tmp_path / "pwned").exists()


def test_broken_files_are_one_line(tmp_path):
    whole, path = tmp_path / "whole", tmp_path / "a"
    torch.save({"w": torch.ones(1000)}, whole)
    content = whole.read_bytes()
    for broken in (b"", b"garbage", content[:100], content[: len(content) // 2], content[:-10]):
        path.write_bytes(broken)
        with pytest.raises(UserError, match=r"checkpoint .* is (refused|not readable)") as error:
            checkpoint.load(path)
        assert "\n" not in str(error.value)
    torch.save([1], path)
    with pytest.raises(UserError, match="holds a list"):
        checkpoint.load(path)
    with pytest.raises(UserError, match="does not exist"):
        checkpoint.load(tmp_path / "nowhere")


def test_checkpoint_that_does_not_fit_names_the_differences(tmp_path):
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 1))
    path = tmp_path / "a.model"
    before = {name: value.clone() for name, value in model.state_dict().items()}
    weights = {"0.weight": torch.zeros(2, 4), "0.bias": torch.zeros(2), "2.bias": torch.zeros(1)}
    checkpoint.save(weights, path)
    with pytest.raises(UserError, match=r"does not match the model: no 1.weight; no 1.bias; 2.bias .* and 1 more"):
        checkpoint.load_weights(model, path)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"temperature": 0.5}, r"temperature is not the model's"),
        ({"bias": 0.5}, r"bias is no tensor but of type float, the model's \(2,\)"),
        ({"weight": torch.zeros(2, 3).to_sparse()}, r"weight is sparse \(2, 3\), the model's \(2, 3\)"),
        ({3: torch.zeros(1)}, r"3 is not the model's"),
    ],
    ids=["a scalar more", "a scalar for a tensor", "sparse", "a name that is a number"],
)
def test_checkpoint_with_other_tensors_is_one_line(tmp_path, change, message):
    model, path = torch.nn.Linear(3, 2), tmp_path / "a.model"
    checkpoint.save({**model.state_dict(), **change}, path)
    with pytest.raises(
        UserError, match=f"does not match the model: {message}; train again, or restore its configuration$"
    ):
        checkpoint.load_weights(model, path)


def test_generators_come_back(tmp_path):
    random.gauss(0, 1)
    np.random.randn()
    state = checkpoint.rng_state()
    checkpoint.save(state, tmp_path / "rng")
    drawn = [torch.rand(2).tolist(), np.random.randn(3).tolist(), random.gauss(0, 1), random.random()]
    checkpoint.set_rng_state(checkpoint.load(tmp_path / "rng"))
    assert [torch.rand(2).tolist(), np.random.randn(3).tolist(), random.gauss(0, 1), random.random()] == drawn
