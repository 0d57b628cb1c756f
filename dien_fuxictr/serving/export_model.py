"""Export a trained model as one file: ONNX, or a program of `torch.export`.

The exported module is the one that a model offers, see `experiment.model_methods`. It reads a sequence once per user,
(B, T), and any other feature once per candidate, (N,).
"""

import json
import logging
import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from fuxictr.features import FeatureMap
from fuxictr.pytorch.models import BaseModel
from torch import Tensor, nn
from torch.export import ExportedProgram

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.common.files import require_writable, write_atomic
from dien_fuxictr.common.optional_packages import needed
from dien_fuxictr.experiment.model_methods import require_method

from .settings import EXPORT_FORMS

ABOUT = "about.json"
"""Name of the extra file in a file of `torch.export`."""
OUTPUT = "scores"
_ONNX_LIMIT = 2 << 30
_ONNX_OPSET = 20
"""Opset of the operators that models write themselves."""
ROW = "row"
"""Input that says which user each candidate belongs to."""
_USERS, _CANDIDATES = "users", "candidates"
_LARGEST = 1 << 31


class Input(NamedTuple):
    """One input.

    shape: names of what may be any number, and numbers. dtype: int64 of ids, float32 of numbers.
    """

    shape: tuple[str | int, ...]
    dtype: torch.dtype


def inputs_of(feature_map: FeatureMap, module: nn.Module) -> dict[str, Input]:
    """Return the features that an exported module reads: (B, T) or (N,).

    Sequences have one row per user, others one value per candidate.

    Args:
        feature_map: feature map of the model.
        module: result of the model's `export_module`.
    """
    specs = {name: spec for name, spec in feature_map.features.items() if spec["type"] != "meta"}
    together: list[tuple[str, ...]] = getattr(module, "aligned", [])
    read: Collection[str] = getattr(module, "features", specs.keys())
    steps: dict[str, str] = {}
    inputs = {}
    for names in (*together, *([name] for name in specs)):
        of_them = next((steps[name] for name in names if name in steps), f"steps_{len(set(steps.values()))}")
        steps |= {name: of_them for name in names if name in read and specs[name]["type"] == "sequence"}
    for name in (name for name in specs if name in read):
        kind = specs[name]["type"]
        if kind == "sequence":
            inputs[name] = Input((_USERS, steps[name]), torch.int64)
        elif kind == "embedding":
            inputs[name] = Input((_CANDIDATES, specs[name]["pretrain_dim"]), torch.float32)
        else:
            inputs[name] = Input((_CANDIDATES,), torch.int64 if kind == "categorical" else torch.float32)
    return inputs


def examples(inputs: dict[str, Input]) -> tuple[dict[str, Tensor], Tensor]:
    """Return example arguments of the module.

    Dynamic sizes are 2 or more, since torch treats 1 as a constant.
    """
    names = {size for each in inputs.values() for size in each.shape if isinstance(size, str)}
    sizes = {name: 3 + number for number, name in enumerate(sorted(names | {_USERS, _CANDIDATES}))}
    features = {
        name: torch.zeros(*(size if isinstance(size, int) else sizes[size] for size in shape), dtype=dtype)
        for name, (shape, dtype) in inputs.items()
    }
    return features, torch.zeros(sizes[_CANDIDATES], dtype=torch.int64)


def dynamic_shapes(inputs: dict[str, Input]) -> tuple[dict[str, dict], dict]:
    """Return which sizes of the arguments are dynamic; they may be 0."""
    names = {size for each in inputs.values() for size in each.shape if isinstance(size, str)}
    dims = {name: torch.export.Dim(name, min=0, max=_LARGEST) for name in names | {_CANDIDATES}}
    of_features = {
        name: {axis: dims[size] for axis, size in enumerate(shape) if isinstance(size, str)}
        for name, (shape, _) in inputs.items()
    }
    return of_features, {0: dims[_CANDIDATES]}


def check_file(form: str, file: Path) -> None:
    """Check where a model is to be exported to, before the work.

    Raises:
        UserError: the name does not end as files of that form do; no such folder; it cannot be written; a package
            is not installed.
    """
    suffix = EXPORT_FORMS[form]
    if file.suffix != suffix:
        raise UserError(f"--export {form} {file}: the file's name must end with {suffix}")
    if not file.absolute().parent.is_dir():
        raise UserError(f"--export {form} {file}: folder {file.parent} does not exist")
    require_writable(file)
    if form == "onnx":
        with needed("--export onnx", "pip install onnxscript"):
            import onnxscript  # noqa: F401  torch's exporter needs it


def export(model: BaseModel, form: str, file: Path, about: dict[str, str]) -> None:
    """Write a model's scores as one file.

    Args:
        model: in evaluation mode, on the CPU.
        form: one of `EXPORT_FORMS`.
        file: that `check_file` has passed.
        about: metadata of the file, in addition to its inputs.

    Raises:
        UserError: the model cannot be exported, or the file cannot be written.
    """
    require_method(type(model), "export_module", "cannot be exported")
    module = cast(Any, model).export_module(form).eval()
    inputs = inputs_of(model.feature_map, module)
    if ROW in inputs:
        raise UserError(f"feature {ROW!r} must have another name: an exported model has an input {ROW!r}")
    stated = {name: {"shape": shape, "dtype": str(dtype)[6:]} for name, (shape, dtype) in inputs.items()}
    _WRITERS[form](module, inputs, file, {**about, "torch": torch.__version__, "inputs": json.dumps(stated)})


def _write_torch(module: nn.Module, inputs: dict[str, Input], file: Path, about: dict[str, str]) -> None:
    program = trace(module, inputs)
    write_atomic(file, lambda opened: torch.export.save(program, opened, extra_files={ABOUT: json.dumps(about)}))


def _write_onnx(module: nn.Module, inputs: dict[str, Input], file: Path, about: dict[str, str]) -> None:
    size = sum(value.nbytes for value in module.state_dict().values())
    if size > _ONNX_LIMIT:
        raise UserError(f"--export onnx {file}: the weights have {size} bytes; an ONNX file has at most {_ONNX_LIMIT}")
    from onnxscript import optimizer

    program = count_axes_from_the_front(trace(module, inputs))
    with torch.no_grad(), quiet():
        onnx = torch.onnx.export(
            program,
            dynamo=True,
            input_names=[*inputs, ROW],
            output_names=[OUTPUT],
            opset_version=_ONNX_OPSET,
            dynamic_shapes=dynamic_shapes(inputs),
            optimize=False,  # it reads 1e-12, which keeps the mean of no behaviours from being 0 / 0, as 0
            verbose=False,
        )
        assert onnx is not None
        optimizer.fold_constants(onnx.model)
        optimizer.remove_unused_nodes(onnx.model)
        onnx.model.metadata_props.update(about)
        content = onnx.model_proto.SerializeToString()
    write_atomic(file, lambda opened: opened.write(content))


def trace(module: nn.Module, inputs: dict[str, Input]) -> ExportedProgram:
    """Return the program of a module, with dynamic sizes.

    These are the numbers of users, behaviours and candidates.
    """
    with torch.no_grad(), quiet():
        return torch.export.export(module.eval(), examples(inputs), dynamic_shapes=dynamic_shapes(inputs))


@contextmanager
def quiet() -> Iterator[None]:
    """Silence notes of torch's exporters on their own parts within the context."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def count_axes_from_the_front(program: ExportedProgram) -> ExportedProgram:
    """Rewrite sums along axis -1 as sums along the last axis, counted from 0.

    For zero rows ONNX Runtime up to 1.26 only computes the latter.
    """
    for node in program.graph.find_nodes(op="call_function", target=torch.ops.aten.sum.dim_IntList):
        summed, axes, *more = node.args
        node.args = (summed, [axis % summed.meta["val"].dim() for axis in axes], *more)
    return program


_WRITERS: dict[str, Callable[[nn.Module, dict[str, Input], Path, dict[str, str]], None]] = {
    "onnx": _write_onnx,
    "torch": _write_torch,
}
