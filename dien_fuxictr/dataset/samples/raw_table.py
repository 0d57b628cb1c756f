"""Files with a row a behaviour or a row an item: CSV, Parquet, and RecBole's atomic files."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from dien_fuxictr.common.csv_lines import scan_csv
from dien_fuxictr.common.errors import UserError

from .amazon import without_separator

ATOMIC = (".inter", ".item")
"""Suffixes of RecBole's atomic files: tabs separate the fields, the header has `name:type`."""
SKIP_HINT = "; --skip-bad-lines leaves such rows out"


@dataclass(frozen=True)
class RawTable:
    """A file that is read when columns of it are taken.

    Attributes:
        path: for messages.
        rows: of text where the file is text.
        names: of its columns.
    """

    path: Path
    rows: pl.LazyFrame
    names: list[str]

    @classmethod
    def scan(cls, path: Path, skip_bad_lines: bool) -> "RawTable":
        """Look at a .parquet, .inter or .item file, or at one of CSV with a header line, .gz or not.

        Raises:
            UserError: the file is missing or cannot be read, or a row has more or fewer fields than the header and
                `skip_bad_lines` is off.
        """
        if not Path(path).is_file():
            raise UserError(f"raw file {path} does not exist")
        with _readable(path):
            if ".parquet" in Path(path).suffixes:
                rows = pl.scan_parquet(path)
                return cls(path, rows, rows.collect_schema().names())
            atomic = Path(path).suffix in ATOMIC
            rows = scan_csv(
                path, "\t" if atomic else ",", skip_bad_lines=skip_bad_lines, hint=SKIP_HINT, infer_schema=False
            )
            names = rows.collect_schema().names()
            if atomic:
                rows = rows.rename({name: name.split(":")[0] for name in names})
            return cls(path, rows, rows.collect_schema().names())

    def take(self, columns: dict[str, str]) -> pl.DataFrame:
        """Only some columns, under other names; all but `time` as text.

        Args:
            columns: new name -> name in the file.

        Raises:
            UserError: a column is missing, or the file cannot be read.
        """
        lacking = [name for name in columns.values() if name not in self.names]
        if lacking:
            raise UserError(f"{self.path} has no column {lacking[0]!r}; it has {', '.join(self.names)}")
        with _readable(self.path):
            return self.rows.select(
                pl.col(name).alias(ours) if ours == "time" else pl.col(name).cast(pl.String).alias(ours)
                for ours, name in columns.items()
            ).collect(engine="streaming")


def read_items(path: Path, item: str, properties: dict[str, str], skip_bad_lines: bool) -> pl.DataFrame:
    """What a file says of items; of several rows of an item the first counts.

    Args:
        path: of one of the forms that `RawTable.scan` takes.
        item: column of the item.
        properties: column of the samples -> column of the file, if it has it.
        skip_bad_lines: leave rows of more or fewer fields than the header out.

    Returns:
        item_id and those of `properties` that there are (String, null where empty), a row an item.

    Raises:
        UserError: the file or the item's column is missing, or the file cannot be read.
    """
    table = RawTable.scan(path, skip_bad_lines)
    present = {ours: name for ours, name in properties.items() if name in table.names}
    rows = table.take({"item_id": item} | present).unique("item_id", keep="first", maintain_order=True)
    return rows.select("item_id", *(without_separator(name).replace("", None) for name in present))


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """What polars and the system say of a file they cannot read, as UserError."""
    try:
        yield
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UserError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error
