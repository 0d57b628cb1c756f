"""DIEN of a FuxiCTR checkout, without auxiliary loss: with it, it fails."""

from pathlib import Path

from experiment.checkout import Checkout

from ..made import Sizes, make_feature_map
from ..systems import NO_AUX, System, keywords, zoo_system


def build(sizes: Sizes, zoo: Path) -> System:
    """Args: zoo: the checkout."""
    model = Checkout(zoo).model_class("DIEN")
    feature_map = make_feature_map(sizes, negatives=False)
    return zoo_system(model(feature_map, dien_neg_seq_field=[], **keywords(sizes, NO_AUX)), trims=False)
