"""A damaged data set: one line, exit code 2, no file of the experiment touched."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from made_csv import DienOnCsv

from dien_fuxictr.experiment.cli import main

SET, SPLIT, HISTORY = "built/d", "built/d/encoded/{}.npz", "built/d/encoded/histories/{}.npy"
CATALOGUE = "built/d/behaviour_catalogue/item_history.npz"
Damage = Callable[[Path], object]


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def binary(file: Path) -> None:
    file.write_bytes(b"\xff\xfe\x00\x80" * 50)


def flip(file: Path) -> None:
    """One bit in the middle, of data that a checksum covers."""
    content = bytearray(file.read_bytes())
    content[content.index(b"column/item_id.npy") + 200] ^= 8
    file.write_bytes(content)


def array(change: Callable[[np.ndarray], np.ndarray]) -> Damage:
    """Return a function that changes an .npy file."""
    return lambda file: np.save(file, change(np.load(file)))


def arrays(**changes: Callable[[np.ndarray], np.ndarray] | None) -> Damage:
    """Return a function that changes arrays of an .npz file.

    `changes` maps name -> change, None removes the array; `__` means a slash.
    """

    def damage(file: Path) -> None:
        content = dict(np.load(file))
        for name, change in changes.items():
            old = content.pop(name.replace("__", "/"))
            if change:
                content[name.replace("__", "/")] = change(old)
        np.savez(file, **content)

    return damage


def keys(change: Callable[[Any], object]) -> Damage:
    """Return a function that changes a JSON file in place."""

    def damage(file: Path) -> None:
        content = json.loads(file.read_text())
        change(content)
        file.write_text(json.dumps(content))

    return damage


def a_list(file: Path) -> None:
    file.write_text("[]")


def put(value: object) -> Callable[[np.ndarray], np.ndarray]:
    """Set the third value."""

    def change(old: np.ndarray) -> np.ndarray:
        new = old.copy()
        new[2] = value
        return new

    return change


def feature(name: str, **values: object) -> Damage:
    """Change a feature of feature_map.json; None removes a key."""

    def change(content: dict) -> None:
        (spec,) = (entry[name] for entry in content["features"] if name in entry)
        spec |= values
        for key in [key for key, value in values.items() if value is None]:
            del spec[key]

    return keys(change)


DAMAGES: dict[str, tuple[str, Damage, str]] = {
    "test deleted": (SPLIT.format("test"), Path.unlink, "encoded/test.npz is missing in "),
    "train deleted": (SPLIT.format("train"), Path.unlink, "encoded/train.npz is missing in "),
    "valid cut": (SPLIT.format("valid"), cut, "encoded/valid.npz is damaged"),
    "test empty": (SPLIT.format("test"), empty, "encoded/test.npz is damaged"),
    "train flipped": (SPLIT.format("train"), flip, "encoded/train.npz is damaged"),
    "train binary": (SPLIT.format("train"), binary, "encoded/train.npz is damaged"),
    "column missing": (SPLIT.format("train"), arrays(column__item_id=None), "column item_id is missing"),
    "label missing": (SPLIT.format("train"), arrays(column__label=None), "column label is missing"),
    "meta missing": (SPLIT.format("test"), arrays(column__user_id=None), "column user_id is missing"),
    "length missing": (SPLIT.format("train"), arrays(length__item_history=None), "length/item_history is missing"),
    "column shorter": (SPLIT.format("test"), arrays(column__cate_id=lambda old: old[:-1]), "cate_id has 39 rows"),
    "column of floats": (SPLIT.format("train"), arrays(column__item_id=lambda old: old + 0.5), "must be integers"),
    "column of two axes": (SPLIT.format("train"), arrays(column__item_id=lambda old: old[:, None]), "has the shape"),
    "column of objects": (SPLIT.format("train"), arrays(column__item_id=lambda old: old.astype(object)), "is damaged"),
    "id negative": (SPLIT.format("valid"), arrays(column__item_id=put(-1)), "item_id holds the id -1"),
    "id too large": (SPLIT.format("test"), arrays(column__cate_id=put(99)), "cate_id holds the id 99"),
    "meta of floats": (SPLIT.format("test"), arrays(column__user_id=lambda old: old * 1.0), "must be integers"),
    "label not a number": (SPLIT.format("train"), arrays(column__label=put(np.nan)), "label = nan must be 0 or 1"),
    "length negative": (SPLIT.format("train"), arrays(length__item_history=put(-3)), "length/item_history holds -3"),
    "length too long": (SPLIT.format("train"), arrays(length__item_history=put(7)), "length/item_history holds 7"),
    "lengths of another split": (
        SPLIT.format("train"),
        arrays(length__item_history=lambda old: old[:-2]),
        "length/item_history has 38 rows",
    ),
    "start negative": (SPLIT.format("train"), arrays(start__item_history=put(-9)), "start of item_history holds -9"),
    "start beyond the end": (SPLIT.format("test"), arrays(start__item_history=put(10**9)), "behaviours are stored"),
    "starts of floats": (SPLIT.format("test"), arrays(start__item_history=lambda old: old / 2), "must be integers"),
    "history deleted": (
        HISTORY.format("cate_history"),
        Path.unlink,
        "encoded/histories/cate_history.npy is missing in ",
    ),
    "history cut": (HISTORY.format("item_history"), cut, "item_history.npy is damaged"),
    "history of -1": (HISTORY.format("item_history"), array(lambda old: np.full_like(old, -1)), "holds the id -1"),
    "history too large": (HISTORY.format("cate_history"), array(put(5)), "cate_history holds the id 5"),
    "history of floats": (HISTORY.format("cate_history"), array(lambda old: old * 1.0), "must be integers"),
    "history shorter": (HISTORY.format("cate_history"), array(lambda old: old[:-5]), "has"),
    "history of two axes": (HISTORY.format("cate_history"), array(lambda old: old[None]), "has the shape"),
    "layout cut": ("built/d/encoded/layout.json", cut, "layout.json is damaged"),
    "layout of a list": ("built/d/encoded/layout.json", a_list, "layout.json is damaged"),
    "layout without tables": ("built/d/encoded/layout.json", keys(lambda old: old.pop("tables")), "is damaged"),
    "layout without a column": (
        "built/d/encoded/layout.json",
        keys(lambda old: old.update({"tables": [["item_history"]], "padding": {"item_history": "post"}})),
        "column cate_history is missing",
    ),
    "padding of no side": (
        "built/d/encoded/layout.json",
        keys(lambda old: old.update({"padding": dict.fromkeys(old["padding"], "left")})),
        "layout.json is damaged",
    ),
    "catalogue cut": (CATALOGUE, cut, "item_history.npz is damaged"),
    "catalogue deleted": (CATALOGUE, Path.unlink, "behaviour_catalogue/item_history.npz is missing in "),
    "catalogue without counts": (CATALOGUE, arrays(count=None), "count is missing"),
    "catalogue of unequal columns": (CATALOGUE, arrays(cate_history=lambda old: old[1:]), "cate_history has"),
    "catalogue of a large id": (CATALOGUE, arrays(item_history=put(11)), "item_history holds the id 11"),
    "catalogue of negative counts": (CATALOGUE, arrays(count=put(-1)), "count holds -1"),
    "feature map cut": (f"{SET}/feature_map.json", cut, "feature_map.json is damaged"),
    "feature map of a list": (f"{SET}/feature_map.json", a_list, "feature_map.json is damaged"),
    "no features": (f"{SET}/feature_map.json", keys(lambda old: old.pop("features")), "feature_map.json is damaged"),
    "no labels": (f"{SET}/feature_map.json", keys(lambda old: old.pop("labels")), "feature_map.json is damaged"),
    "no type": (f"{SET}/feature_map.json", feature("item_id", type=None), "type is missing in feature item_id"),
    "no vocab_size": (
        f"{SET}/feature_map.json",
        feature("item_id", vocab_size=None),
        "vocab_size = None of item_id must be",
    ),
    "no max_len": (
        f"{SET}/feature_map.json",
        feature("item_history", max_len=None),
        "max_len = None of item_history must be a whole",
    ),
    "vocab_size too small": (f"{SET}/feature_map.json", feature("item_id", vocab_size=4), "vocabulary has 4 ids"),
    "vocab_size too large": (
        f"{SET}/feature_map.json",
        feature("item_id", vocab_size=10**9),
        "item_id has ids up to 10",
    ),
    "vocab_size a text": (
        f"{SET}/feature_map.json",
        feature("item_id", vocab_size="11"),
        "vocab_size = '11' of item_id must be",
    ),
    "share_embedding unknown": (
        f"{SET}/feature_map.json",
        feature("item_history", share_embedding="none"),
        "feature_map.json is damaged",
    ),
    "encoder cut": (f"{SET}/encoder.json", cut, "encoder.json is damaged"),
    "encoder binary": (f"{SET}/encoder.json", binary, "encoder.json is damaged"),
    "encoder of a list": (f"{SET}/encoder.json", a_list, "encoder.json is damaged"),
    "encoder without a column": (
        f"{SET}/encoder.json",
        keys(lambda old: old["columns"].pop()),
        "encoder.json lacks feature cate_history",
    ),
    "encoder with other ids": (
        f"{SET}/encoder.json",
        keys(lambda old: old["vocabularies"]["cate_id"].update(tokens=["c0", "__PAD__", "__OOV__"], ids=[1, 0, 70])),
        "cate_id has ids up to 70 in encoder.json",
    ),
    "vocabulary shorter than its ids": (
        f"{SET}/encoder.json",
        keys(lambda old: old["vocabularies"]["cate_id"]["ids"].pop()),
        "encoder.json is damaged",
    ),
    "encoder deleted": (f"{SET}/encoder.json", Path.unlink, "encoder.json is missing in "),
    "vocabularies cut": (f"{SET}/feature_vocab.json", cut, "feature_vocab.json is damaged"),
    "vocabularies deleted": (f"{SET}/feature_vocab.json", Path.unlink, "feature_vocab.json is missing in "),
    "fingerprint cut": (f"{SET}/fingerprint.json", cut, "fingerprint.json is damaged"),
    "fingerprint binary": (f"{SET}/fingerprint.json", binary, "fingerprint.json is damaged"),
    "fingerprint without digests": (
        f"{SET}/fingerprint.json",
        keys(lambda old: [seen.pop("blake2b") for seen in old["inputs"].values()]),
        "fingerprint.json is damaged",
    ),
    "fingerprint of lists": (f"{SET}/fingerprint.json", keys(lambda old: old.update({"inputs": []})), "is damaged"),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a project with a built data set and a trained model."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        DienOnCsv(folder).configure({"aux_negatives": "popularity"})
        assert main(["--config", "config", "--expid", "X"]) == 0
    yield folder


def mended(folder: Path) -> Iterator[Path]:
    """Yield a project for one test, and restore its data set afterwards."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        shutil.copytree("built", "kept")
        yield folder
        shutil.rmtree("built")
        Path("kept").rename("built")


@pytest.fixture
def project(whole: Path) -> Iterator[Path]:
    yield from mended(whole)


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run; the line that it ends with, code 2, all files as they were."""

    def contents() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}

    def run(*arguments: str) -> str:
        before = contents()
        capsys.readouterr()
        code = main(["--config", "config", "--expid", "X", *arguments])
        error = capsys.readouterr().err
        assert code == 2, error[-2000:]
        assert contents() == before
        (line,) = (line for line in error.splitlines() if line.startswith("error: "))
        return line

    return run


def test_a_whole_data_set_trains(project: Path) -> None:
    assert main(["--config", "config", "--expid", "X"]) == 0


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damage_is_one_line(project: Path, refused: Callable[..., str], name: str) -> None:
    file, damage, reason = DAMAGES[name]
    damage(Path(file))
    line = refused()
    assert reason in line and SET in line


@pytest.mark.parametrize("name", ["test deleted", "history of -1", "layout cut", "feature map cut", "test empty"])
def test_an_evaluation_refuses_it_too(project: Path, refused: Callable[..., str], name: str) -> None:
    file, damage, reason = DAMAGES[name]
    damage(Path(file))
    assert reason in refused("--eval-only")


@pytest.mark.parametrize(
    "name", ["encoder cut", "encoder binary", "encoder with other ids", "layout of a list", "feature map of a list"]
)
def test_a_prediction_refuses_it_too(project: Path, refused: Callable[..., str], name: str) -> None:
    file, damage, reason = DAMAGES[name]
    damage(Path(file))
    assert reason in refused("--predict", "test.csv", "--out", "scores.csv")


def test_a_rebuild_mends_it(project: Path, refused: Callable[..., str]) -> None:
    Path(SPLIT.format("test")).unlink()
    assert "--rebuild builds the data set again" in refused()
    assert main(["--config", "config", "--expid", "X", "--rebuild"]) == 0


@pytest.mark.parametrize("column", ["item_history", "cate_history"])
def test_a_sequence_is_no_group(project: Path, refused: Callable[..., str], column: str) -> None:
    line = refused("--set", f"group_id={column}")
    assert line == f"error: group_id = {column}: the feature is a sequence; it must have one value per row"
    assert line == refused("--set", f"group_id={column}", "--eval-only")


FLAT: dict[str, tuple[str, Damage, str]] = {
    "rows cut": ("rows_train.bin", lambda file: file.write_bytes(file.read_bytes()[:-3]), "rows_train.bin is damaged"),
    "rows deleted": ("rows_test.bin", Path.unlink, "encoded/rows_test.bin is missing in "),
    "rows empty": ("rows_valid.bin", empty, "no rows"),
    "fewer negatives": (
        "negative_train.bin",
        lambda file: file.write_bytes(file.read_bytes()[:-8]),
        "negative_train.bin has",
    ),
    "rows of -1": ("rows_test.bin", lambda file: file.write_bytes(b"\xff" * file.stat().st_size), "holds -1"),
    "negative beyond": (
        "negative_test.bin",
        lambda file: (np.fromfile(file, np.int64) + 10**9).tofile(file),
        "negative_test.bin holds",
    ),
    "long lengths": (
        "history_length.bin",
        lambda file: (np.fromfile(file, np.int32) + 10**6).tofile(file),
        "history_length.bin holds",
    ),
    "negative lengths": (
        "history_length.bin",
        lambda file: (-1 - np.fromfile(file, np.int32)).tofile(file),
        "history_length.bin holds",
    ),
    "fewer items": ("item_id.bin", lambda file: file.write_bytes(file.read_bytes()[:-4]), "item_id.bin has"),
    "unknown words": (
        "cate_id.bin",
        lambda file: (np.fromfile(file, np.int32) + 10**6).tofile(file),
        "cate_id.bin holds",
    ),
    "ids too large": ("ids_item_history.npy", array(put(10**6)), "item_history holds the id 1000000"),
    "ids of floats": ("ids_item_id.npy", array(lambda old: old * 1.0), "must be integers"),
    "ids cut": ("ids_item_id.npy", cut, "ids_item_id.npy is damaged"),
    "layout without sources": ("layout.json", keys(lambda old: old.pop("flat_columns")), "layout.json is damaged"),
}


@pytest.fixture(scope="module")
def whole_flat(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("flat")
    rng = np.random.default_rng(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        dien = DienOnCsv(folder)
        rows = [
            (f"u{user}", f"i{item}", f"c{item % 3}", 1_700_000_000 + 9 * user + time)
            for user in range(40)
            for time, item in enumerate(rng.integers(0, 20, 8))
        ]
        lines = [",".join(map(str, row)) for row in [("user_id", "item_id", "cate_id", "time"), *rows]]
        Path("log.csv").write_text("\n".join(lines) + "\n")
        build = {
            "source": "log",
            "input": "log.csv",
            "user": "user_id",
            "item": "item_id",
            "category": "cate_id",
            "time": "time",
            "protocol": "leave_one_out",
            "max_len": 6,
        }
        dataset = {key: dien.dataset[key] for key in ("data_root", "min_categr_count", "feature_cols", "label_col")}
        dataset |= {"data_format": "parquet", "data_loader": "memory_mapped", "build": build}
        Path("config/dataset_config.yaml").write_text(yaml.dump({"d": dataset}))
        assert main(["--config", "config", "--expid", "X"]) == 0
    yield folder


@pytest.fixture
def flat_project(whole_flat: Path) -> Iterator[Path]:
    yield from mended(whole_flat)


@pytest.mark.parametrize("name", FLAT)
def test_a_damage_of_mapped_files_is_one_line(flat_project: Path, refused: Callable[..., str], name: str) -> None:
    file, damage, reason = FLAT[name]
    damage(Path(SET, "encoded", file))
    assert reason in refused()
