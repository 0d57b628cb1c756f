"""Whether the encoder of a data set or a bundle makes what its model takes."""

from fuxictr.features import FeatureMap

from dien_fuxictr.common.errors import UserError

from .encoder import Encoder


def check_fit(encoder: Encoder, feature_map: FeatureMap, what: str) -> None:
    """Compare the columns of the encoder with the features of the model.

    Args:
        encoder: of the data set or the bundle.
        feature_map: of the model.
        what: they belong to, for the message.

    Raises:
        UserError: a feature that the encoder lacks, or makes otherwise.
    """
    columns = {column["name"]: column for column in encoder.columns}
    for name, feature in feature_map.features.items():
        if feature["type"] == "meta":
            continue
        if name not in columns:
            raise UserError(f"{what} does not fit itself: encoder.json lacks feature {name}")
        column = columns[name]
        for key in ("type", *(["max_len"] if feature["type"] == "sequence" else [])):
            if column[key] != feature[key]:
                raise UserError(
                    f"{what} does not fit itself: {name} has {key} {column[key]} in encoder.json, "
                    f"{feature[key]} in feature_map.json"
                )
        if "vocabulary" in column:
            largest = max(encoder.vocabularies[column["vocabulary"]].values())
            if largest + 1 != feature["vocab_size"]:
                raise UserError(
                    f"{what} does not fit itself: {name} has ids up to {largest} in encoder.json, "
                    f"{feature['vocab_size']} ids in feature_map.json"
                )
