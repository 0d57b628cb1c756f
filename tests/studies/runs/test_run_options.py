"""Number of parallel runs, equal for comparisons and sweeps."""

import pytest
import torch

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.experiment.device import devices_of_runs
from dien_fuxictr.studies.comparison.cli import parse_arguments as comparison
from dien_fuxictr.studies.sweep.cli import parse_arguments as sweep

COMMANDS = {"comparison": (comparison, ["--expids", "a"]), "sweep": (sweep, ["--config", "x.yaml"])}


@pytest.fixture(params=COMMANDS)
def parse(request):
    command, required = COMMANDS[request.param]
    return lambda *arguments: command([*required, *arguments])


def devices(options) -> list[int]:
    return devices_of_runs(options.gpu, options.workers, options.cluster)


def test_workers_are_runs_at_a_time_on_the_cpu(parse):
    assert devices(parse("--workers", "2")) == [-1, -1]
    assert devices(parse("--workers", "3", "--cluster", "auto")) == [-1, -1, -1]
    assert devices(parse()) == devices(parse("--cluster", "auto")) == []
    assert devices(parse("--gpu", "-1")) == [-1]


def test_each_gpu_has_a_run(parse, monkeypatch):
    assert devices(parse("--gpu", "0", "7", "--cluster", "auto")) == [0, 7]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert devices(parse("--gpu", "0", "1", "1")) == [0, 1, 1]


@pytest.mark.parametrize("gpus", [("-1", "-1"), ("0", "-1")])
def test_the_cpu_twice_names_workers(parse, gpus):
    with pytest.raises(
        UserError, match=rf"^--gpu {' '.join(gpus)}: must be GPUs only; on the CPU, --workers 2 runs as many"
    ):
        devices(parse("--gpu", *gpus))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--workers", "0"), "argument --workers: 0 must be a whole number, 1 or more"),
        (("--workers", "two"), "argument --workers: two must be a whole number, 1 or more"),
        (("--workers", "2", "--gpu", "0"), "not allowed with argument"),
    ],
)
def test_wrong_numbers_are_refused(parse, arguments, message, capsys):
    with pytest.raises(SystemExit) as error:
        parse(*arguments)
    assert error.value.code == 2 and message in capsys.readouterr().err
