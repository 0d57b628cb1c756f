"""Finding and building the experiment's model."""

import hashlib
import importlib
import inspect
from pathlib import Path
from typing import Any

from fuxictr.features import FeatureMap
from fuxictr.pytorch.models import BaseModel

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.common.signals import DeferredSignals
from dien_fuxictr.common.suggestions import nearest
from dien_fuxictr.dataset.encoding.schema import check_stored
from dien_fuxictr.dataset.encoding.stored import read_json

from .checkout import Checkout
from .configuration.expressions import check_features


def find_model(name: str, zoo: str | None = None) -> type[BaseModel]:
    """Return the class `name` of `model_zoo.<name>.src`.

    Args:
        name: name of the class.
        zoo: a FuxiCTR checkout that has it, instead of this project.

    Raises:
        UserError: there is no such model, or its folder lacks the class; the message has the known names.
    """
    if zoo is not None:
        return Checkout(Path(zoo)).model_class(name)
    package = f"model_zoo.{name}.src"
    try:
        module = importlib.import_module(package)
    except ModuleNotFoundError as error:
        if not (error.name and f"{package}.".startswith(f"{error.name}.")):
            raise
        module = None
    if module and module.__file__:
        if not hasattr(module, name):
            raise UserError(
                f"model {name!r}: {module.__file__} has no class of that name; add from .{name} import {name}"
            )
        return getattr(module, name)
    if folder := next((folder for folder in _model_folders() if folder.name == name), None):
        file = folder / "src" / "__init__.py"
        raise UserError(f"model {name!r}: {file} does not exist; write it, with from .{name} import {name}")
    models = own_models()
    hint = nearest(name, models)
    raise UserError(
        f"model {name!r} is unknown; {'nearest' if hint else 'known'}: {', '.join(hint or models)}; a model of a "
        "FuxiCTR checkout needs zoo: the checkout's folder"
    )


def own_models() -> list[str]:
    """Return the names of the models in `model_zoo/`."""
    return sorted({folder.name for folder in _model_folders() if (folder / "src").is_dir()})


def _model_folders() -> list[Path]:
    return [folder for root in importlib.import_module("model_zoo").__path__ for folder in Path(root).glob("*/")]


def code_digest(model_class: type[BaseModel]) -> str:
    """Return a digest of the Python files in the folder of a model's class."""
    folder = Path(inspect.getfile(model_class)).parent
    content = hashlib.blake2b(digest_size=16)
    for file in sorted(folder.rglob("*.py")):
        content.update(f"{file.relative_to(folder)}\0".encode() + file.read_bytes())
    return content.hexdigest()


def load_feature_map(params: dict[str, Any], data_dir: Path | None = None) -> FeatureMap:
    """Return the data set's feature map, with the experiment's settings.

    These are `use_features`, `feature_specs` and `group_id`.

    Args:
        params: settings of the experiment.
        data_dir: folder of the data set; None: data_root/dataset_id.

    Raises:
        UserError: there is no feature map, or the data set lacks a feature.
    """
    data_dir = data_dir or Path(params["data_root"], params["dataset_id"])
    file = data_dir / "feature_map.json"
    if not file.is_file():
        raise UserError(f"data set {params['dataset_id']} is incomplete: {file} does not exist")
    stored = read_json(file, lambda stored: _described(stored, file))
    if stored.get("dataset_id") != params["dataset_id"]:
        raise UserError(f"{file} belongs to data set {stored.get('dataset_id')!r}, not to {params['dataset_id']!r}")
    features = {name: spec for entry in stored["features"] for name, spec in entry.items()}
    names = list(features)
    _known_feature("use_features", params.get("use_features") or [], names)
    used = params.get("use_features") or names
    for spec in params.get("feature_specs") or []:
        listed = spec["name"] if isinstance(spec["name"], list) else [spec["name"]]
        _known_feature("feature_specs", listed, names, used)
    if params.get("group_id"):
        _known_feature("group_id", [params["group_id"]], names, used)
        if (kind := features[params["group_id"]]["type"]) in ("sequence", "embedding"):
            raise UserError(f"group_id = {params['group_id']}: the feature is a {kind}; it must have one value per row")
    feature_map = FeatureMap(params["dataset_id"], str(data_dir))
    feature_map.load(str(file), params)
    check_features(({**spec, "name": name} for name, spec in feature_map.features.items()), str(file))
    feature_map.num_fields = feature_map.get_num_fields()  # the zoo counts before use_features
    return feature_map


def _described(stored: dict[str, Any], file: Path) -> dict[str, Any]:
    """Return the content of feature_map.json, checked for models and loaders."""
    features = {name: spec for entry in stored["features"] for name, spec in entry.items()}
    if not all(isinstance(label, str) for label in stored["labels"]) or not stored["labels"]:
        raise ValueError(f"labels are {stored['labels']}")
    for key in ("num_fields", "total_features", "input_length"):
        _ = stored[key]
    for name, spec in features.items():
        check_stored(name, spec, file)
        kind, shared = spec["type"], spec.get("share_embedding")
        if shared is not None and shared not in features:
            raise ValueError(f"{name} shares the embedding of {shared}, which is not a feature")
        needed = ["vocab_size"] if kind in ("categorical", "sequence") and shared is None else []
        for key in [*needed, *(["max_len"] if kind == "sequence" else [])]:
            if type(spec.get(key)) is not int or spec[key] < 1:
                raise ValueError(f"{key} = {spec.get(key)!r} of {name} must be a whole number, 1 or more")
    return stored


def build_model(model_class: type[BaseModel], feature_map: FeatureMap, params: dict[str, Any]) -> BaseModel:
    """Build the model with every key of the configuration.

    Raises:
        UserError: the constructor refuses a value, or the optimizer of one of this project's models lacks weights.
    """
    with DeferredSignals() as signals:  # the zoo reports any error in building the optimizer as an unknown name
        try:
            model = model_class(feature_map, **params)
        except (ValueError, NotImplementedError) as error:
            raise UserError(f"{params['model_id']}: {' '.join(str(error).split())}") from error
    signals.raise_received()
    if params.get("zoo") is None:
        _check_optimizer(model)
    model.count_parameters()
    return model


def _check_optimizer(model: BaseModel) -> None:
    """Raise UserError if the optimizer lacks weights: layers that were made after it are never trained."""
    name = type(model).__name__
    if not hasattr(model, "optimizer"):
        raise UserError(
            f"model {name} has no optimizer; its constructor must end with self.finish(...) or self.compile(...)"
        )
    trained = {id(weight) for group in model.optimizer.param_groups for weight in group["params"]}
    others = [each for each, weight in model.named_parameters() if weight.requires_grad and id(weight) not in trained]
    if others:
        raise UserError(
            f"model {name} would not train {', '.join(others[:3])}{', ...' if len(others) > 3 else ''}: the optimizer "
            "lacks them; make all layers before self.finish(...) or self.compile(...)"
        )


def _known_feature(key: str, names: list[str], known: list[str], used: list[str] | None = None) -> None:
    for name in names:
        if name not in known:
            hint = nearest(str(name), known) or sorted(known)
            raise UserError(f"{key}: the data set has no feature {name!r}; there are {', '.join(hint)}")
        if used is not None and name not in used:
            raise UserError(f"{key}: feature {name!r} is missing in use_features; add it there")
