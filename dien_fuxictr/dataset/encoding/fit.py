"""Check that the encoder of a data set or bundle matches its model."""

from fuxictr.features import FeatureMap

from dien_fuxictr.common.errors import UserError

from .encoder import FILE_NAME, Encoder
from .schema import COLUMN


def check_fit(encoder: Encoder, feature_map: FeatureMap, what: str) -> None:
    """Compare the columns of the encoder with the features of the model.

    Args:
        encoder: encoder of the data set or the bundle.
        feature_map: feature map of the model.
        what: name of the data set or bundle, for the message.

    Raises:
        UserError: the encoder lacks a feature, or encodes it differently.
    """
    for column in encoder.columns:
        own = {key: value for key, value in column.items() if key not in ("vocabulary", "statistics", "empty")}
        COLUMN.check(own, lambda _, name=column["name"]: f"column {name} of {FILE_NAME} of {what}")
        column |= own
        if column["type"] in ("categorical", "sequence") and "vocabulary" not in column:
            raise UserError(f"{what} is inconsistent: {column['name']} has no vocabulary in encoder.json")
        if not isinstance(column.get("empty", ""), str):
            raise UserError(f"{what}: empty of column {column['name']} in encoder.json must be text")
    for name, ids in encoder.vocabularies.items():
        if not all(type(i) is int and i >= 0 for i in ids.values()):
            raise UserError(f"{what}: ids of vocabulary {name} in encoder.json must be whole numbers from 0")
    columns = {column["name"]: column for column in encoder.columns}
    for name, feature in feature_map.features.items():
        if feature["type"] == "meta":
            continue
        if name not in columns:
            raise UserError(f"{what} is inconsistent: encoder.json lacks feature {name}")
        column = columns[name]
        for key in ("type", *(["max_len"] if feature["type"] == "sequence" else [])):
            if column[key] != feature[key]:
                raise UserError(
                    f"{what} is inconsistent: {name} has {key} {column[key]} in encoder.json, "
                    f"{feature[key]} in feature_map.json"
                )
        if "vocabulary" in column:
            largest = max(encoder.vocabularies[column["vocabulary"]].values())
            if largest + 1 != feature["vocab_size"]:
                raise UserError(
                    f"{what} is inconsistent: {name} has ids up to {largest} in encoder.json, "
                    f"{feature['vocab_size']} ids in feature_map.json"
                )
