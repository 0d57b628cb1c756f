"""Whether the encoder of a bundle makes what its model takes."""

from pathlib import Path

from fuxictr.features import FeatureMap

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.dataset.encoding.encoder import Encoder


def check_fit(encoder: Encoder, feature_map: FeatureMap, folder: Path) -> None:
    """Compare the columns of the encoder with the features of the model.

    Raises:
        UserError: a feature that the encoder lacks, or makes otherwise.
    """
    columns = {column["name"]: column for column in encoder.columns}
    for name, feature in feature_map.features.items():
        if feature["type"] == "meta":
            continue
        if name not in columns:
            raise UserError(f"bundle {folder} does not fit itself: encoder.json lacks feature {name}")
        column = columns[name]
        for key in ("type", *(["max_len"] if feature["type"] == "sequence" else [])):
            if column[key] != feature[key]:
                raise UserError(
                    f"bundle {folder} does not fit itself: {name} has {key} {column[key]} in encoder.json, "
                    f"{feature[key]} in feature_map.json"
                )
        if "vocabulary" in column:
            largest = max(encoder.vocabularies[column["vocabulary"]].values())
            if largest >= feature["vocab_size"]:
                raise UserError(
                    f"bundle {folder} does not fit itself: {name} has ids up to {largest} in encoder.json, "
                    f"{feature['vocab_size']} ids in feature_map.json"
                )
