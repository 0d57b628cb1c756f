"""Sizes for trying benchmarks out."""

from benchmarks.synthetic_batches import Sizes

TINY = Sizes(
    items=50,
    categories=12,
    contexts=6,
    embedding=4,
    attention_units=(6, 3),
    aux_units=(6, 3),
    mlp_units=(8, 4),
    max_len=12,
)
