"""List keys of earlier versions, each with what to write instead."""

from model_zoo.DIEN.src.changed_keywords import CHANGED_KEYWORDS

CHANGED_KEYS: dict[str, str] = CHANGED_KEYWORDS | {
    "behaviour_dropout": "is gone: it did not improve any model",
    "embedding_learning_rate": "is gone: embeddings are trained with learning_rate",
    "embedding_reinit": "is gone: it lowered the AUC of every model",
}
"""Key -> the rest of the sentence that refuses it: `is now <key>`, or why it is gone."""
