"""Bundles that differ from another one."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from dien_fuxictr.serving.bundle import GOLDEN, WEIGHTS, read_bundle
from dien_fuxictr.serving.golden import golden_requests
from dien_fuxictr.serving.manifest import read_manifest, write_manifest


def other_bundle(bundle: Path, folder: Path, seed: int, keeps_golden: bool = False) -> str:
    """Copy a bundle with weights that give other scores; return its digest.

    `keeps_golden` keeps the golden scores of the original.
    """
    shutil.copytree(bundle, folder)
    generator = torch.Generator().manual_seed(seed)
    weights = load_file(folder / WEIGHTS)
    for name, weight in weights.items():
        if weight.is_floating_point() and "running_var" not in name:
            weight += 0.2 * torch.randn(weight.shape, generator=generator)
    save_file(weights, folder / WEIGHTS)
    digest = write_manifest(folder)
    if keeps_golden:
        return digest
    golden = golden_requests(read_bundle(folder, read_manifest(folder)), [])
    (folder / GOLDEN).write_text(json.dumps(golden))
    return write_manifest(folder)


def edited(bundle: Path, name: str, change: Callable[[Any], Any]) -> str:
    """Change the content of a JSON file of a bundle; return the bundle's digest.

    The change is in place, or returns the new content.
    """
    content = json.loads((bundle / name).read_text())
    (bundle / name).write_text(json.dumps(change(content) or content))
    return write_manifest(bundle)


def without_golden(bundle: Path) -> str:
    """Make a bundle one of an older version; returns its digest."""
    (bundle / GOLDEN).unlink()
    return write_manifest(bundle)


def with_nan(bundle: Path) -> str:
    """Give a bundle weights that are all NaN; returns its digest."""
    save_file(all_nan(load_file(bundle / WEIGHTS)), bundle / WEIGHTS)
    return write_manifest(bundle)


def all_nan(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return weights of equal shapes that are NaN, except whole numbers."""
    return {name: weight * torch.nan if weight.is_floating_point() else weight for name, weight in weights.items()}
