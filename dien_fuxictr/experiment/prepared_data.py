"""Built data set of an experiment, for its training and evaluation."""

import logging
from typing import Any

from fuxictr.features import FeatureMap
from fuxictr.pytorch.dataloaders import RankDataLoader
from fuxictr.utils import print_to_json

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.common.ray_loopback import fuxictrs_ray
from dien_fuxictr.dataset.loading.checks import check_encoded

from .models import load_feature_map


class PreparedData:
    """Encoded files and the loaders that read them.

    Args:
        params: settings of the experiment, with the keys that `prepare_dataset` has returned.

    Raises:
        UserError: the files do not fit the experiment.

    Attributes:
        params: as given.
        has_test: whether there are test data.
    """

    def __init__(self, params: dict[str, Any]) -> None:
        self.params = params
        self.has_test = bool(params.get("test_data"))
        feature_map = load_feature_map(params)
        check_encoded(feature_map, params)
        logging.info("Feature specs: " + print_to_json(feature_map.features))

    def train_loaders(self, feature_map: FeatureMap) -> tuple[Any, Any]:
        """Return the loaders of the training data and of the validation data.

        Args:
            feature_map: feature map of the model.

        Raises:
            UserError: there are no validation data.
        """
        train, valid = self._loaders("train", feature_map)
        if valid is None:
            raise UserError(
                f"valid_data of data set {self.params['dataset_id']} is missing; training needs validation rows"
            )
        return train, valid

    def valid_loader(self, feature_map: FeatureMap) -> Any:
        """Return the loader of the validation data, None where there are none."""
        return self._loaders("train", feature_map)[1]

    def test_loader(self, feature_map: FeatureMap) -> Any:
        """Return the loader of the test data."""
        return self._loaders("test", feature_map)

    def _loaders(self, stage: str, feature_map: FeatureMap) -> Any:
        with fuxictrs_ray():
            return RankDataLoader(feature_map, stage=stage, **self.params)
