"""Tables in row shards: whole in `<expid>.model`, in shards for `<expid>.resume`."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from made_float64 import BOUND, batches, made, prepared
from made_interrupted import EPOCHS, INTERRUPTED, Losses, Shuffled
from made_workers import together

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.distributed.row_shards import shard_files
from dien_fuxictr.distributed.row_shards.sharded_model import build_in_shards
from dien_fuxictr.distributed.row_shards.sharded_weight_store import store_of
from dien_fuxictr.experiment.process_group import SINGLE_PROCESS, ProcessGroup
from dien_fuxictr.experiment.training.trainer import Trainer

AVERAGED = {"weight_averaging": "ema", "weight_averaging_decay": 0.8}


def trainer_of(workers: ProcessGroup, folder: Path, keys: dict[str, Any] = AVERAGED, **options: Any) -> Trainer:
    settings = {"embedding_updates": "sparse", "eval_steps": 5, "early_stop_patience": 99, "save_best_only": False}
    keywords = {"model_root": str(folder), "model_id": "X", "net_dropout": 0, **settings}
    torch.manual_seed(3)
    model = build_in_shards(lambda: made(folder, **keywords), workers)
    store = store_of(model, workers)
    callback = prepared(store, {"seed": 1, **settings, **keys})
    return Trainer(model, callback=callback, store=store, **options)


def run(
    workers: ProcessGroup, folder: Path, stop: int | None = None, resume: bool = False, keys: dict[str, Any] = AVERAGED
) -> dict[int, float]:
    watch = Losses(stop)
    trainer = trainer_of(workers, folder, keys, observers=[watch])
    if resume:
        trainer.resume()
    try:
        trainer.fit(Shuffled(), batches(3), EPOCHS)
    except InterruptedError:
        assert stop
    return watch.of


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "made" / "X.model", weights_only=True)


def files(folder: Path) -> set[str]:
    return {path.name for path in (folder / "made").iterdir()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[dict[int, float], dict[str, torch.Tensor]]:
    """Return exit code and weights of an uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole")
    return run(SINGLE_PROCESS, folder), weights(folder)


@pytest.fixture(scope="module")
def begun(tmp_path_factory) -> Path:
    """Return the folder of a run of two processes that was interrupted."""
    folder = tmp_path_factory.mktemp("begun")
    together(2, folder, lambda workers: run(workers, folder, stop=INTERRUPTED))
    return folder / "made"


@pytest.mark.parametrize("count", [1, 3])
def test_run_of_two_processes_resumes_with_another_number(count, begun, whole, tmp_path):
    shutil.copytree(begun, tmp_path / "made")
    assert sum(name.startswith("X.resume.") for name in files(tmp_path)) == 1
    if count == 1:
        rest = run(SINGLE_PROCESS, tmp_path, resume=True)
    else:
        rest, *_ = together(count, tmp_path, lambda workers: run(workers, tmp_path, resume=True))
    losses, expected = whole
    assert rest == pytest.approx({step: losses[step] for step in range(INTERRUPTED, 17)}, abs=BOUND, rel=0)
    found = weights(tmp_path)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=BOUND, rtol=0, msg=name)
    assert {name for name in files(tmp_path) if name[0] == "X"} == {"X.model", "X.resume"}


@pytest.mark.parametrize("written", [1, 2])
def test_run_killed_while_writing_shards_resumes(written, whole, tmp_path, monkeypatch):
    """From the state before, whose shards are still whole."""
    write, folders = shard_files.write, []

    def killed_at_last(rows: Any, folder: Path, workers: ProcessGroup) -> None:
        write(rows, folder, workers)
        folders.append(folder)
        if len(folders) > written:
            for shard in folder.iterdir():
                shard.write_bytes(shard.read_bytes()[:100])
            raise InterruptedError

    monkeypatch.setattr(shard_files, "write", killed_at_last)
    run(SINGLE_PROCESS, tmp_path, stop=99)
    monkeypatch.undo()
    losses, _ = whole
    rest = run(SINGLE_PROCESS, tmp_path, resume=True)
    assert rest == pytest.approx({step: losses[step] for step in range(5 * written + 1, 17)}, abs=BOUND, rel=0)


def test_shards_are_no_pickles(begun):
    (folder,) = begun.glob("X.resume.*")
    shards = [*folder.iterdir()]
    assert len(shards) == 2
    for shard in shards:
        assert shard.suffix == ".safetensors"


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda shards: shards[0].unlink(), "a shard in .* is missing: row 0 of the"),
        (lambda shards: shards[1].unlink(), "a shard in .* is missing: row"),
        (
            lambda shards: shutil.rmtree(shards[0].parent),
            "the shards of the embedding tables are missing: .* does not exist",
        ),
        (lambda shards: shards[0].write_bytes(b"broken"), "a shard in .* is not readable"),
    ],
    ids=["the first", "the last", "all", "broken"],
)
def test_a_missing_shard_is_a_clear_error(begun, tmp_path, spoil, said):
    shutil.copytree(begun, tmp_path / "made")
    spoil(sorted((tmp_path / "made").glob("X.resume.*/*")))
    with pytest.raises(UserError, match=said):
        trainer_of(SINGLE_PROCESS, tmp_path).resume()


def test_shards_of_another_table_are_a_clear_error(begun, tmp_path, monkeypatch):
    shutil.copytree(begun, tmp_path / "made")
    monkeypatch.setitem(__import__("made").VOCABULARY, "item_id", 29)
    with pytest.raises(UserError, match=r"the shards in .* do not match the model: its .*item_id.* is \(29, 4\)"):
        trainer_of(SINGLE_PROCESS, tmp_path).resume()
