"""Parameters of an entry in which nothing is wrong."""

GOOD = {
    "model": "DIEN",
    "model_id": "X",
    "loss": "binary_crossentropy",
    "optimizer": "adam",
    "data_root": "data",
    "metrics": ["AUC", "logloss"],
    "data_format": "csv",
}
