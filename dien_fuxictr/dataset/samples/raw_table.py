"""Read tables with one row per behaviour or item from one or several files.

Formats are CSV, Parquet, and RecBole's atomic files.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from dien_fuxictr.common.csv_lines import count_lines, scan_csv
from dien_fuxictr.common.errors import UserError

from .parts import Part, missing, parts_of

ATOMIC = (".inter", ".item")
"""Suffixes of RecBole's atomic files: tabs separate the fields, the header has `name:type`."""
DIFFER = "its parts differ in their columns"
MULTI_VALUED = 'docs/guides/data.md, "Multi-valued columns"'
SKIP_HINT = "; --skip-bad-lines leaves such rows out"


@dataclass(frozen=True)
class RawTable:
    """One or several files with equal columns, read when columns are taken.

    Attributes:
        path: path of the table, for messages.
        parts: the files with their rows; text files have text.
        names: names of the columns.
    """

    path: Path
    parts: list[tuple[Part, pl.LazyFrame]]
    names: list[str]

    @classmethod
    def scan(cls, path: Path, skip_bad_lines: bool) -> "RawTable":
        """Open .parquet, .inter or .item files, or CSV files with a header line.

        CSV files may be gzipped.

        Args:
            path: a file, a folder of Parquet files or a pattern, see `parts_of`. Keys in names of folders, as in
                `day=2024-01-31`, become columns of text.
            skip_bad_lines: skip rows of text that have more or fewer fields than the header.

        Raises:
            UserError: there is no file, a file cannot be read, a row has more or fewer fields than the header and
                `skip_bad_lines` is off, or two files differ in their columns.
        """
        parts = parts_of(Path(path))
        if not parts:
            raise UserError(missing(Path(path)))
        scanned = [(part, _scan(part, skip_bad_lines)) for part in parts]
        (first, names), *others = ((part.name, rows.collect_schema().names()) for part, rows in scanned)
        for other, of_other in others:
            if different := sorted(set(names) ^ set(of_other)):
                having, lacking = (other, first) if different[0] in of_other else (first, other)
                raise UserError(f"{path}: {DIFFER}: {having} has {different[0]!r}, {lacking} does not")
        return cls(path, scanned, names)

    def take(self, columns: dict[str, str]) -> pl.DataFrame:
        """Return some columns under other names; all but `time` as text.

        Args:
            columns: new name -> name in the file.

        Returns:
            The rows of one file after the other, in the order of their paths.

        Raises:
            UserError: a column is missing, holds lists or has another type in another file, or a file cannot be read.
        """
        self._require(list(columns.values()))
        with _readable(self.path):
            taken = pl.concat(rows.select(_under_new_names(columns)) for _, rows in self.parts)
            return taken.collect(engine="streaming")

    def batches(self, columns: dict[str, str], many: int) -> Iterator[pl.DataFrame]:
        """Yield the result of `take` in batches of about `many` rows."""
        self._require(list(columns.values()))
        for part, rows in self.parts:
            with _readable(part.path):
                if ".parquet" in part.path.suffixes:
                    batches = _of_parquet(part, list(columns.values()), many)
                else:
                    batches = rows.collect_batches(chunk_size=many, maintain_order=True, engine="streaming")
                for batch in batches:
                    yield batch.select(_under_new_names(columns))

    def _require(self, names: list[str]) -> None:
        lacking = [name for name in names if name not in self.names]
        if lacking:
            raise UserError(f"{self.path} has no column {lacking[0]!r}; it has {', '.join(self.names)}")
        self._require_one_type(names)
        types = self.parts[0][1].collect_schema()
        for name in names:
            if types[name].is_nested():
                raise UserError(
                    f"{self.path}: column {name!r} is of type {types[name]}; a column must have one value per row. "
                    f"Join several values into one text, such as 'a|b': {MULTI_VALUED}"
                )

    def _require_one_type(self, columns: list[str]) -> None:
        """Raise UserError if a column has different types in two parts.

        An item 7 in one part and 7.0 in another would become two items.
        """
        (first, types), *others = ((part.name, rows.collect_schema()) for part, rows in self.parts)
        for other, of_other in others:
            for column in columns:
                if of_other[column] != types[column]:
                    raise UserError(
                        f"{self.path}: {DIFFER}: {column!r} is {types[column]} in {first} and {of_other[column]} in "
                        f"{other}"
                    )


def _scan(part: Part, skip_bad_lines: bool) -> pl.LazyFrame:
    """Return the rows of a file, with the columns in names of its folders."""
    path = part.path
    with _readable(path):
        if ".parquet" in path.suffixes:
            rows = pl.scan_parquet(path, glob=False)
        else:
            atomic = path.suffix in ATOMIC
            rows = scan_csv(path, "\t" if atomic else ",", skip_bad_lines=skip_bad_lines, hint=SKIP_HINT)
            if atomic:
                rows = rows.rename({name: name.split(":")[0] for name in rows.collect_schema().names()})
        rows = rows.with_columns(_keys(part))
        rows.collect_schema()  # unreadable files raise here
        return rows


def _keys(part: Part) -> list[pl.Expr]:
    return [pl.lit(value, pl.String).alias(key) for key, value in part.keys.items()]


def _under_new_names(columns: dict[str, str]) -> list[pl.Expr]:
    return [
        pl.col(name).alias(ours) if ours == "time" else pl.col(name).cast(pl.String).alias(ours)
        for ours, name in columns.items()
    ]


def _of_parquet(part: Part, names: list[str], many: int) -> Iterator[pl.DataFrame]:
    """Yield batches of a Parquet file; those of polars would grow with the file."""
    own = [name for name in dict.fromkeys(names) if name not in part.keys]
    with pq.ParquetFile(part.path, pre_buffer=False) as file:
        for batch in file.iter_batches(many, columns=own):
            yield pl.DataFrame(pl.from_arrow(batch)).with_columns(_keys(part))


def has_more_rows(path: Path, parts: list[Part], many: int) -> bool:
    """Return whether a table has more than `many` rows.

    Parquet stores the number; lines of text are counted until the answer is known.

    Args:
        path: path of the table, for messages.
        parts: its files.
        many: the number of rows to compare with.

    Raises:
        UserError: a file cannot be read.
    """
    rows = 0
    for part in parts:
        with _readable(path):
            if ".parquet" in part.path.suffixes:
                rows += pq.read_metadata(part.path).num_rows
            else:
                rows += count_lines(part.path, many - rows + 2) - 1
        if rows > many:
            return True
    return False


def read_items(path: Path, item: str, properties: dict[str, str], skip_bad_lines: bool) -> pl.DataFrame:
    """Return the properties of items in a file.

    If an item has several rows, the first counts.

    Args:
        path: a file in one of the formats of `RawTable.scan`.
        item: column of the item.
        properties: column of the samples -> column of the file, which may lack it.
        skip_bad_lines: skip rows with more or fewer fields than the header.

    Returns:
        item_id and the existing `properties` (String, null if empty), one row per item.

    Raises:
        UserError: the file or the item's column is missing, or the file cannot be read.
    """
    table = RawTable.scan(path, skip_bad_lines)
    present = {ours: name for ours, name in properties.items() if name in table.names}
    rows = table.take({"item_id": item} | present).unique("item_id", keep="first", maintain_order=True)
    return rows.select("item_id", *(pl.col(name).replace("", None) for name in present))


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Raise UserError for errors of polars, pyarrow and the system on a file."""
    try:
        yield
    except (pl.exceptions.PolarsError, pa.ArrowException, OSError) as error:
        raise UserError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error
