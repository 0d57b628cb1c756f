"""Negatives of one sequence: where they come from, and what is never one."""

import math
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from made import features, make_feature_map, write_catalogues
from torch import Tensor

from model_zoo.DIEN.src.aux_negatives import Alternatives, BatchPool, Catalogue, NegativeSampler, draw_against, hashed
from model_zoo.DIEN.src.fields import SequenceFields

FIELDS = SequenceFields(
    ("item_id", "cate_id"), ("item_history", "cate_history"), ("neg_item_history", "neg_cate_history")
)
OOV_ITEM, OOV_CATE = 29, 7
"""Last ids of the two vocabularies; 7 is an ordinary item, 29 is not a category."""
NONE = torch.empty(0, 5, dtype=torch.int64)


def sampler(
    source: str, samples: int = 1, data_dir: Path | str = "", fixed: bool = False, **changed: dict
) -> NegativeSampler:
    spec = features()
    for name, change in changed.items():
        spec[name] |= change
    return NegativeSampler(make_feature_map(spec, data_dir), FIELDS, source, samples, fixed)


def drawn(found: tuple[Tensor, Tensor]) -> set[tuple[int, ...]]:
    """Return the behaviours that are negatives."""
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
def test_catalogue_draws_by_the_sources_frequencies(tmp_path: Path, source: str) -> None:
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
    """Draw at borders, which belong to the next behaviour, and at the end.

    A product that rounds up to the sum of weights belongs to the last behaviour.
    """
    monkeypatch.setattr(torch, "rand", lambda *_, **__: torch.tensor([0, 0.25, 0.5, 1], dtype=torch.float64))
    ids, found = Catalogue(torch.tensor([[7, 8, 9]]), torch.tensor([1, 1, 2])).draw((4,))
    assert ids.tolist() == [[7, 8, 9, 9]] and found.all()


def test_column_negatives_exclude_padding_and_positives() -> None:
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


def test_draw_of_the_positive_is_repeated_four_times() -> None:
    class Pool(BatchPool):
        draws: ClassVar[list[tuple[int, ...]]] = []

        def draw(self, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
            self.draws.append(shape)
            return super().draw(shape)

    _, valid = draw_against(Pool(torch.tensor([[3]])), torch.tensor([3, 3, 5]), 2)
    assert valid.tolist() == [[False, False], [False, False], [True, True]]
    assert [math.prod(shape) for shape in Pool.draws] == [6, 4, 4, 4, 4]


def write_categories(folder: Path) -> None:
    """Write categories 2 (items 1, 3, 4), 5 (item 6) and 6 (items 8, 9)."""
    (folder / "behaviour_catalogue").mkdir()
    np.savez(
        folder / "behaviour_catalogue" / "item_history.npz",
        item_history=[4, 1, 3, 6, 9, 8],
        cate_history=[2, 2, 2, 5, 6, 6],
        count=[10, 40, 30, 100, 5, 15],
    )


def shares(ids: Tensor, valid: Tensor) -> dict[tuple[int, ...], float]:
    """Return each behaviour's share of the negatives of one step."""
    assert valid.all()
    behaviours, counts = torch.unique(ids, dim=1, return_counts=True)
    return dict(zip(map(tuple, behaviours.T.tolist()), (counts / ids.size(1)).tolist(), strict=True))


ITEM_1 = {(1, 2): 40, (3, 2): 30, (4, 2): 10, (6, 5): 100, (8, 6): 15, (9, 6): 5}
"""All behaviours and their counts."""


@pytest.mark.parametrize("fixed", [False, True])
def test_category_negatives_are_drawn_by_popularity(tmp_path: Path, fixed: bool) -> None:
    torch.manual_seed(0)
    write_categories(tmp_path)
    ids = torch.tensor([[1, 3, 9, 6, 20, 1], [2, 2, 6, 5, 7, 4]])
    found, valid = sampler("category", samples=4000, data_dir=tmp_path, fixed=fixed)(ids, NONE)
    assert found.shape == (2, 6, 4000) and valid.shape == (6, 4000)
    others = {behaviour: count for behaviour, count in ITEM_1.items() if behaviour[0] != 1}
    expected = [
        {(3, 2): 30, (4, 2): 10},
        {(1, 2): 40, (4, 2): 10},
        {(8, 6): 15},
        {behaviour: count for behaviour, count in ITEM_1.items() if behaviour[0] != 6},  # the only one of its category
        ITEM_1,  # of a category without items
        others,  # likewise; but item 1 has occurred elsewhere
    ]
    for step, counts in enumerate(expected):
        of_step = shares(found[:, step], valid[step])
        total = sum(counts.values())
        assert of_step == pytest.approx({behaviour: count / total for behaviour, count in counts.items()}, abs=0.03)


@pytest.mark.parametrize("samples", [1, 4])
@pytest.mark.parametrize("fixed", [False, True])
def test_mixed_negatives_are_half_category_half_popularity(tmp_path: Path, samples: int, fixed: bool) -> None:
    torch.manual_seed(0)
    write_categories(tmp_path)
    steps = 8000
    ids = torch.stack([torch.tensor([9, 8]).repeat(steps // 2), torch.full((steps,), 6)])
    if fixed:  # each behind another behaviour
        ids[0, 1::2] = 10 + torch.arange(steps // 2)
    found, valid = sampler("mixed", samples, tmp_path, fixed)(ids, NONE)
    of_step = shares(found[:, ::2, -1], valid[::2])
    expected = {behaviour: count / 195 / 2 for behaviour, count in ITEM_1.items() if behaviour[0] != 9}
    expected[8, 6] += 0.5
    assert of_step == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize("source", ["popularity", "uniform"])
def test_fixed_negatives_of_many_behaviours_are_as_many_draws(tmp_path: Path, source: str) -> None:
    write_categories(tmp_path)
    ids = torch.stack([torch.arange(20, 8020), torch.full((8000,), 3)])
    of_all = shares(*(part[..., 0] for part in sampler(source, 1, tmp_path, fixed=True)(ids, NONE)))
    counts = ITEM_1 if source == "popularity" else dict.fromkeys(ITEM_1, 1)
    assert of_all == pytest.approx({b: count / sum(counts.values()) for b, count in counts.items()}, abs=0.03)


@pytest.mark.parametrize("source", ["popularity", "uniform", "category", "mixed"])
def test_fixed_negatives_depend_on_two_behaviours(tmp_path: Path, source: str) -> None:
    """Draw equal negatives in any batch and place, for any generator state.

    A smaller number of negatives gives the first ones.
    """
    write_catalogues(tmp_path)
    draws = sampler(source, 5, tmp_path, fixed=True)
    items = torch.tensor([1, 5, 9, 4, 9, 4, 2, 9])
    ids, valid = draws(torch.stack([items, items % 6 + 1]), NONE)
    torch.manual_seed(5)
    later = items[1:]
    again, _ = draws(torch.stack([later, later % 6 + 1]), NONE)
    assert torch.equal(again[:, 1:], ids[:, 2:])
    assert torch.equal(ids[:, 3], ids[:, 5]) and valid.all()  # 4 behind 9, twice
    assert not torch.equal(ids[:, 2], ids[:, 4]) and not torch.equal(ids[:, 4], ids[:, 7])  # 9 behind 5, 4 and 2
    fewer, _ = sampler(source, 2, tmp_path, fixed=True)(torch.stack([items, items % 6 + 1]), NONE)
    assert torch.equal(fewer, ids[..., :2])


@pytest.mark.parametrize("before", [(5, 9, 9, 5), (5, 9, 6, 8)], ids=["in turn", "of the same sum"])
def test_fixed_negatives_of_two_transitions_differ(tmp_path: Path, before: tuple[int, ...]) -> None:
    """Compare 9 after 5 with 5 after 9, and 8 after 6."""
    write_catalogues(tmp_path)
    items = torch.tensor(before)
    ids, _ = sampler("uniform", 20, tmp_path, fixed=True)(torch.stack([items, items % 6 + 1]), NONE)
    assert (ids[0, 1] == ids[0, 3]).float().mean() < 0.5


def test_the_hash_is_split_mix_64() -> None:
    """Published numbers of the generator with the seeds 0 and 1234567."""
    values = [number % 2**64 for number in hashed(torch.tensor([0, 1234567])).tolist()]
    assert values == [0xE220A8397B1DCDAF, 6457827717110365317]


def test_alternatives_at_the_borders_of_their_groups() -> None:
    """Draw with chances close to 1: the last other item, never one's own."""
    ids, groups = torch.tensor([[3, 7, 5, 7]]), torch.tensor([1, 1, 2, 2])
    pool = Alternatives(ids, torch.tensor([2, 10**9, 10**9 + 7, 3]), groups)
    chances = torch.tensor([[0.0, 1 - 2**-53]], dtype=torch.float64)
    for own, group, expected in ((3, 1, [7, 7]), (7, 1, [3, 3]), (5, 2, [7, 7]), (7, 2, [5, 5]), (9, 1, [3, 7])):
        (found,), valid = pool.draw(torch.tensor([own]), torch.tensor([group]), chances)
        assert found.tolist() == [expected] and valid.all()
    for group in (0, 3):
        assert not pool.draw(torch.tensor([3]), torch.tensor([group]), chances)[1].any()
    empty = Alternatives(ids[:, :0], groups[:0], groups[:0])
    assert not empty.draw(torch.tensor([3]), torch.tensor([1]), chances)[1].any()


@pytest.mark.parametrize(
    ("source", "fixed", "fields", "message"),
    [
        ("in_batch", True, FIELDS, "aux_fixed_negatives cannot be combined with aux_negatives: in_batch"),
        ("category", False, SequenceFields(("query",), ("query_history",), ()), r"category needs a second field"),
        ("mixed", False, SequenceFields(("query",), ("query_history",), ()), r"mixed needs a second field, .*query_hi"),
    ],
)
def test_refuses(source: str, fixed: bool, fields: SequenceFields, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NegativeSampler(make_feature_map(features()), fields, source, 1, fixed)
