"""Data sets that commit 6e62f93 has built are found again.

fingerprints.json has what it stored for three of them.
"""

import json
from pathlib import Path

import pytest
from made_data import prepare_entry
from made_raw import write_raw

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.dataset.loading.entry import DatasetEntry

STORED = json.loads((Path(__file__).parent / "fingerprints.json").read_text())

PATHS = ("build.reviews", "build.meta")
"""Keys whose paths that commit stored as written with ./, as in "relative"."""
SEQUENCE = {
    "active": True,
    "dtype": "str",
    "type": "sequence",
    "splitter": "^",
    "max_len": 6,
    "padding": "post",
    "feature_encoder": None,
}
FEATURE_COLS = [
    {"name": "user_id", "active": True, "dtype": "str", "type": "meta"},
    {"name": ["item_id", "cate_id"], "active": True, "dtype": "str", "type": "categorical"},
    {"name": "item_history", "share_embedding": "item_id", **SEQUENCE},
    {"name": "cate_history", "share_embedding": "cate_id", **SEQUENCE},
]
ROWS = """label,user_id,item_id,cate_id,item_history,cate_history
1,u1,i1,c1,i2^i3,c2^c1
0,u1,i3,c1,i2^i3,c2^c1
1,u2,i2,c2,i1,c1
0,u2,i1,c1,i1,c1
"""


@pytest.fixture
def entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, dict]:
    """Return an entry of each kind, and change to the folder of its input files."""
    monkeypatch.chdir(tmp_path)
    common = {
        "data_root": str(tmp_path / "root"),
        "feature_cols": FEATURE_COLS,
        "label_col": {"name": "label", "dtype": "float"},
        "verbose": 0,
    }
    csv = common | {"data_format": "csv"}
    for split in ("train", "valid", "test"):
        csv[f"{split}_data"] = str(tmp_path / f"{split}.csv")
        (tmp_path / f"{split}.csv").write_text(ROWS)
    reviews = [(f"u{user}", f"i{(user * 3 + step) % 7}", step * 86_400) for user in range(8) for step in range(5)]
    raw = write_raw(tmp_path, reviews, {f"i{item}": ["all", f"c{item % 3}"] for item in range(7)}, gzipped=False)
    build = {
        "source": "amazon",
        "reviews": str(raw[0]),
        "meta": str(raw[1]),
        "protocol": "leave_one_out",
        "max_len": 4,
        "raw_from": "ask",
    }
    return {
        "csv": csv | {"dataset_id": "csv", "min_categr_count": 2, "sep": ",", "test_data": None},
        "build": common | {"dataset_id": "build", "data_format": "parquet", "build": build},
        "zoo": csv | {"dataset_id": "zoo", "data_loader": "zoo", "n_rows": 3},
        "relative": common
        | {
            "dataset_id": "relative",
            "data_format": "parquet",
            "build": build | {name: f"./{Path(build[name]).name}" for name in ("reviews", "meta")},
        },
    }


@pytest.mark.parametrize("kind", STORED)
def test_an_entry_has_the_fingerprint_that_was_stored(kind: str, entries: dict, tmp_path: Path) -> None:
    present = DatasetEntry.of(entries[kind]).fingerprint(None, required=True)
    stored = STORED[kind]
    assert present.entry == {key: value for key, value in stored["entry"].items() if key not in PATHS}
    assert list(present.inputs) == list(stored["inputs"])
    for role, seen in present.inputs.items():
        assert seen.keys() == stored["inputs"][role].keys()
        assert Path(seen["path"]) == tmp_path.resolve() / Path(stored["inputs"][role]["path"]).name
        assert [seen[key] for key in ("size", "blake2b")] == [
            stored["inputs"][role][key] for key in ("size", "blake2b")
        ]


@pytest.mark.parametrize("kind", ["csv", "build", "relative"])
def test_a_set_that_was_stored_is_used_without_a_rebuild(kind: str, entries: dict, tmp_path: Path) -> None:
    params, file = entries[kind], tmp_path / "root" / kind / "fingerprint.json"
    prepared = prepare_entry(params)
    now, stored = json.loads(file.read_text()), STORED[kind]
    assert now["files"] == stored["files"] and now.keys() == stored.keys()
    file.write_text(json.dumps(stored))
    assert prepare_entry(params) == prepared
    # The fingerprint now has the paths and times of its inputs.
    assert json.loads(file.read_text()) == stored | {"inputs": now["inputs"], "entry": now["entry"]}
    with pytest.raises(UserError, match=r"min_categr_count: \d -> 9"):
        prepare_entry(params | {"min_categr_count": 9})


def test_raw_files_may_be_named_in_another_way(entries: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From another working directory the same entry has other paths."""
    params = entries["relative"]
    prepared = prepare_entry(params)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for prefix in ("..", "../elsewhere/..", str(tmp_path)):
        moved = {name: f"{prefix}/{params['build'][name]}" for name in ("reviews", "meta")}
        again = prepare_entry(params | {"build": params["build"] | moved})
        assert again["train_data"] == prepared["train_data"]


def test_build_options_that_an_entry_does_not_name_do_not_count() -> None:
    """A set that was built before an option came is still found."""
    build = {"source": "log", "input": "log.csv", "user": "u", "item": "i", "category": "c", "time": "t"}
    params = {"data_root": "data", "dataset_id": "made", "data_format": "parquet", "feature_cols": FEATURE_COLS}
    params |= {"label_col": {"name": "label", "dtype": "float"}, "build": build}
    kept = {key: value for key, value in DatasetEntry.of(params).keys().items() if key.startswith("build.")}
    assert kept == {f"build.{name}": value for name, value in build.items() if name != "input"}
    added = DatasetEntry.of({**params, "build": {**build, "time_unit": "s"}}).keys()
    assert added == {**DatasetEntry.of(params).keys(), "build.time_unit": "s"}
