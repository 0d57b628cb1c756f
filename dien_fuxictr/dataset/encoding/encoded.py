"""Encoded rows: columns, and histories as ragged arrays.

Rows refer to histories by (start, length).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.common.suggestions import require_name

from .raw import RawHistory
from .stored import damaged, read_array, read_arrays, read_json, require_integers

LAYOUT = "layout.json"


@dataclass(eq=False)
class EncodedHistory:
    """One sequence column of a split; row i is ids[start[i] : start[i] + length[i]].

    Attributes:
        ids: (S,) int32, every stored behaviour once.
        start: (N,) int64.
        length: (N,) int64, at most max_len.
        blank: (N,) bool, rows that mean "no behaviour" if the aligned columns do so, too.
        padding: post | pre, the side where a batch is padded.
    """

    ids: np.ndarray
    start: np.ndarray
    length: np.ndarray
    blank: np.ndarray
    padding: str

    def first(self, rows: int) -> "EncodedHistory":
        """Return the history of the first rows only."""
        return replace(self, start=self.start[:rows], length=self.length[:rows], blank=self.blank[:rows])


@dataclass
class HistoryTable:
    """Aligned sequence columns, which share start and length in every row.

    Attributes:
        columns: name -> (S + 1,) int32; a 0 follows the S behaviours.
        start: (N,) int64.
        length: (N,) int64.
        padding: post | pre.
    """

    columns: dict[str, np.ndarray]
    start: np.ndarray
    length: np.ndarray
    padding: str


@dataclass
class EncodedSplit:
    """Encoded rows in file order.

    Attributes:
        columns: name -> (N,) or (N, D): int32 ids, int64 unmapped meta, float32 numbers and labels.
        tables: the sequence columns.
    """

    columns: dict[str, np.ndarray]
    tables: list[HistoryTable]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()))) if self.columns else len(self.tables[0].length)


def aligned_tables(splits: list[dict[str, EncodedHistory]]) -> list[list[str]]:
    """Group the sequence columns whose spans agree in every row of all splits."""
    tables: list[list[str]] = []
    for name in splits[0]:
        for table in tables:
            if all(_aligned(split[table[0]], split[name]) for split in splits):
                table.append(name)
                break
        else:
            tables.append([name])
    return tables


def _aligned(a: EncodedHistory, b: EncodedHistory) -> bool:
    return a.padding == b.padding and np.array_equal(a.length, b.length) and np.array_equal(a.start, b.start)


def require_equal_lengths(histories: Mapping[str, EncodedHistory | RawHistory], table: list[str], path: str) -> None:
    """Raise UserError for the first row of unequal lengths in the columns of a table.

    Args:
        histories: column -> history.
        table: names of the columns.
        path: source of the rows, for the message.
    """
    first = histories[table[0]]
    for name in table[1:]:
        unequal = np.flatnonzero(first.length != histories[name].length)
        if len(unequal):
            row = unequal[0]
            raise UserError(
                f"{path}: row {row + 1}: sequences of unequal length: {table[0]} has {first.length[row]}, "
                f"{name} has {histories[name].length[row]}"
            )


def spans(histories: dict[str, EncodedHistory], table: list[str], path: str) -> tuple[np.ndarray, np.ndarray]:
    """Return start and length of the rows of one table.

    A row that is blank in all columns has length 0.

    Raises:
        UserError: the columns have unequal lengths in a row of `path`.
    """
    require_equal_lengths(histories, table, path)
    blank = np.logical_and.reduce([histories[name].blank for name in table])
    first = histories[table[0]]
    return first.start, np.where(blank, 0, first.length)


def assemble(
    columns: dict[str, np.ndarray], histories: dict[str, EncodedHistory], tables: list[list[str]], path: str
) -> EncodedSplit:
    """Build one split in memory, as `load_split` returns it from disk."""
    assembled = []
    for table in tables:
        start, length = spans(histories, table, path)
        flat = {name: np.append(histories[name].ids, np.int32(0)) for name in table}
        assembled.append(HistoryTable(flat, start, length, histories[table[0]].padding))
    return EncodedSplit(columns, assembled)


def save_splits(
    folder: Path,
    columns: dict[str, dict[str, np.ndarray]],
    histories: dict[str, dict[str, EncodedHistory]],
    tables: list[list[str]],
    truncated: dict[str, int],
) -> None:
    """Write `<split>.npz`, `histories/<column>.npy` and layout.json.

    Behaviours that splits share are written once.

    Args:
        folder: the folder of encoded files.
        columns: split -> columns.
        histories: split -> sequence columns.
        tables: result of `aligned_tables`.
        truncated: column -> number of rows that lost their newest behaviours to max_len.
    """
    (folder / "histories").mkdir(parents=True)
    written = {split: {f"column/{name}": array for name, array in arrays.items()} for split, arrays in columns.items()}
    for table in tables:
        base: dict[int, int] = {}
        parts: list[dict[str, EncodedHistory]] = []
        size = 0
        for split, of_split in histories.items():
            key = id(of_split[table[0]].ids)
            if key not in base:
                base[key] = size
                size += len(of_split[table[0]].ids)
                parts.append(of_split)
            start, length = spans(of_split, table, split)
            written[split][f"start/{table[0]}"] = start + base[key]
            written[split][f"length/{table[0]}"] = length.astype(np.int32)
        for name in table:
            padded = [part[name].ids for part in parts] + [np.zeros(1, dtype=np.int32)]
            np.save(folder / "histories" / f"{name}.npy", np.concatenate(padded))
    for split, arrays in written.items():
        np.savez(folder / f"{split}.npz", allow_pickle=False, **arrays)
    first = next(iter(histories.values()))
    layout = {"tables": tables, "padding": {name: first[name].padding for name in first}, "truncated": truncated}
    (folder / LAYOUT).write_text(json.dumps(layout, indent=4))


def load_layout(folder: Path) -> dict:
    """Return the tables, padding and truncated rows of a layout file.

    `tables` are aligned sequence columns; `padding` and `truncated` have one entry per column.

    Raises:
        UserError: the file is damaged.
    """
    file = folder / LAYOUT

    def checked(layout: dict) -> dict:
        names = [name for table in layout["tables"] for name in table]
        for name in names:
            require_name(f"sequence in {file}", name)  # it is part of a file name
        if sorted(names) != sorted(layout["padding"]) or not all(layout["tables"]):
            raise ValueError("tables and padding must name the same columns")
        if not set(layout["padding"].values()) <= {"pre", "post"}:
            raise ValueError(f"padding = {layout['padding']} must be pre or post")
        layout["truncated"].items()
        return layout

    return read_json(file, checked)


def load_split(path: Path) -> EncodedSplit:
    """Read one split, with stored behaviours mapped from disk.

    Splits share the mapped behaviours.

    Raises:
        UserError: a file is damaged, or spans are missing.
    """
    layout = load_layout(path.parent)
    arrays = read_arrays(path)
    tables = []
    for table in layout["tables"]:
        flat = {name: read_array(path.parent / "histories" / f"{name}.npy", mapped=True) for name in table}
        for name in (f"start/{table[0]}", f"length/{table[0]}"):
            if name not in arrays:
                raise damaged(path, f"{name} is missing")
            require_integers(f"{path}: {name}", arrays[name])
        start, length = arrays.pop(f"start/{table[0]}"), arrays.pop(f"length/{table[0]}").astype(np.int64)
        tables.append(HistoryTable(flat, start, length, layout["padding"][table[0]]))
    return EncodedSplit({name.removeprefix("column/"): array for name, array in arrays.items()}, tables)
