"""Read one split of raw rows from CSV, Parquet or a samples folder.

Histories in Parquet are strings or lists.
"""

import glob
import re
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl

from dien_fuxictr.common.csv_lines import line_of, scan_csv
from dien_fuxictr.common.errors import UserError

from ..samples.amazon import UNKNOWN
from ..samples.samples import LEFT_OUT, latest_kept
from .raw import RawHistory, RawSplit, Tokens

DTYPES = {"str": pl.String, "int": pl.Int64, "float": pl.Float64}
ROW_FILES = {".csv": "csv", ".csv.gz": "csv", ".parquet": "parquet"}
"""Suffix -> form of a file of rows to predict."""
_DEFAULT_FILL = {"str": "", "int": 0, "float": 0.0}
_ROWS_A_CHUNK = 200_000


def expand_path(path: str | Path, data_format: str) -> list[str]:
    """Return the files of a data path of the zoo, sorted.

    The path is a file, a pattern, or a folder of `*.<data_format>`.

    Raises:
        UserError: there is no such file.
    """
    path = str(path)
    if Path(path).is_file():
        return [path]
    pattern = path if path.endswith((data_format, f"{data_format}.gz")) else str(Path(path) / f"*.{data_format}")
    files = sorted(glob.glob(pattern))
    if not files:
        raise UserError(f"no {data_format} file matches {path}; it must be a file, a pattern or a folder")
    return files


def left_out_beside(files: list[str], data_format: str) -> list[str]:
    """Return the file of left-out training rows in the folder of these files, if any."""
    path = Path(files[0]).with_name(f"{LEFT_OUT}.{data_format}")
    return [str(path)] if path.is_file() and str(path) not in files else []


def form_of(path: Path) -> str:
    """Return the form of a file of rows to predict, csv or parquet, by its suffix.

    Raises:
        UserError: the suffix is unknown.
    """
    for suffix, form in ROW_FILES.items():
        if path.name.lower().endswith(suffix):
            return form
    raise UserError(f"{path} must end in {', '.join(ROW_FILES)}")


class SplitReader:
    """Reader of the splits of one data set; a shared behaviours file is read once.

    Args:
        columns: active feature columns as in `feature_cols`, one name each.
        labels: label columns as in `label_col`.
        sep: separator of CSV files.
        n_rows: largest number of rows that are read from a file.
    """

    def __init__(self, columns: list[dict], labels: list[dict], sep: str = ",", n_rows: int | None = None) -> None:
        self._labels = labels
        self._scalars = labels + [column for column in columns if column["type"] != "sequence"]
        self._sequences = [column for column in columns if column["type"] == "sequence"]
        self._sep = sep
        self._n_rows = n_rows
        self._stored: dict[str, dict[str, Tokens]] = {}

    def read(
        self,
        path: str | Path,
        data_format: str,
        optional: Iterable[str] = (),
        to_fit: bool = False,
        is_binary: bool = False,
    ) -> RawSplit:
        """Read one split.

        Args:
            path: file, pattern or folder, as `expand_path` accepts it.
            data_format: csv | parquet.
            optional: columns that are left out if the file lacks them.
            to_fit: whether an encoder is fitted on the split; the rows of a file `left_out` in its folder are then
                appended, see `RawSplit.fitted_only`.
            is_binary: whether labels must be 0 or 1.

        Raises:
            UserError: a file or column is missing, a row of CSV has more or fewer fields than the header, a value does
                not match its dtype, a row has no label (unless the label has a `fill_na`), or there are no rows.
        """
        files = expand_path(path, data_format)
        folder = Path(files[0]).parent
        left_out = left_out_beside(files, data_format) if to_fit else []
        files += left_out
        scan = partial(self._scan, files, data_format)
        texts = files if data_format == "csv" else ()
        split = self._read(str(path), scan, folder / "behaviours.parquet", optional, texts)
        split.fitted_only = sum(self._rows_of(file, data_format) for file in left_out)
        split.latest = latest_kept(folder)
        self._require_labels(split.frame, files, data_format, is_binary)
        return split

    def read_frame(self, frame: pl.DataFrame, optional: Iterable[str] = ()) -> RawSplit:
        """Return rows that are in memory already, with histories as text or lists.

        Args:
            frame: the rows.
            optional: columns that are left out if the frame lacks them.

        Raises:
            UserError: see `read`.
        """
        return self._read("the frame", frame.lazy, Path("behaviours.parquet"), optional)

    def require_tokens_of_zoo(self, path: str | Path, data_format: str) -> None:
        """Raise UserError for a text value that FuxiCTR's own loader would misread.

        Args:
            path: as for `read`.
            data_format: as for `read`.
        """
        for file in expand_path(path, data_format):
            rows = self._scan([file], data_format)
            schema = rows.collect_schema()
            for column in (
                c for c in self._scalars + self._sequences if c["dtype"] == "str" and source_of(c) in schema
            ):
                name = source_of(column)
                is_list = isinstance(schema[name], pl.List)
                values = pl.col(name) if is_list else pl.col(name).cast(pl.String)
                if column["type"] == "sequence":
                    values = (values if is_list else values.str.split(_splitter(column))).explode(empty_as_null=True)
                values = values.cast(pl.String)
                wrong = {"is a reserved word": (values.is_in(list(reserved(column))), "rename it there")}
                if is_list:  # FuxiCTR joins tokens by "^" and splits them again
                    wrong["holds '^'"] = values.str.contains("^", literal=True), "data_loader: in_memory keeps it"
                for what, (is_wrong, remedy) in wrong.items():
                    found = rows.select(values.filter(is_wrong).head(1)).collect().to_series()
                    if len(found):
                        raise UserError(
                            f"FuxiCTR's loader loses a value that {what}: {name} = {found[0]!r} in {file}; {remedy}"
                        )

    def _read(
        self,
        source: str,
        scan: Callable[[], pl.LazyFrame],
        behaviours: Path,
        optional: Iterable[str],
        texts: Iterable[str] = (),
    ) -> RawSplit:
        """Read the scanned rows; `texts` are the CSV files that contain them."""
        try:
            rows = scan()
            names = rows.collect_schema().names()
            is_samples = {"history_start", "history_length"} <= set(names)
            if is_samples and not behaviours.exists():
                raise UserError(f"{source} refers to histories in {behaviours}, which does not exist")
            columns = self._scalars if is_samples else self._scalars + self._sequences
            _require(source, names, [column for column in columns if column["name"] not in optional])
            scalars = [column for column in self._scalars if source_of(column) in names]
            read = self._read_samples if is_samples else self._read_delimited
            split = read(source, rows, scalars, behaviours)
        except (pl.exceptions.PolarsError, OSError) as error:  # a truncated .gz raises OSError
            found = self._text_among_numbers(texts)
            raise UserError(found or f"{source}: {str(error).splitlines()[0]}") from error
        if len(split) == 0:
            raise UserError(f"{source} has no rows")
        return split

    def _text_among_numbers(self, files: Iterable[str]) -> str | None:
        """Return the message for the first value of CSV files that should be a number.

        Args:
            files: the CSV files.
        """
        dtypes = {source_of(column): column["dtype"] for column in self._scalars if column["dtype"] != "str"}
        for file in files:
            try:
                rows = scan_csv(file, self._sep, self._n_rows)
                frame = rows.select(name for name in dtypes if name in rows.collect_schema().names()).collect()
            except (pl.exceptions.PolarsError, OSError):
                return None  # the values are not the cause
            wrong = []
            for values in frame:
                kind = dtypes[values.name]
                # Blanks around a float are ignored.
                numbers = (values.str.strip_chars() if kind == "float" else values).cast(DTYPES[kind], strict=False)
                rows_of_text = (numbers.is_null() & ~values.fill_null("").is_in(["", UNKNOWN])).arg_true()
                wrong += [(int(row), values) for row in rows_of_text.head(1)]
            if wrong:
                row, values = min(wrong, key=lambda found: found[0])
                kind = dtypes[values.name]
                return (
                    f"{file}: line {line_of(file, self._sep, row)}: {values.name} = {values[row]!r} must be "
                    f"{'an integer' if kind == 'int' else 'a number'}; its dtype is {kind}"
                )
        return None

    def _scan(self, files: list[str], data_format: str) -> pl.LazyFrame:
        if data_format == "parquet":
            return pl.concat([pl.scan_parquet(file, n_rows=self._n_rows) for file in files])
        return pl.concat([scan_csv(file, self._sep, self._n_rows) for file in files])

    def _read_delimited(self, path: str, rows: pl.LazyFrame, scalars: list[dict], _: Path) -> RawSplit:
        schema = rows.collect_schema()
        frame = rows.select(
            self._of_scalars(scalars, schema)
            + [_history(column, schema[source_of(column)]) for column in self._sequences]
        ).collect()
        histories = {c["name"]: _tokens_of(frame[c["name"]], c) for c in self._sequences}
        return RawSplit(path, frame.drop([c["name"] for c in self._sequences]), histories)

    def _read_samples(self, path: str, rows: pl.LazyFrame, scalars: list[dict], behaviours: Path) -> RawSplit:
        spans = rows.select(pl.col("history_start", "history_length").cast(pl.Int64)).collect()
        start, length = (spans[name].to_numpy() for name in ("history_start", "history_length"))
        schema = rows.collect_schema()
        of_rows = [column for column in self._sequences if source_of(column) in schema]  # several values, no behaviours
        values = [_history(column, schema[source_of(column)]) for column in of_rows]
        frame = rows.select(self._of_scalars(scalars, schema) + values).collect()
        tokens = self._read_behaviours(str(behaviours), [c for c in self._sequences if c not in of_rows])
        size = min((len(column.codes) for column in tokens.values()), default=0)
        if tokens and len(start) and (start.min() < 0 or length.min() < 0 or (start + length).max() > size):
            raise UserError(f"{path}: history_start and history_length reach beyond the {size} rows of {behaviours}")
        histories = {name: RawHistory(column, start, length, length == 0) for name, column in tokens.items()}
        histories |= {column["name"]: _tokens_of(frame[column["name"]], column) for column in of_rows}
        frame = frame.drop(column["name"] for column in of_rows)
        return RawSplit(path, frame, histories, behaviour=_numbers_of(behaviours))

    def _of_scalars(self, columns: list[dict], schema: pl.Schema) -> list[pl.Expr]:
        return [(_label if column in self._labels else _scalar)(column, schema) for column in columns]

    def _require_labels(self, frame: pl.DataFrame, files: list[str], data_format: str, is_binary: bool) -> None:
        for label in self._labels:
            values = frame[label["name"]]
            empty = (values.is_null() | values.is_nan() if values.dtype.is_float() else values.is_null()).arg_true()
            if len(empty):
                file, row = self._place(empty[0], files, data_format)
                raise UserError(
                    f"{file}: label {source_of(label)} is missing in row {row + 1}; fill_na in label_col gives a "
                    "value to empty labels"
                )
            wrong = (~values.cast(pl.Float64, strict=False).is_in([0, 1])).arg_true()
            if is_binary and len(wrong):
                file, row = self._place(wrong[0], files, data_format)
                raise UserError(
                    f"{file}: row {row + 1}: {source_of(label)} = {values[wrong[0]]:g} must be 0 or 1, unless "
                    "task: regression"
                )

    def _place(self, row: int, files: list[str], data_format: str) -> tuple[str, int]:
        """Return the file that contains a row of a split, and the row's number in it."""
        rows = [self._rows_of(file, data_format) for file in files]
        ends = np.cumsum(rows)
        number = int(np.searchsorted(ends, row, side="right"))
        return files[number], row - int(ends[number] - rows[number])

    def _rows_of(self, file: str, data_format: str) -> int:
        return self._scan([file], data_format).select(pl.len()).collect().item()

    def _read_behaviours(self, path: str, columns: list[dict]) -> dict[str, Tokens]:
        if path not in self._stored:
            rows = pl.scan_parquet(path)
            _require(path, rows.collect_schema().names(), columns)
            frame = rows.select(
                [
                    pl.col(source_of(c)).cast(pl.String).fill_null(str(c.get("fill_na", ""))).alias(c["name"])
                    for c in columns
                ]
            ).collect()
            self._stored[path] = {column.name: _factorise(column) for column in frame}
        return self._stored[path]


def _numbers_of(behaviours: Path) -> np.ndarray | None:
    rows = pl.scan_parquet(behaviours)
    known = "behaviour" in rows.collect_schema().names()
    return rows.select("behaviour").collect()["behaviour"].to_numpy() if known else None


def source_of(column: dict) -> str:
    """Return the raw column that a feature is read from.

    It is the feature's own name, or the column of `preprocess: copy_from(name)`.

    Raises:
        UserError: `preprocess` has another value.
    """
    preprocess = column.get("preprocess")
    if not preprocess:
        return column["name"]
    match = re.fullmatch(r"copy_from(?:\((.*)\))?", preprocess)
    if match is None:
        raise UserError(f"preprocess={preprocess} of column {column['name']} is unknown; allowed: copy_from(COLUMN)")
    return match.group(1) or column["name"]


def _require(path: str, names: list[str], columns: list[dict]) -> None:
    needed = list(dict.fromkeys(source_of(column) for column in columns))
    missing = [name for name in needed if name not in names]
    if missing:
        are = "column {} is" if len(missing) == 1 else "columns {} are"
        raise UserError(
            f"{path}: {are.format(', '.join(missing))} missing; it needs {', '.join(needed)} and has {', '.join(names)}"
        )


def _label(column: dict, schema: pl.Schema) -> pl.Expr:
    """Return a label; an empty one is null unless `fill_na` gives its value."""
    dtype = DTYPES[column["dtype"]]
    return _typed(column, schema).fill_null(pl.lit(column.get("fill_na")).cast(dtype)).alias(column["name"])


def _scalar(column: dict, schema: pl.Schema) -> pl.Expr:
    if column.get("type") == "embedding":
        return pl.col(source_of(column)).cast(pl.List(pl.Float32)).alias(column["name"])
    return _typed(column, schema).fill_null(fill_of(column)).alias(column["name"])


def _typed(column: dict, schema: pl.Schema) -> pl.Expr:
    """Return the values with their dtype; empty and unknown values are null.

    Unknown numbers have a mark in samples.
    """
    values, kind = pl.col(source_of(column)), column["dtype"]
    if kind != "str" and schema[source_of(column)] == pl.String:
        values = values.replace({UNKNOWN: None, "": None})
        values = values.str.strip_chars() if kind == "float" else values
    values = values.cast(DTYPES[kind])
    return values.replace("", None) if "empty" in column else values


def fill_of(column: dict) -> pl.Expr:
    """Return the value that replaces an empty one, in a column without sequences."""
    fill = column.get("empty", column.get("fill_na", _DEFAULT_FILL[column["dtype"]]))
    return pl.lit(fill).cast(DTYPES[column["dtype"]])


def reserved(column: dict) -> set:
    """Return the zoo's reserved words, except the column's `fill_na`."""
    return {"__PAD__", "__OOV__"} - {column.get("fill_na")}


def _history(column: dict, dtype: pl.DataType) -> pl.Expr:
    """Return a sequence as lists of tokens, or as text if the file has text.

    The result has no nulls. A missing token is replaced by `fill_na`, as in stored behaviours, so that aligned lists
    stay aligned. A row without any value is `empty` in a column that has this key.
    """
    values, fill = pl.col(source_of(column)), str(column.get("fill_na", ""))
    empty = column.get("empty", "")
    if isinstance(dtype, (pl.List, pl.Array)):
        tokens = values.cast(pl.List(pl.String)).list.eval(pl.element().fill_null(fill))
        # An empty list is like one empty token and like empty text.
        is_empty = (tokens.list.len() < 2) & (tokens.list.first().fill_null("") == "")
        values = pl.when(is_empty).then(pl.lit([empty])).otherwise(tokens)
        return values.fill_null(pl.lit((empty or fill).split(_splitter(column)))).alias(column["name"])
    return values.cast(pl.String).replace("", empty).fill_null(empty or fill).alias(column["name"])


def _splitter(column: dict) -> str:
    return column.get("splitter", "^")


def _tokens_of(values: pl.Series, column: dict) -> RawHistory:
    """Return the tokens of each row, processed chunk by chunk.

    The tokens of a large text file thus need not fit in memory as strings. Text is split; a token of a list may contain
    the splitter.
    """
    words, codes, lengths, blanks = [], [], [], []
    na_value, splitter = column.get("fill_na", ""), _splitter(column)
    for offset in range(0, max(len(values), 1), _ROWS_A_CHUNK):
        rows = values.slice(offset, _ROWS_A_CHUNK)
        rows = rows.str.split(splitter) if rows.dtype == pl.String else rows
        chunk = _factorise(rows.explode(empty_as_null=False))
        if isinstance(na_value, str):
            as_long = rows.list.len() == len(na_value.split(splitter))
            blank = as_long.to_numpy().copy()
            blank[blank] = (rows.filter(as_long).list.join(splitter) == na_value).to_numpy()
            blanks.append(blank)
        words.append(chunk.words)
        codes.append(chunk.codes)
        lengths.append(rows.list.len().cast(pl.Int64).to_numpy())
    vocabulary = pl.concat(words).unique(maintain_order=True)
    codes = [_codes(chunk, vocabulary)[code] for chunk, code in zip(words, codes, strict=True)]
    length = np.concatenate(lengths)
    blank = np.concatenate(blanks) if blanks else np.zeros(len(values), dtype=bool)
    return RawHistory(Tokens(vocabulary, np.concatenate(codes)), np.cumsum(length) - length, length, blank)


def _factorise(values: pl.Series) -> Tokens:
    words = values.unique(maintain_order=True)
    return Tokens(words, _codes(values, words))


def _codes(values: pl.Series, words: pl.Series) -> np.ndarray:
    if values.is_empty():
        return np.zeros(0, dtype=np.int32)
    return values.cast(pl.Enum(words)).to_physical().to_numpy().astype(np.int32)
