from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from made import DEFAULTS, features, make_feature_map

from model_zoo.DIEN.src import DIEN
from model_zoo.DIEN.src.kernels import backends
from model_zoo.DIEN.src.kernels.reference import KINDS


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out tests of a kind with a backend that lacks it."""

    def lacks(item: pytest.Item) -> bool:
        params = item.callspec.params if hasattr(item, "callspec") else {}
        kinds = backends.KINDS.get(params.get("backend"), KINDS)
        return params.get("kind") in KINDS and params["kind"] not in kinds

    config.hook.pytest_deselected(items=[item for item in items if lacks(item)])
    items[:] = [item for item in items if not lacks(item)]


@pytest.fixture
def make_dien() -> Callable[..., DIEN]:
    """Build a small DIEN with embeddings large enough for every part to matter."""

    def make(spec: dict[str, dict] | None = None, data_dir: Path | str = "", seed: int = 0, **keywords: Any) -> DIEN:
        torch.manual_seed(seed)
        model = DIEN(make_feature_map(spec or features(), data_dir), **{**DEFAULTS, **keywords})
        with torch.no_grad():
            for layer in model.embedding_layer.modules():
                if isinstance(layer, torch.nn.Embedding):
                    layer.weight[1:].normal_()
        return model

    return make


@pytest.fixture
def double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)
