"""Fixtures of the tests of the training."""

import pytest
from fuxictr.features import FeatureMap
from fuxictr.pytorch.dataloaders import RankDataLoader
from fuxictr.pytorch.torch_utils import seed_everything


@pytest.fixture
def parts(workspace, settings_of_tiny):
    """(model, training loader, validation loader) of a configuration, freshly seeded."""
    from model_zoo.Tiny.src import Tiny

    def build(**settings):
        params = {
            **settings_of_tiny,
            "model_id": "Tiny_test",
            "model_root": "./checkpoints/",
            "gpu": -1,
            "data_format": "npz",
            "train_data": "data/tiny/train.npz",
            "valid_data": "data/tiny/valid.npz",
            **settings,
        }
        seed_everything(params["seed"])
        feature_map = FeatureMap("tiny", "data/tiny")
        feature_map.load("data/tiny/feature_map.json", params)
        return Tiny(feature_map, **params), *RankDataLoader(feature_map, stage="train", **params)

    return build
