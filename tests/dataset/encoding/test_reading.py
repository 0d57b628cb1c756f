import gzip
from pathlib import Path

import polars as pl
import pytest
from made_data import FEATURE_COLS, write_samples

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.dataset.encoding.reading import SplitReader, expand_path, source_of
from dien_fuxictr.dataset.encoding.schema import active_columns

LABEL = [{"name": "label", "dtype": "float"}]
COLUMNS = active_columns(FEATURE_COLS)
HISTORY = {"name": "history", "type": "sequence", "dtype": "str", "max_len": 5}
HEADER = "label,user_id,item_id,cate_id,item_history,cate_history\n"


def tokens_of(history, row: int) -> list[str]:
    codes = history.tokens.codes[history.start[row] : history.start[row] + history.length[row]]
    return [history.tokens.words[int(code)] for code in codes]


def test_delimited_text_is_split_row_by_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dien_fuxictr.dataset.encoding.reading._ROWS_A_CHUNK", 2)
    texts = ["b^a", "", "a^^c", "c^c^c", "d"]
    pl.DataFrame({"label": 1, "history": texts}).write_csv(tmp_path / "rows.csv", quote_style="non_numeric")
    history = SplitReader([HISTORY], LABEL).read(tmp_path / "rows.csv", "csv").histories["history"]
    assert [tokens_of(history, row) for row in range(5)] == [text.split("^") for text in texts]
    assert history.blank.tolist() == [False, True, False, False, False]
    assert history.tokens.words.n_unique() == len(history.tokens.words)


def test_lists_nulls_and_numbers_of_parquet(tmp_path: Path) -> None:
    pl.DataFrame(
        {
            "label": [1, 1, 0],
            "item_id": [5, None, 7],
            "history": [[3, 4], None, []],
        }
    ).write_parquet(tmp_path / "rows.parquet")
    columns = [{"name": "item_id", "type": "categorical", "dtype": "str", "fill_na": "none"}, HISTORY]
    split = SplitReader(columns, LABEL).read(tmp_path / "rows.parquet", "parquet")
    assert split.frame["item_id"].to_list() == ["5", "none", "7"]
    assert split.frame["label"].to_list() == [1.0, 1.0, 0.0]
    assert [tokens_of(split.histories["history"], row) for row in range(3)] == [["3", "4"], [""], [""]]
    assert split.histories["history"].blank.tolist() == [False, True, True]


@pytest.mark.parametrize("dtype", [pl.List(pl.String), pl.Array(pl.String, 3), pl.List(pl.Int64)])
def test_null_in_a_list_is_a_missing_value(dtype: pl.DataType, tmp_path: Path) -> None:
    """Read null like an empty token of text, so that lists stay aligned."""
    rows = pl.Series("history", [["3", None, "4"], [None, None, "4"], [None, "3", None]]).cast(dtype)
    pl.DataFrame([rows, pl.Series("label", [1, 1, 1])]).write_parquet(tmp_path / "rows.parquet")
    for column, missing in ((HISTORY, ""), (HISTORY | {"fill_na": "none"}, "none"), (HISTORY | {"fill_na": 0}, "0")):
        history = SplitReader([column], LABEL).read(tmp_path / "rows.parquet", "parquet").histories["history"]
        assert [tokens_of(history, row) for row in range(3)] == [
            ["3", missing, "4"], [missing, missing, "4"], [missing, "3", missing]
        ]  # fmt: skip


def test_numbers_of_csv_that_are_not_known(tmp_path: Path) -> None:
    """New rows are anywhere, not only beside samples."""
    (tmp_path / "rows.csv").write_text("label,price,count,history\n1, 2.5 ,3,a\n0,unknown,unknown,a\n1,,,a\n")
    columns = [{"name": "price", "type": "numeric", "dtype": "float", "fill_na": -1}]
    columns += [{"name": "count", "type": "numeric", "dtype": "int"}, HISTORY]
    frame = SplitReader(columns, LABEL).read(tmp_path / "rows.csv", "csv").frame
    assert frame["price"].to_list() == [2.5, -1, -1] and frame["count"].to_list() == [3, 0, 0]


@pytest.mark.parametrize("splitter", ["^", "|"])
def test_a_token_of_a_list_may_hold_the_splitter(splitter: str, tmp_path: Path) -> None:
    tokens = [["SKU^0044"], ["a|b", "", "^"], ["none", "^none"], ["none^none"], [None, "|"]]
    pl.DataFrame({"label": 1, "history": tokens}).write_parquet(tmp_path / "rows.parquet")
    column = HISTORY | {"splitter": splitter, "fill_na": "none^none"}
    history = SplitReader([column], LABEL).read(tmp_path / "rows.parquet", "parquet").histories["history"]
    assert [tokens_of(history, row) for row in range(5)] == [*tokens[:4], ["none^none", "|"]]
    assert history.blank.tolist() == [False, False, False, splitter == "|", False]


def test_samples_share_one_table_of_behaviours(tmp_path: Path) -> None:
    reader = SplitReader(COLUMNS, LABEL)
    folder = write_samples(tmp_path)
    train, test = (reader.read(folder / f"{split}.parquet", "parquet") for split in ("train", "test"))
    assert train.histories["item_history"].tokens is test.histories["item_history"].tokens
    rows, behaviours = pl.read_parquet(folder / "test.parquet"), pl.read_parquet(folder / "behaviours.parquet")
    expected = behaviours["item_history"].slice(rows["history_start"][3], rows["history_length"][3]).to_list()
    assert tokens_of(test.histories["item_history"], 3) == expected


def test_a_row_of_samples_may_have_several_values(tmp_path: Path) -> None:
    folder = write_samples(tmp_path)
    rows = pl.read_parquet(folder / "test.parquet")
    tags = ["a|b", None, "c"]
    rows.head(3).with_columns(tags=pl.Series(tags)).write_parquet(folder / "test.parquet")
    column = {"name": "tags", "type": "sequence", "dtype": "str", "splitter": "|", "max_len": 3}
    split = SplitReader([*COLUMNS, column], LABEL).read(folder / "test.parquet", "parquet")
    assert [tokens_of(split.histories["tags"], row) for row in range(3)] == [["a", "b"], [""], ["c"]]
    assert (
        "tags" not in split.frame
        and split.histories["item_history"].length.tolist() == rows["history_length"][:3].to_list()
    )


def test_spans_beyond_the_behaviours(tmp_path: Path) -> None:
    folder = write_samples(tmp_path)
    rows = pl.read_parquet(folder / "test.parquet").with_columns(history_start=pl.col("history_start") + 1000)
    rows.write_parquet(folder / "test.parquet")
    with pytest.raises(UserError, match=r"reach beyond the \d+ rows of .*behaviours\.parquet"):
        SplitReader(COLUMNS, LABEL).read(folder / "test.parquet", "parquet")


def test_files_patterns_and_folders(tmp_path: Path) -> None:
    for name in ("a1.csv", "a0.csv", "b.csv"):
        (tmp_path / name).write_text("label,history\n1,x\n")
    assert [Path(file).name for file in expand_path(tmp_path, "csv")] == ["a0.csv", "a1.csv", "b.csv"]
    assert [Path(file).name for file in expand_path(tmp_path / "a*.csv", "csv")] == ["a0.csv", "a1.csv"]
    assert SplitReader([HISTORY], LABEL).read(tmp_path, "csv").frame.height == 3
    with pytest.raises(UserError, match=r"no csv file matches .*c\*\.csv; "):
        expand_path(tmp_path / "c*.csv", "csv")


def test_gzipped_text(tmp_path: Path) -> None:
    rows = "label,history\n" + "".join(f"1,h{row}\n" for row in range(5000))
    gzipped = gzip.compress(rows.encode())
    for name in ("a", "b"):
        (tmp_path / f"{name}.csv.gz").write_bytes(gzipped)
    reader = SplitReader([HISTORY], LABEL)
    assert reader.read(tmp_path / "a.csv.gz", "csv").frame.height == 5000
    assert reader.read(tmp_path / "*.csv.gz", "csv").frame.height == 10_000
    (tmp_path / "a.csv.gz").write_bytes(gzipped[:-100])
    with pytest.raises(UserError, match=r"/a\.csv\.gz: Truncated compressed stream"):
        reader.read(tmp_path / "a.csv.gz", "csv")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "label,user_id,item_id,cate_id,item_history\n1,u,i,c,h\n",
            r"column cate_history is missing; it needs label, .*, cate_history and has label, user.*, item_history$",
        ),
        (
            "label,user_id,item_id,cate_id\n1,u,i,c\n",
            "columns item_history, cate_history are missing; it needs label, ",
        ),
        ("", "empty CSV"),
        (HEADER, "no rows"),
        (HEADER + "1,u,i,c,h,h\n\n0,u,i,c,h,h,h\n", "line 4 has 7 fields where the header has 6"),
        (HEADER + "1,u,i,c,h,h\n0,u,i,c,h", "line 3 has 5 fields where the header has 6"),
        (HEADER + "yes,u,i,c,h,h\n", r"rows.csv: line 2: label = 'yes' must be a number; its dtype is float"),
    ],
)
def test_bad_files(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(content)
    with pytest.raises(UserError, match=message) as caught:
        SplitReader(COLUMNS, LABEL).read(tmp_path / "rows.csv", "csv")
    assert "\n" not in str(caught.value) and "rows.csv" in str(caught.value)


@pytest.mark.parametrize(
    ("dtype", "wrong", "message"),
    [
        ("float", "cheap", "price = 'cheap' must be a number; its dtype is float"),
        ("float", "1_000", "price = '1_000' must be a number; its dtype is float"),
        ("int", "1.5", "price = '1.5' must be an integer; its dtype is int"),
    ],
)
def test_a_text_among_numbers_is_named_with_its_line(dtype: str, wrong: str, message: str, tmp_path: Path) -> None:
    """Name the file and line of the text, also after line breaks and blank lines."""
    good = f'label,price,title\n1,{"3" if dtype == "int" else " 3"},"two\nlines"\n\n'
    (tmp_path / "a.csv").write_text(good)
    (tmp_path / "b.csv").write_text(f"{good}0,,x\n0,{wrong},x\n1,never,x\n")
    price = {"name": "cost", "type": "numeric", "dtype": dtype, "preprocess": "copy_from(price)"}
    with pytest.raises(UserError) as caught:
        SplitReader([price], LABEL).read(tmp_path, "csv")
    assert str(caught.value) == f"{tmp_path / 'b.csv'}: line 6: {message}"


@pytest.mark.parametrize(
    "labels",
    [[1, None, 0], [True, None, False], [1.0, float("nan"), 0.0], ["1", "", "0"], ["1", None, "0"]],
    ids=["integer", "boolean", "nan", "text", "null text"],
)
def test_a_row_without_a_label(labels: list, tmp_path: Path) -> None:
    pl.DataFrame({"label": labels, "history": "a"}, strict=False).write_parquet(tmp_path / "rows.parquet")
    with pytest.raises(UserError, match=r"/rows\.parquet: label label is missing in row 2; fill_na in label_col"):
        SplitReader([HISTORY], LABEL).read(tmp_path / "rows.parquet", "parquet")


def test_the_file_of_a_row_without_a_label_is_named(tmp_path: Path) -> None:
    for name, label in (("a", "1"), ("b", ""), ("c", "0")):
        (tmp_path / f"{name}.csv").write_text(f"clicked,history\n0,x\n{label},y\n")
    label = {"name": "label", "dtype": "int", "preprocess": "copy_from(clicked)"}
    with pytest.raises(UserError, match=r"/b\.csv: label clicked is missing in row 2; "):
        SplitReader([HISTORY], [label]).read(tmp_path, "csv")
    rows = SplitReader([HISTORY], [label | {"fill_na": 0}]).read(tmp_path, "csv")
    assert rows.frame["label"].to_list() == [0, 1, 0, 0, 0, 0]


def test_a_file_that_is_no_parquet(tmp_path: Path) -> None:
    (tmp_path / "rows.parquet").write_text("label,history\n1,a\n")
    with pytest.raises(UserError, match=r"rows\.parquet: "):
        SplitReader([HISTORY], LABEL).read(tmp_path / "rows.parquet", "parquet")


def test_optional_columns_may_be_missing(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("history\na^b\n")
    user = {"name": "user", "type": "meta", "dtype": "str"}
    split = SplitReader([user, HISTORY], []).read(tmp_path / "rows.csv", "csv", optional=["user"])
    assert split.frame.columns == [] and split.histories["history"].length.tolist() == [2]


def test_source_of_a_column() -> None:
    assert source_of({"name": "a", "preprocess": "copy_from(b)"}) == "b"
    assert source_of({"name": "a", "preprocess": "copy_from"}) == "a"
    with pytest.raises(UserError, match="preprocess=convert_date of column a is unknown"):
        source_of({"name": "a", "preprocess": "convert_date"})
