"""Keywords of all models: declared once, refused everywhere in equal words."""

import inspect
import math
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest
from fuxictr.pytorch.models import BaseModel
from made_models import MODELS

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.common.key_types import Contract, allowed
from dien_fuxictr.dataset.loading.entry import ENTRY
from dien_fuxictr.experiment.configuration.training_options import TRAINING
from model_zoo.DIEN.src import DIEN, keywords
from model_zoo.DIEN.src.validation import Check, Help, Range, fits, words
from model_zoo.parts import baseline_keywords

OURS = [DIEN, *MODELS.values()]
HOMES = (keywords, baseline_keywords)
PROBES: list[Any] = [None, True, False, 0, 1, 2, -1, 0.5, 1.0, 1.5, -0.5, 10**9, math.nan, math.inf, "", "auto", "ReLU"]
PROBES += ["GELU", "Linear", "l1(0.1)", "l1(-1)", [], [1], [0], [8, 4], [True], ["ReLU", "Dice"], ["a", 1], ("a", "b")]
PROBES += [{}, {"a": 1}, {1: 1}, [("a", "b"), "c"], "mean", "booster", object()]


def declared(model: type[BaseModel]) -> dict[str, Any]:
    """Return the keywords of a model's constructors and their types."""
    kinds: dict[str, Any] = {}
    for cls in reversed(model.__mro__):
        if issubclass(cls, BaseModel) and cls is not BaseModel and "__init__" in vars(cls):
            hints = get_type_hints(vars(cls)["__init__"], include_extras=True)
            named = [p.name for p in inspect.signature(vars(cls)["__init__"]).parameters.values() if p.kind in (1, 3)]
            kinds |= {name: hints[name] for name in named if name not in ("self", "feature_map")}
    return kinds


def alias(keyword: str) -> str:
    return "".join(part.capitalize() for part in keyword.split("_"))


def invalid(kind: Any) -> list[Any]:
    """Values that a type does not allow, each beside what it allows."""
    return [value for value in candidates(kind) if not fits(value, kind)]


def candidates(kind: Any) -> list[Any]:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        beside: list[Any] = []
        for part in arguments[1:]:
            if isinstance(part, Range):
                beside += [part.low - 1, *part.without, math.nan] + [part.high + 1] * math.isfinite(part.high)
            beside += ["no such thing"] * isinstance(part, Check)
        return candidates(arguments[0]) + beside
    if origin is Literal:
        return ["no such choice", 1, [arguments[0]]]
    if origin in (Union, UnionType):
        return [value for each in arguments for value in candidates(each)]
    if origin in (list, tuple):
        return [5, [object()], *([value] for value in candidates(arguments[0]))]
    return {
        int: [True, 1.5, "x", [1]],
        float: [True, "x", [0.5]],
        bool: ["yes", 1, None],
        str: [5, ["a"]],
        NoneType: [],
        dict: ["x", 5],
    }[origin or kind]


OF_FM = ("embedding_regularizer", "net_regularizer")  # FM refuses both: it has one regularizer
CASES = [
    (model, key, kind)
    for model in OURS
    for key, kind in declared(model).items()
    if model.__name__ != "FM" or key not in OF_FM
]


@pytest.mark.parametrize(("model", "key", "kind"), CASES, ids=lambda part: getattr(part, "__name__", str(part))[:40])
def test_a_keyword_has_one_home(model: type[BaseModel], key: str, kind: Any) -> None:
    homes = [getattr(home, alias(key)) for home in HOMES if hasattr(home, alias(key))]
    assert len(homes) == 1, f"{key} of {model.__name__}"
    (home,) = homes
    assert kind == home or (get_origin(kind) in (Union, UnionType) and get_args(kind)[0] == home)
    helps = [part for part in get_args(home) if isinstance(part, Help)]
    assert len(helps) == 1 and helps[0].text
    assert key not in TRAINING.keys() | ENTRY.keys()


def test_every_declared_keyword_is_used() -> None:
    used = {alias(key) for model in OURS for key in declared(model)}
    named = {name for home in HOMES for name, kind in vars(home).items() if any_help(kind)}
    assert named == used


def any_help(kind: Any) -> bool:
    return get_origin(kind) is Annotated and any(isinstance(part, Help) for part in get_args(kind))


def test_no_key_of_a_configuration_has_two_homes() -> None:
    assert not TRAINING.keys() & ENTRY.keys()


@pytest.mark.parametrize(("model", "key", "kind"), CASES, ids=lambda part: getattr(part, "__name__", str(part))[:40])
def test_invalid_values_are_refused_in_equal_words(model: type[BaseModel], key: str, kind: Any) -> None:
    contract = Contract({key: [kind]})
    values = invalid(kind)
    assert values or kind is Any
    for value in values:
        with pytest.raises(ValueError, match=f"^{key} = ") as error:
            model(None, **{key: value})
        assert str(error.value).endswith(f" must be {words(kind)}") and "\n" not in str(error.value)
        with pytest.raises(UserError, match=f"^{key} = ") as of_a_file:
            contract.checked(key, value, "a.yaml")
        assert str(of_a_file.value).endswith(f" must be {words(kind)}")


@pytest.mark.parametrize("kind", [kind for _, _, kind in CASES], ids=[key for _, key, _ in CASES])
def test_both_checks_allow_equal_values(kind: Any) -> None:
    """Compare both checks, except for tuples and text that represents a number.

    The constructor accepts tuples as lists.
    """
    contract = Contract({"key": [kind]})
    assert allowed(kind) == words(kind)
    for value in PROBES:
        try:
            contract.checked("key", value, "a.yaml")
            is_allowed = True
        except UserError:
            is_allowed = False
        if not (isinstance(value, dict) and 1 in value):
            assert fits(value, kind) == is_allowed, value
