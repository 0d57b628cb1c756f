"""Bundles that differ from another one in their weights."""

import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from dien_fuxictr.serving.bundle import WEIGHTS
from dien_fuxictr.serving.manifest import MANIFEST, write_manifest


def other_bundle(bundle: Path, folder: Path, seed: int) -> str:
    """A copy in `folder`, with weights that give other scores; returns its digest."""
    shutil.copytree(bundle, folder)
    generator = torch.Generator().manual_seed(seed)
    weights = load_file(folder / WEIGHTS)
    for name, weight in weights.items():
        if weight.is_floating_point() and "running_var" not in name:
            weight += 0.2 * torch.randn(weight.shape, generator=generator)
    save_file(weights, folder / WEIGHTS)
    (folder / MANIFEST).unlink()
    return write_manifest(folder)
