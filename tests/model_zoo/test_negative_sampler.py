"""Negatives of one sequence: where they come from, and what is never one."""

import math
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from made import features, make_feature_map, write_catalogues
from torch import Tensor

from model_zoo.DIEN.src.fields import SequenceFields
from model_zoo.DIEN.src.negatives import BatchPool, Catalogue, NegativeSampler, draw_against

FIELDS = SequenceFields(
    ("item_id", "cate_id"), ("item_history", "cate_history"), ("neg_item_history", "neg_cate_history")
)
OOV_ITEM, OOV_CATE = 29, 7
"""The last ids of the two vocabularies; 7 is an item like others, 29 is no category."""
NONE = torch.empty(0, 5, dtype=torch.int64)


def sampler(source: str, samples: int = 1, data_dir: Path | str = "", **changed: dict) -> NegativeSampler:
    spec = features()
    for name, change in changed.items():
        spec[name] |= change
    return NegativeSampler(make_feature_map(spec, data_dir), FIELDS, source, samples)


def drawn(found: tuple[Tensor, Tensor]) -> set[tuple[int, ...]]:
    """The behaviours that are negatives."""
    ids, valid = found
    return {tuple(behaviour) for behaviour in ids[:, valid].T.tolist()}


def test_in_batch_draws_whole_known_behaviours_of_the_batch() -> None:
    torch.manual_seed(0)
    ids = torch.tensor([[1, OOV_ITEM, 3, OOV_CATE, 4], [2, 2, OOV_CATE, 5, 6]])
    ids, valid = sampler("in_batch", samples=50)(ids, NONE)
    assert ids.shape == (2, 5, 50) and valid.shape == (5, 50)
    assert drawn((ids, valid)) == {(1, 2), (OOV_CATE, 5), (4, 6)}


def test_a_batch_of_unknown_behaviours_has_no_negatives() -> None:
    ids = torch.tensor([[OOV_ITEM, OOV_ITEM, 3], [1, 2, OOV_CATE]])
    assert not drawn(sampler("in_batch", samples=9)(ids, NONE))


@pytest.mark.parametrize("source", ["popularity", "uniform"])
def test_the_catalogue_gives_known_behaviours_as_often_as_the_source_says(tmp_path: Path, source: str) -> None:
    torch.manual_seed(0)
    write_catalogues(tmp_path)
    np.savez(
        tmp_path / "behaviour_catalogue" / "item_history.npz",
        item_history=[1, OOV_ITEM, 3, OOV_CATE, 0],
        cate_history=[2, 2, OOV_CATE, 5, 2],
        count=[90, 50, 50, 10, 50],
    )
    ids = torch.ones(2, 1, dtype=torch.int64) * 20
    found = sampler(source, samples=4000, data_dir=tmp_path)(ids, NONE)
    assert drawn(found) == {(1, 2), (OOV_CATE, 5)}
    share = (found[0][0] == 1).double().mean().item()
    assert share == pytest.approx(0.9 if source == "popularity" else 0.5, abs=0.03)


def test_draws_at_the_ends_and_borders_of_the_catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    """A border belongs to the next behaviour; a product that rounds up to the sum of weights, to the last."""
    monkeypatch.setattr(torch, "rand", lambda *_, **__: torch.tensor([0, 0.25, 0.5, 1], dtype=torch.float64))
    ids, found = Catalogue(torch.tensor([[7, 8, 9]]), torch.tensor([1, 1, 2])).draw((4,))
    assert ids.tolist() == [[7, 8, 9, 9]] and found.all()


def test_columns_are_negatives_but_for_padding_unknown_ids_and_the_behaviour_itself() -> None:
    ids = torch.tensor([[2, 2, 3, 4, 5], [1, 1, 1, 1, 1]])
    columns = torch.tensor([[1, 0, OOV_ITEM, 9, 5], [2, 2, 2, OOV_CATE, 2]])
    found, valid = sampler("column")(ids, columns)
    assert torch.equal(found, columns.unsqueeze(-1))
    assert valid.flatten().tolist() == [True, False, False, False, False]


def test_an_equal_id_of_another_vocabulary_is_another_item() -> None:
    own = sampler("column", neg_item_history={"share_embedding": "query"})
    ids, columns = torch.tensor([[5], [1]]), torch.tensor([[5], [2]])
    assert own(ids, columns)[1].item()
    assert not sampler("column")(ids, columns)[1].item()


def test_unknown_is_what_the_feature_map_says() -> None:
    """Ids that only a pretrained file has come behind that of unknown values."""
    ids = torch.tensor([[20, 29, 28, 3, 4], [1, 1, 1, 1, 1]])
    found = sampler("in_batch", samples=50, item_history={"oov_idx": 20})(ids, NONE)
    assert drawn(found) == {(29, 1), (28, 1), (3, 1), (4, 1)}


def test_a_draw_that_hits_the_behaviour_itself_is_repeated_four_times() -> None:
    class Pool(BatchPool):
        draws: ClassVar[list[tuple[int, ...]]] = []

        def draw(self, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
            self.draws.append(shape)
            return super().draw(shape)

    _, valid = draw_against(Pool(torch.tensor([[3]])), torch.tensor([3, 3, 5]), 2)
    assert valid.tolist() == [[False, False], [False, False], [True, True]]
    assert [math.prod(shape) for shape in Pool.draws] == [6, 4, 4, 4, 4]
