"""The recurrences of DIEN (Zhou et al., AAAI 2019), listed once: GRU (2)-(5), AIGRU (9), AGRU (10), AUGRU (11)-(12)."""

from typing import Literal, get_args

GruType = Literal["GRU", "AIGRU", "AGRU", "AUGRU"]
GRU_TYPES = get_args(GruType)
KINDS = (*GRU_TYPES, "AUGRU-code")
"""`AUGRU-code` has the sign of the authors' program, where attention scales the gate that keeps the old state."""
