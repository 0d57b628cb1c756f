"""Tables for people."""

from collections.abc import Sequence


def padded_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table with padded columns, which terminals show well, too."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    padded = [
        " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        for line in (header, ["-" * width for width in widths], *rows)
    ]
    return "\n".join(f"| {line} |" for line in padded)
