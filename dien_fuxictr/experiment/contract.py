"""Check a whole configuration by its readers' types, before building or writing."""

import inspect
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, get_type_hints

from fuxictr.pytorch.models import BaseModel

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.common.key_types import Contract
from dien_fuxictr.common.suggestions import nearest
from dien_fuxictr.dataset.encoding.schema import COLUMN, LABEL, SPEC, check_mappings
from dien_fuxictr.dataset.loading.entry import ENTRY
from dien_fuxictr.dataset.samples.build_options import BuildOptions
from model_zoo.DIEN.src import keywords
from model_zoo.parts import baseline_keywords

from .configuration.changed_keys import CHANGED_KEYS
from .configuration.config import SET
from .configuration.expressions import check_expressions
from .configuration.training_options import TRAINING, TrainingOptions
from .evaluation.metrics import REGRESSION_METRICS, check_metric, missing_group, needs_groups
from .models import find_model
from .training_setup import check_combinations

_OF_EVERY_MODEL = {
    "model_id": keywords.ModelId,
    "gpu": keywords.Gpu,
    "learning_rate": keywords.LearningRate,
    "embedding_dim": keywords.EmbeddingDim,
    "embedding_regularizer": keywords.EmbeddingRegularizer,
    "net_regularizer": keywords.NetRegularizer,
}
_UNTYPED = {
    "net_dropout": keywords.NetDropout | list[keywords.Rate],
    "attention_dropout": keywords.AttentionDropout | list[keywords.Rate],
    "dnn_hidden_units": keywords.DnnHiddenUnits,
    "hidden_units": baseline_keywords.HiddenUnits,
    "attention_hidden_units": keywords.AttentionHiddenUnits,
    "aux_hidden_units": keywords.AuxHiddenUnits,
    "dnn_activations": keywords.DnnActivations | None,
    "hidden_activations": baseline_keywords.HiddenActivations | None,
    "attention_activation": keywords.AttentionActivation | None,
    "attention_hidden_activations": baseline_keywords.AttentionHiddenActivations | None,
    "aux_activation": keywords.AuxActivation | None,
    "aux_loss_alpha": keywords.AuxLossAlpha,
    "aux_num_negatives": keywords.AuxNumNegatives,
    "gru_hidden_size": keywords.GruHiddenSize,
    "num_heads": baseline_keywords.NumHeads,
    "stacked_transformer_layers": baseline_keywords.StackedTransformerLayers,
    "regularizer": baseline_keywords.Regularizer,
}
"""Keywords of models whose constructors declare no types, those of a checkout, where they mean the same."""

HISTORIC = {
    "pickle_feature_encoder",
    "feature_config",
    "debug",
    "debug_mode",
    "version",
    "use_hdf5",
    "workers",
    "patience",
    "every_x_epochs",
    "partition_block_size",
}
"""Keys of older FuxiCTR and BARS configurations that the zoo no longer reads."""
_MODEL = Contract({key: [TRAINING[key]] for key in ("model", "zoo")}, ["model"])
_ENTRY = Contract({key: [ENTRY[key]] for key in ENTRY}, ("data_root", "data_format", "feature_cols", "label_col"))
_REQUIRED = ("model", "loss", "optimizer", "metrics", "data_root", "data_format")
_OF_THE_CALLER = (
    "self",
    "feature_map",
    "stage",
    "split",
    "data_path",
    "data_generator",
    "validation_data",
    "train_ddf",
)
"""Arguments that callers of the zoo's functions pass besides the keys of a configuration."""


def check_configuration(params: dict[str, Any], where: Callable[[str], str], strict: bool = False) -> list[str]:
    """Check every key and value; text of a number is replaced by the number, in place.

    Args:
        params: the merged configuration.
        where: key -> the file and section it comes from.
        strict: any unknown key is an error.

    Returns:
        Warnings for the user: keys that nothing reads.

    Raises:
        UserError: a key that is missing, misspelt or, of `--set` or with `strict`, unknown, or a value that is not
            allowed; names key, value, place and what is allowed. There is no such model.
    """
    if taken := [key for key in _OF_THE_CALLER if key in params]:
        raise UserError(
            f"{taken[0]!r} in {where(taken[0])} is not a key: the program passes it to FuxiCTR itself; remove it"
        )
    _MODEL.check({key: params[key] for key in _MODEL.keys & params.keys()}, where)
    model_class = find_model(params["model"], params.get("zoo"))
    keys = _contract(model_class).check(params, where)
    if set_keys := [key for key in keys if where(key) == SET]:
        raise UserError(_unread(set_keys[0], model_class, params))
    unknown = [f"{key} ({where(key)})" for key in keys]
    for key, contract in (("feature_cols", COLUMN), ("label_col", LABEL), ("feature_specs", SPEC)):
        if key in params:
            of_columns = check_mappings(contract, params[key], f"{key} in {where(key)}")
            if of_columns and where(key) == SET:
                raise UserError(f"unknown key {of_columns[0]}; allowed: {', '.join(sorted(contract.keys))}")
            unknown += of_columns
    for key in getattr(model_class, "overrides", {}):
        _check_overrides(model_class, key, params, where)
    check_expressions(params, where)
    if params.get("build"):
        BuildOptions.of(params["build"])
    check_combinations(TrainingOptions.of(params))
    _check_metrics(params)
    _check_layers(params, where)
    listed = ", ".join(unknown)
    if unknown and strict:
        raise UserError(f"unknown keys: {listed}; remove them, or run without --strict")
    return [f"unknown keys, without effect on {model_class.__name__}: {listed}"] if unknown else []


def check_entry(params: dict[str, Any], where: Callable[[str], str]) -> None:
    """Check the keys of a data set alone; raise as `check_configuration`."""
    _ENTRY.check({key: params[key] for key in ENTRY.keys() & params.keys()}, where)
    for key, contract in (("feature_cols", COLUMN), ("label_col", LABEL)):
        check_mappings(contract, params[key], f"{key} in {where(key)}")


def _unread(key: str, model_class: type, params: dict[str, Any]) -> str:
    """Return the message for a key of `--set` that nothing reads."""
    close = nearest(key, known_keys(model_class), cutoff=0.6)
    hint = f"did you mean {close[0]!r}?" if close else "--show-config lists the keys of the experiment"
    if params.get("zoo"):
        hint += " A key that the model takes out of its **kwargs belongs into the YAML file."
    return f"unknown key {key!r} in {SET}: nothing in a run of {model_class.__name__} reads it; {hint}"


def known_keys(model_class: type) -> set[str]:
    """Return every key that a run reads, and the historic ones.

    Readers are the model, its training, the loaders, the data set and the tuner.
    """
    return set(_contract(model_class).keys)


def constructor_keys(model_class: type) -> set[str]:
    """Return the keywords of a model's constructor, including inherited ones."""
    return {name for constructor in _constructors(model_class) for name in _keywords(constructor)}


def constructor_defaults(model_class: type) -> dict[str, Any]:
    """Return the keywords of a model's constructor and of those it inherits that have a default, with it."""
    return {
        parameter.name: parameter.default
        for constructor in reversed(_constructors(model_class))
        for parameter in inspect.signature(constructor).parameters.values()
        if parameter.default is not parameter.empty
    }


@lru_cache
def _contract(model_class: type) -> Contract:
    return Contract(_kinds(model_class), _REQUIRED, constructor_keys(model_class) | HISTORIC, CHANGED_KEYS)


def _kinds(model_class: type) -> dict[str, list[Any]]:
    keys = constructor_keys(model_class)
    kinds = ENTRY | TRAINING | _OF_EVERY_MODEL | {key: _UNTYPED[key] for key in keys & _UNTYPED.keys()}
    for constructor in reversed(_constructors(model_class)):
        hints = get_type_hints(constructor, include_extras=True)
        kinds |= {key: kind for key, kind in hints.items() if key in keys}
    return {key: [kind] for key, kind in kinds.items()}


def _constructors(model_class: type) -> list[Callable[..., Any]]:
    return [
        vars(cls)["__init__"] for cls in model_class.__mro__ if issubclass(cls, BaseModel) and "__init__" in vars(cls)
    ]


def _keywords(function: Callable[..., Any]) -> Iterable[str]:
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    names = (p.name for p in inspect.signature(function).parameters.values() if p.kind in kinds)
    return (name for name in names if name not in _OF_THE_CALLER)


def _check_metrics(params: dict[str, Any]) -> None:
    monitor = params.get("monitor", "AUC")
    for name in [*params["metrics"], *([monitor] if isinstance(monitor, str) else monitor)]:
        check_metric(name)
        if needs_groups(name) and not params.get("group_id"):
            raise UserError(missing_group(name))
        if params.get("task") == "regression" and name not in REGRESSION_METRICS:
            allowed = ", ".join(REGRESSION_METRICS)
            raise UserError(
                f"metric {name} cannot be combined with task = regression; metrics and monitor must be of {allowed}"
            )


def _check_overrides(model_class: Any, key: str, params: dict[str, Any], where: Callable[[str], str]) -> None:
    """Check a keyword whose mapping overrides others for a second network."""
    names, given, place = model_class.overrides[key], params.get(key) or {}, f"{key} of {where(key)}"
    kinds = _kinds(model_class)
    if unknown := Contract({name: kinds[name] for name in names}).check(given, lambda _: place):
        close = nearest(unknown[0], names)
        listed = f"nearest: {', '.join(close)}" if close else f"allowed: {', '.join(sorted(names))}"
        raise UserError(f"unknown key {unknown[0]!r} in {place}; {listed}")
    _check_layers({**params, **given}, lambda name: place if name in given else where(name))


def _check_layers(params: dict[str, Any], where: Callable[[str], str]) -> None:
    """Check lists that must have one value per layer."""
    for key, units in params.items():
        part = key.removesuffix("hidden_units")
        if part == key or not isinstance(units, list):
            continue
        activations = (f"{part}activations", f"{part}activation", f"{part}hidden_activations")
        rates = "net_dropout" if part in ("", "dnn_") else f"{part}dropout"
        for other in (*activations, rates):
            values = params.get(other)
            if isinstance(values, list) and len(values) != len(units):
                raise UserError(
                    f"{other} = {values} in {where(other)} must be one value, or one for each of the {len(units)} "
                    f"layers that {key} = {units} has"
                )
