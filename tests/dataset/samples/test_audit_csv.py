"""Audit of CSV files: published forms, and files that cannot be audited."""

from pathlib import Path

import pytest

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.dataset.audit import main
from dien_fuxictr.dataset.samples.leak_audit import audit, read_csv

HEADER = "label,user_id,item_id,cate_id,item_history,cate_history\n"
ROWS = "1,u,i3,c1,i1^i2,c1^c2\n0,u,i4,c2,i1^i2,c1^c2\n"


def audit_csv(folder: Path, train: str, test: str) -> dict:
    (folder / "train.csv").write_text(train)
    (folder / "test.csv").write_text(test)
    return audit(read_csv(folder / "train.csv", folder / "test.csv"))


def test_published_csv_files_of_other_shapes(tmp_path: Path) -> None:
    result = audit_csv(tmp_path, HEADER + ROWS, HEADER + ROWS)
    assert result["test_rows"] == 2 and result["untrained"]["category seen in history"] == 0.5
    no_user = "label,item_id,cate_id,item_history,cate_history\n" + ROWS.replace(",u,", ",")
    assert audit_csv(tmp_path, no_user, no_user) == result
    floats = (HEADER + ROWS).replace("\n1,", "\n1.0,").replace("\n0,", "\n0.0,")
    assert audit_csv(tmp_path, floats, floats) == result
    empty = HEADER + "1,u,i3,c1,,\n0,u,i4,c2,,\n"
    assert audit_csv(tmp_path, empty, empty)["trivial"]["id above the last one's"] == 0.5
    assert audit_csv(tmp_path, HEADER + ROWS.splitlines()[1] + "\n", HEADER + ROWS)["untrained"]["item-kNN"] == 0.5


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        ("", HEADER + ROWS, r"train\.csv cannot be read: empty CSV"),
        (HEADER, HEADER + ROWS, r"train\.csv has no rows"),
        (HEADER + ROWS, ROWS, r"test\.csv has no column 'label'"),
        (HEADER + ROWS, HEADER + "1,u,i,c,h,h,more\n", r"test\.csv: line 2 has 7 fields where the header has 6"),
        (HEADER + ROWS[:-7], HEADER + ROWS, r"train\.csv: line 3 has 5 fields where the header has 6"),
        (
            HEADER + ROWS,
            HEADER + "2,u,i,c,h,h\n",
            r"test\.csv: column 'label' has the value '2'; a label must be 0 or 1",
        ),
        (HEADER + ROWS, HEADER + "1,u,i,c,h,h\n", "the test split has 1 samples, all with label 1: AUC needs both"),
        (
            HEADER + ROWS,
            HEADER + ROWS + "1,u,i,c,h^h,h\n",
            "item_history and cate_history differ in length: 'h.h', 'h'",
        ),
    ],
)
def test_csv_files_that_cannot_be_audited(train: str, test: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        audit_csv(tmp_path, train, test)


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (["gone"], "gone does not exist"),
        (["a", "b", "c"], "give one folder, or two files"),
        (["other.csv"], "give one folder, or two files"),
        (["gone.csv", "test.csv"], "gone.csv does not exist"),
        (["."], "is not a folder of samples: behaviours.parquet is missing"),
    ],
)
def test_command_line_on_wrong_input(
    paths: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "other.csv").touch()
    assert main([str(tmp_path / path) for path in paths]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.startswith("error: ") and message in shown.err and shown.err.count("\n") == 1
