"""Types as checks of values: accepted values, converted text, and messages."""

from typing import Any, Literal

import pytest

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.common.key_types import POSITIVE, RATE, SIZE, WEIGHT, Contract, allowed, described, must, whole
from dien_fuxictr.common.suggestions import shown

FIELD = str | tuple[str, ...] | list[str | tuple[str, ...]] | None
SAME = object()


def check(kind: Any, value: Any) -> Any:
    return Contract({"key": [kind]}).checked("key", value, "a.yaml [X]")


@pytest.mark.parametrize(
    ("kind", "value", "becomes"),
    [
        (int, 3, SAME),
        (int, "3", 3),
        (float, 3, SAME),
        (float, "1e-3", 0.001),
        (float | None, "1e-3", 0.001),
        (str | float, "1e-3", SAME),
        (bool, False, SAME),
        (list[int], [1, "2"], [1, 2]),
        (list[float], [], SAME),
        (dict[str, float], {"AUC": 1}, SAME),
        (FIELD, ("a", "b"), SAME),
        (FIELD, ["a", ("b", "c")], SAME),
        (FIELD, None, SAME),
        (Literal["a", None], None, SAME),
        (SIZE, 2**16, SAME),
        (RATE, 0, SAME),
        (RATE | list[RATE], [0.5, "0.1"], [0.5, 0.1]),
        (WEIGHT, 0, SAME),
        (POSITIVE, 1e-300, SAME),
    ],
)
def test_allowed(kind: Any, value: Any, becomes: Any) -> None:
    result = check(kind, value)
    assert result is value if becomes is SAME else result == becomes and type(result) is type(becomes)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (int, True),
        (int, 2.0),
        (int, "2.0"),
        (int, None),
        (float, True),
        (float, "fast"),
        (bool, "yes"),
        (bool, 1),
        (str, 5),
        (list[int], 200),
        (list[int], [True]),
        (list[int], (1, 2)),
        (FIELD, 3),
        (FIELD, [3]),
        (SIZE, 0),
        (SIZE, 2**16 + 1),
        (whole(1), 10**20),
        (RATE, 1),
        (RATE, float("nan")),
        (RATE, "-0.1"),
        (WEIGHT, float("inf")),
        (POSITIVE, 0),
        (Literal["a", "b"], "c"),
        (Literal["a", "b"], ["a"]),
    ],
)
def test_refused(kind: Any, value: Any) -> None:
    with pytest.raises(UserError, match=r"^key = .* in a.yaml \[X\] must be "):
        check(kind, value)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (int, "a whole number"),
        (str | float | None, "text, a number or null"),
        (list[bool], "a list, each True or False"),
        (tuple[str, ...], "a tuple, each text"),
        (Literal["a", "b"], "a or b"),
        (Literal["a"], "a"),
        (dict[str, Any], "a mapping"),
        (whole(1, 5), "a whole number from 1 to 5"),
        (list[described(int, "an even number", must(lambda number: number % 2 == 0))], "a list, each an even number"),
    ],
)
def test_words(kind: Any, words: str) -> None:
    assert allowed(kind) == words


def test_a_mapping() -> None:
    contract = Contract({"epochs": [int, whole(1)], "name": [str]}, ["name"], ["seed"])
    given = {"name": "a", "epochs": "3", "seed": object(), "my_note": 1}
    assert contract.check(given, lambda key: f"the place of {key}") == ["my_note"]
    assert given["epochs"] == 3
    for wrong, message in [
        ({"name": "a", "epochs": "three"}, "epochs = 'three' in the place of epochs must be a whole number$"),
        ({"name": "a", "epochs": 0}, "epochs = 0 in the place of epochs must be a whole number, 1 or more"),
        ({}, "name is missing in the place of name"),
        ({"name": None}, "name is missing in the place of name"),
        ({"name": "a", "epoch": 1}, "unknown key 'epoch' in the place of epoch; did you mean 'epochs'"),
        ({"name": "a", 1: 1}, "the key 1 in the place of 1 must be text"),
    ]:
        with pytest.raises(UserError, match=message):
            contract.check(wrong, lambda key: f"the place of {key}")


def test_long_values_are_cut() -> None:
    assert shown("a") == "'a'"
    assert len(shown(list(range(1000)))) == 83 and shown(list(range(1000))).endswith("...")


def test_key_of_an_earlier_version_names_the_new_one() -> None:
    contract = Contract({"gate": [str]}, changed={"sign": "is now `gate`"})
    with pytest.raises(UserError, match=r"^sign in a\.yaml is now `gate`$"):
        contract.check({"sign": "paper"}, lambda key: "a.yaml")
