"""Checkpoints that a crash cannot break, and that run no code when read.

They are written completely or not at all. `<expid>.model` contains the best weights, a plain state_dict at the zoo's
place; see `resume` for `<expid>.resume`.
"""

import os
import pickle
import random
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.common.files import write_atomic

_DIRECTORY = 0x10
"""Bit of a zip entry's attributes; torch reads nothing of such an entry, and leaves its tensor as memory was."""


def save(content: Any, path: Path) -> None:
    """Call `torch.save` atomically."""
    write_atomic(path, lambda file: torch.save(content, file))


def keep_previous(weights: Path) -> None:
    """Keep the checkpoint of an earlier run as `<expid>.previous.model`.

    It becomes a second name of the file, so that `<expid>.model` exists at every moment.

    Raises:
        UserError: a copy is needed, because the file system has no hard links, and cannot be written.
    """
    if not weights.exists():
        return
    previous = weights.with_suffix(".previous.model")
    try:
        previous.unlink(missing_ok=True)
        try:
            os.link(weights, previous)
        except OSError:
            shutil.copyfile(weights, previous)
    except OSError as error:
        raise UserError(f"cannot write {previous}: {error.strerror}") from error


def load(path: Path, mapped: bool = False) -> dict[str, Any]:
    """Read a checkpoint on the CPU; only tensors and plain values are accepted.

    Args:
        path: the file.
        mapped: whether tensors stay in the file until they are read.

    Raises:
        UserError: there is no such file, or it is broken or contains anything else.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except FileNotFoundError as error:
        raise UserError(f"checkpoint {path} does not exist") from error
    except pickle.UnpicklingError as error:
        raise UserError(
            f"checkpoint {path} is refused: it is damaged, or it holds more than tensors and numbers; train again"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise UserError(f"checkpoint {path} is not readable: {first_line(error)}") from error
    if not isinstance(content, dict):
        raise UserError(f"checkpoint {path} must hold a state dict, but holds a {type(content).__name__}")
    return content


def require_intact(path: Path) -> None:
    """Check the checksums in a file of `torch.save`, which `torch.load` ignores.

    Raises:
        UserError: the content has changed.
    """
    try:
        if not zipfile.is_zipfile(path):
            return  # `load` reads torch's older form, which has no checksums, and refuses everything else
        with zipfile.ZipFile(path) as file:
            directories = (entry.filename for entry in file.infolist() if entry.external_attr & _DIRECTORY)
            damaged = file.testzip() or next(directories, None)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, EOFError, OSError) as error:
        damaged = first_line(error)
    if damaged:
        raise UserError(f"checkpoint {path} is damaged: {damaged}; restore the file, or train again")


def load_weights(model: nn.Module, path: Path) -> None:
    """Load the weights of a checkpoint into the model.

    Raises:
        UserError: as `load` and `require_intact`, or the checkpoint does not match the model.
    """
    require_intact(path)
    fit_weights(model, load(path), path)


def fit_weights(model: nn.Module, weights: dict[str, Any], path: Path) -> None:
    """Load a state dict that must have exactly the model's names and shapes.

    Raises:
        UserError: the names and shapes that differ.
    """
    weights = {str(name): value for name, value in weights.items()}
    expected = {name: _form(value) for name, value in model.state_dict().items()}
    found = {name: _form(value) for name, value in weights.items()}
    differences = [f"no {name}" for name in expected if name not in found]
    differences += [f"{name} is not the model's" for name in found if name not in expected]
    differences += [
        f"{name} is {found[name]}, the model's {shape}"
        for name, shape in expected.items()
        if name in found and found[name] != shape
    ]
    if differences:
        more = f" and {len(differences) - 3} more" if len(differences) > 3 else ""
        raise UserError(
            f"checkpoint {path} does not match the model: {'; '.join(differences[:3])}{more}; train again, or restore "
            "its configuration"
        )
    model.load_state_dict(weights)


def _form(value: Any) -> str:
    """Return the shape of a tensor of any kind; the type of any other value."""
    if not isinstance(value, Tensor):
        return f"no tensor but of type {type(value).__name__}"
    return f"{'' if value.layout == torch.strided else 'sparse '}{tuple(value.shape)}"


def rng_state() -> dict[str, Any]:
    """Return states of the generators of torch, CUDA, NumPy and Python.

    The states are tensors and plain numbers.
    """
    numpy_state = np.random.get_state(legacy=False)
    version, internal, gauss_next = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [
            torch.from_numpy(numpy_state["state"]["key"].astype(np.int64)),
            int(numpy_state["state"]["pos"]),
            int(numpy_state["has_gauss"]),
            float(numpy_state["gauss"]),
        ],
        "python": [version, torch.tensor(internal), gauss_next],
    }


def set_rng_state(state: dict[str, Any]) -> None:
    """Restore what `rng_state` returned."""
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])
    keys, *rest = state["numpy"]
    np.random.set_state(("MT19937", keys.numpy().astype(np.uint32), *rest))
    version, internal, gauss_next = state["python"]
    random.setstate((version, tuple(internal.tolist()), gauss_next))


def first_line(error: BaseException) -> str:
    """Return the first line of an error."""
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
