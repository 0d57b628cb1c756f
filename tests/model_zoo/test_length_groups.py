"""Rows of like length together give the figures of all rows together."""

import pytest
import torch
from made import make_batch
from made_models import make_model

from model_zoo.parts import length_groups

LENGTHS = [6, 0, 1, 3, 2, 0, 5, 0]


@pytest.mark.parametrize("name", ["BST", "DSIN"])
def test_groups_change_neither_scores_nor_gradients(name, monkeypatch):
    model = make_model(name)
    model.eval()  # in training, batch normalisation gives gradients of 0, which are only rounding
    batch = make_batch(LENGTHS)
    found = {}
    for rows in (2, 3, len(LENGTHS)):
        monkeypatch.setattr(length_groups, "GROUP_ROWS", rows)
        model.zero_grad()
        scores = model(batch)["y_pred"]
        (scores.flatten() * torch.arange(1.0, len(LENGTHS) + 1)).sum().backward()
        found[rows] = [scores] + [p.grad.clone() for p in model.parameters() if p.grad is not None]
    for rows in (2, 3):
        for grouped, together in zip(found[rows], found[len(LENGTHS)], strict=True):
            torch.testing.assert_close(grouped, together, rtol=1e-4, atol=1e-6)


def test_a_group_is_as_long_as_its_own_longest_row(monkeypatch):
    monkeypatch.setattr(length_groups, "GROUP_ROWS", 2)
    mask = torch.arange(6) < torch.tensor(LENGTHS).unsqueeze(1)
    steps = mask * torch.arange(1.0, 7)
    seen = []

    def total(mask, steps, rows):
        seen.append(steps.size(1))
        return (steps * mask).sum(dim=1, keepdim=True) + rows

    rows = 100.0 * torch.arange(len(LENGTHS)).unsqueeze(1)
    sums = torch.tensor([n * (n + 1) / 2 for n in LENGTHS]).unsqueeze(1)
    torch.testing.assert_close(length_groups.in_length_groups(total, mask, [steps], [rows]), sums + rows)
    assert seen == [1, 1, 3, 6]
