"""Which keys of a configuration mean something: a misspelt keyword must not vanish in `**params`."""

import inspect
from collections.abc import Callable, Iterable
from typing import Any

from fuxictr.preprocess import FeatureProcessor, build_dataset
from fuxictr.pytorch.dataloaders import RankDataLoader
from fuxictr.pytorch.dataloaders.npz_block_dataloader import NpzBlockDataLoader
from fuxictr.pytorch.dataloaders.parquet_dataloader import ParquetDataLoader
from fuxictr.pytorch.models import BaseModel

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.common.names import nearest

from .config import Config

# Read by the zoo or by this project from `**params`, in no signature.
_BY_NAME = {
    "model",
    "model_id",
    "dataset_id",
    "gpu",
    "seed",
    "model_root",
    "verbose",
    "metrics",
    "optimizer",
    "loss",
    "task",
    "use_features",
    "feature_specs",
    "group_id",
    "build",
    "raw_from",
    "data_loader",
    "trim_histories",
    "bucket_by_length",
    "num_threads",
    "zoo",
    "embedding_updates",
}
_TUNER = {"debug_mode"}
# Keys of older FuxiCTR and BARS configurations that the zoo no longer reads.
HISTORIC = {
    "pickle_feature_encoder",
    "feature_config",
    "debug",
    "version",
    "use_hdf5",
    "workers",
    "patience",
    "every_x_epochs",
    "partition_block_size",
}
_CLOSE = 0.8


def known_keys(model_class: type) -> set[str]:
    """Every key that the model, its training, the loaders, the data set or the tuner reads, and the historic ones."""
    functions: list[Callable[..., Any]] = [
        BaseModel.fit,
        RankDataLoader,
        NpzBlockDataLoader.__init__,
        ParquetDataLoader.__init__,
        FeatureProcessor.__init__,
        FeatureProcessor.read_data,
        FeatureProcessor.fit,
        build_dataset,
    ]
    named = {name for function in functions for name in _keywords(function)}
    return _BY_NAME | _TUNER | HISTORIC | named | constructor_keys(model_class)


def constructor_keys(model_class: type) -> set[str]:
    """The keywords of a model's constructor and of those it inherits."""
    constructors = [
        vars(cls)["__init__"] for cls in model_class.__mro__ if issubclass(cls, BaseModel) and "__init__" in vars(cls)
    ]
    return {name for constructor in constructors for name in _keywords(constructor)}


def check_keys(config: Config, model_class: type, strict: bool) -> list[str]:
    """Refuse a key close to a known one; warn of any other unknown one.

    Args:
        config: the merged configuration.
        model_class: the experiment's model.
        strict: any unknown key is an error.

    Returns:
        Warnings for the user.

    Raises:
        UserError: a key that is probably misspelt, or with `strict` any unknown key.
    """
    known = known_keys(model_class)
    unknown = [key for key in map(str, config.params) if key not in known]
    for key in unknown:
        if close := nearest(key, known, cutoff=_CLOSE):
            raise UserError(f"unknown key {key!r} in {config.origin[key]}; did you mean {close[0]!r}?")
    listed = ", ".join(f"{key} ({config.origin[key]})" for key in unknown)
    if unknown and strict:
        raise UserError(f"unknown keys: {listed}")
    return [f"unknown keys, without effect on {model_class.__name__}: {listed}"] if unknown else []


def _keywords(function: Callable[..., Any]) -> Iterable[str]:
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    names = (p.name for p in inspect.signature(function).parameters.values() if p.kind in kinds)
    return (name for name in names if name not in ("self", "feature_map"))
