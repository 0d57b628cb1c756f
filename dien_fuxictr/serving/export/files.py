"""The files of an exported model, each written whole or not at all."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from fuxictr.pytorch.models import BaseModel

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.common.files import require_writable, write_atomic
from model_zoo.DIEN.src import DIEN, operators

from . import loops, onnx_layers
from .inputs import ROW, dynamic_shapes, inputs_of
from .trace import check_model, quiet, trace

ABOUT = "about.json"
"""What a program of `torch.export` has beside it, in its file."""
OUTPUT = "scores"
_ONNX_LIMIT = 2 << 30


def check_file(form: str, file: Path) -> None:
    """Check where a model is to be exported to, before the work.

    Raises:
        UserError: the name does not end as files of that form do; no such folder; it cannot be written; a package
            is not installed.
    """
    suffix, _ = FORMS[form]
    if file.suffix != suffix:
        raise UserError(f"--export {form} {file}: the file's name must end with {suffix}")
    if not file.absolute().parent.is_dir():
        raise UserError(f"--export {form} {file}: there is no folder {file.parent}")
    require_writable(file)
    if form == "onnx":
        try:
            import onnxscript  # noqa: F401  torch's exporter needs it
        except ImportError as error:
            raise UserError("--export onnx needs a package that is not installed: pip install onnxscript") from error


def export(model: BaseModel, form: str, file: Path, about: dict[str, str]) -> None:
    """Write a model's scores as one file.

    Args:
        model: in evaluation mode, on the CPU.
        form: one of `FORMS`.
        file: that `check_file` has passed.
        about: what it is to say of itself, beside its inputs.

    Raises:
        UserError: the model cannot be exported, or the file cannot be written.
    """
    check_model(model)
    inputs = {name: {"shape": shape, "dtype": str(dtype)[6:]} for name, (shape, dtype) in inputs_of(model).items()}
    _, write = FORMS[form]
    write(model, file, {**about, "torch": torch.__version__, "inputs": json.dumps(inputs)})


def _write_torch(model: BaseModel, file: Path, about: dict[str, str]) -> None:
    in_torch = isinstance(model, DIEN) and model.sequences[0].extractor.backend in ("torch", "reference")
    program = trace(model, loops if in_torch else operators)
    write_atomic(file, lambda opened: torch.export.save(program, opened, extra_files={ABOUT: json.dumps(about)}))


def _write_onnx(model: BaseModel, file: Path, about: dict[str, str]) -> None:
    size = sum(value.nbytes for value in model.state_dict().values())
    if size > _ONNX_LIMIT:
        raise UserError(f"--export onnx {file}: the weights are {size} bytes; such a file has {_ONNX_LIMIT} at most")
    from onnxscript import optimizer

    inputs = inputs_of(model)
    program = onnx_layers.count_axes_from_the_front(trace(model, onnx_layers))
    with torch.no_grad(), quiet():
        onnx = torch.onnx.export(
            program,
            dynamo=True,
            input_names=[*inputs, ROW],
            output_names=[OUTPUT],
            opset_version=onnx_layers.OPSET,
            dynamic_shapes=dynamic_shapes(inputs),
            optimize=False,  # it takes 1e-12, which keeps the mean of no behaviours from 0 / 0, for 0
            verbose=False,
        )
        assert onnx is not None
        optimizer.fold_constants(onnx.model)
        optimizer.remove_unused_nodes(onnx.model)
        onnx.model.metadata_props.update(about)
        content = onnx.model_proto.SerializeToString()
    write_atomic(file, lambda opened: opened.write(content))


FORMS: dict[str, tuple[str, Callable[[BaseModel, Path, dict[str, Any]], None]]] = {
    "onnx": (".onnx", _write_onnx),
    "torch": (".pt2", _write_torch),
}
"""Form -> how its files' names end, and what writes one."""
