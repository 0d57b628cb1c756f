"""Declarations that Python and the C++ sources share, compared on load.

A field in the wrong place would silently corrupt memory.
"""

import ctypes
from typing import Any

LANES = 32
KINDS = ("GRU", "AIGRU", "AGRU", "AUGRU", "AUGRU-tensorflow")
"""Recurrences that the kernels have, in the order of the C++ sources."""
ACTIVATION_KINDS = ("none", "sigmoid", "relu", "tanh", "prelu", "dice")
POOLINGS = ("not pooled", "sum", "mean")
NO_MEMORY, BAD_OFFSETS, BAD_ID = 1, 2, 3

_NUMBERS = {
    "LANES": LANES,
    "NO_MEMORY": NO_MEMORY,
    "BAD_OFFSETS": BAD_OFFSETS,
    "BAD_ID": BAD_ID,
    **{f"ActivationKind.{name}": number for number, name in enumerate(ACTIVATION_KINDS)},
    **{f"Pooling.{name}": number for number, name in enumerate(POOLINGS)},
    **{f"Kind.{name}": number for number, name in enumerate(KINDS)},
}

_structures: list[type[ctypes.Structure]] = []


class Structure(ctypes.Structure):
    """Structure of the C++ sources; the class has its name there."""

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        _structures.append(cls)


def compare(library: str) -> None:
    """Compare the layout that a library reports with the declarations in Python.

    Args:
        library: result of the library's function `layout`.

    Raises:
        RuntimeError: they differ; the message names the structure and the field.
    """
    there = dict(line.split("\t") for line in library.splitlines())
    here = _written_here()
    for name in {**here, **there}:
        if here.get(name) != there.get(name):
            cpp, python = there.get(name, "unknown"), here.get(name, "unknown")
            raise RuntimeError(f"The kernels' sources and Python differ about {name}: {cpp} in C++, {python} in Python")


def _written_here() -> dict[str, str]:
    lines = {name: str(number) for name, number in _NUMBERS.items()}
    for structure in _structures:
        lines[structure.__name__] = f"size {ctypes.sizeof(structure)}"
        for name, *_ in structure._fields_:
            field = getattr(structure, name)
            lines[f"{structure.__name__}.{name}"] = f"offset {field.offset} size {field.size}"
    return lines
