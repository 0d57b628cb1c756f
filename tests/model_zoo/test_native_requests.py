"""Requests to the native scorer: unknown ids, padding, and invalid requests."""

from typing import Any

import numpy as np
import pytest
from made_recurrence import compiled
from made_requests import made_dien, native, request

pytestmark = compiled


@pytest.mark.parametrize(
    "part,name,place,value",
    [
        ("candidates", "item_id", 7, 30),
        ("candidates", "cate_id", 39, -1),
        ("candidates", "item_id", 0, 2**62),
        ("user", "query", 0, 12),
        ("user", "cate_history", (0, 3), 8),
        ("user", "cate_history", (0, 3), -(2**62)),
        ("user", "day_history", (0, 3), 12),
    ],
)
def test_an_id_without_an_embedding_is_an_error(part: str, name: str, place: Any, value: int) -> None:
    score = native(made_dien())
    user, candidates = request(20, 40)
    user["item_history"][0, 3] = 1  # a step
    expected = score(user, candidates, 40)
    arrays = {"user": user, "candidates": candidates}[part]
    before, arrays[name][place] = arrays[name][place], value
    with pytest.raises(IndexError, match=rf"^{name}: an id that its table does not have$"):
        score(user, candidates, 40)
    arrays[name][place] = before
    assert np.array_equal(score(user, candidates, 40), expected)


def test_what_padding_has_is_not_looked_up() -> None:
    score = native(made_dien())
    user, candidates = request(20, 5)
    expected = score(user, candidates, 5)
    gap = user["item_history"] == 0
    user["cate_history"][gap], user["item_history"][gap] = 1000, -7
    assert np.array_equal(score(user, candidates, 5), expected)


@pytest.mark.parametrize(
    "change,message",
    [
        (
            lambda user, candidates: candidates.update(item_id=candidates["item_id"][:3]),
            "item_id must have 40 values, has 3",
        ),
        (lambda user, candidates: user.update(query=np.ones(2, int)), "query must have 1 values, has 2"),
        (
            lambda user, candidates: user.update(cate_history=user["cate_history"][:, 1:]),
            "the sequences of a behaviour must have equal lengths, have item_history 22, cate_history 21",
        ),
        (
            lambda user, candidates: candidates.update(item_history=user.pop("item_history")),
            "item_history is a sequence; it must be given for the user",
        ),
        (
            lambda user, candidates: candidates.update(day_history=user.pop("day_history")),
            "day_history is a sequence; it must be given for the user",
        ),
    ],
)
def test_refuses_what_is_no_request(change: Any, message: str) -> None:
    user, candidates = request(20, 40)
    change(user, candidates)
    with pytest.raises(ValueError, match=f"^{message}$"):
        made_dien().scorer()(user, candidates, 40)


def test_a_feature_that_is_missing_is_named() -> None:
    user, candidates = request(20, 40)
    del candidates["price"]
    with pytest.raises(KeyError, match="price"):
        made_dien().scorer()(user, candidates, 40)
