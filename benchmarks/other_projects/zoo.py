"""DIEN of a FuxiCTR checkout, without auxiliary loss: with it, it fails."""

from pathlib import Path

from dien_fuxictr.experiment.checkout import Checkout
from dien_fuxictr.experiment.training.optimizers import fuse

from ..synthetic_batches import Sizes, make_feature_map
from ..systems import System, Work, keywords, zoo_system


def build(sizes: Sizes, work: Work, zoo: Path, fused: bool) -> System:
    """Build the zoo's DIEN.

    Args:
        sizes: sizes of the data set and the model.
        work: has no auxiliary loss.
        zoo: the checkout.
        fused: whether its Adam is torch's fused one, which the zoo does not use by itself.
    """
    model = Checkout(zoo).model_class("DIEN")
    feature_map = make_feature_map(sizes, negatives=False)
    system = zoo_system(model(feature_map, dien_neg_seq_field=[], **keywords(sizes, work)), trims=False)
    if fused:
        fuse(system.optimizer)
    return system
