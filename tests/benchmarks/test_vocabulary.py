"""The benchmark of vocabulary sizes, at tiny ones: what it measures with, its table and JSON, never a time."""

import json

import pytest
import torch

from benchmarks.synthetic_batches import Sizes
from benchmarks.vocabulary import Case, batch_of, main, popular


def test_popular_ids_follow_zipfs_law() -> None:
    known = 1000
    ids = popular(torch.arange(known + 1).repeat(50), known)
    counts = torch.bincount(ids, minlength=known + 1).double()
    assert counts[0] == 50 and 990 < ids.max() <= known  # padding stays
    assert counts[1] / counts[2:4].sum() == pytest.approx(1, abs=0.03)
    assert counts[10:20].sum() / counts[100:200].sum() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("uniform", [True, False])
def test_batches_hold_known_items_behind_each_other(uniform: bool) -> None:
    sizes = Sizes(items=500)
    batch = batch_of(sizes, Case(500, "sparse", 64, uniform), seed=1)
    assert batch["item_history"].shape == batch["cate_history"].shape
    assert ((batch["item_history"] > 0) == (batch["cate_history"] > 0)).all()
    assert (batch["item_history"] > 0)[:, -1].any() and batch["item_history"][:, 0].min() > 0
    assert batch["item_id"].min() > 0 and batch["item_id"].max() < 499


def test_program_measures_both_updates_in_their_processes(tmp_path, capsys) -> None:
    assert main(["--items", "60", "--rows", "8", "--rounds", "1", "--json", str(tmp_path / "out.json")]) == 0
    assert "| 60" in capsys.readouterr().out
    (rows,) = json.loads((tmp_path / "out.json").read_text())["tables"].values()
    assert [(row["items"], row["updates"]) for row in rows] == [(60, "dense"), (60, "sparse")]
    assert all(row["peak memory, GB"] > 0 and len(row["seconds"]) == 1 for row in rows)


@pytest.mark.parametrize("arguments", [["--items", "3"], ["--rows", "1"], ["--rounds", "0"]], ids=str)
def test_wrong_command_line(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as error:
        main(arguments)
    assert error.value.code == 2
