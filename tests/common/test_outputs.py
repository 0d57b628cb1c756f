"""Outputs that a user may name, and those that are refused."""

from pathlib import Path

import pytest

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.common.outputs import require_output


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in (
        "rows.csv",
        "raw/log.csv",
        "data/set/feature_map.json",
        "data/set/encoded/train.npz",
        "samples/samples.json",
        "X.bundle/feature_map.json",
        "X.bundle/weights.safetensors",
        "config/model_config/a.yaml",
        "other/model_config.yaml",
        "models/set/X.model",
        "models/set/X.resume",
        "elsewhere/X.model",
        "note.yaml",
    ):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    Path("dangling.csv").symlink_to("nowhere.csv")
    Path("link.csv").symlink_to("rows.csv")
    Path("hard.csv").hardlink_to("rows.csv")
    Path("into").symlink_to("models")
    return tmp_path


def check(path: str, **options: bool) -> None:
    inputs, kept = {"--predict": "rows.csv", "build.input": Path("raw")}, {"--config": "config", "model_root": "models"}
    require_output("--out", Path(path), inputs, kept, **options)


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("rows.csv", "--out rows.csv is an input of the command: --predict = rows.csv"),
        ("link.csv", "is an input of the command: --predict = rows.csv"),
        ("hard.csv", "is an input of the command: --predict = rows.csv"),
        ("raw/log.csv", "is an input of the command: build.input = raw"),
        ("dangling.csv", "--out dangling.csv is a link to nowhere.csv, which does not exist"),
        ("config/new.csv", "lies in --config = config"),
        ("models/set/X.model", "lies in model_root = models"),
        ("models/new/scores.csv", "lies in model_root = models"),
        ("into/scores.csv", "lies in model_root = models"),
        ("elsewhere/X.model", "is a checkpoint"),
        ("note.yaml", "is a configuration"),
        ("data/set", "which holds a built data set"),
        ("data/set/scores.csv", "which holds a built data set"),
        ("data/set/encoded/train.npz", "which holds a built data set"),
        ("samples/scores.csv", "which holds built samples"),
        ("X.bundle/model.onnx", "which holds a bundle"),
        ("other/scores.csv", "which holds configurations"),
    ],
)
def test_what_commands_work_with_is_refused(place: Path, path: str, reason: str) -> None:
    with pytest.raises(UserError) as error:
        check(path)
    assert reason in str(error.value)


@pytest.mark.parametrize("path", ["new.csv", "data/new.csv", "no/such/folder/new.csv", "elsewhere/X.csv"])
def test_other_paths_are_allowed(place: Path, path: str) -> None:
    check(path)


def test_own_output_folder_may_be_rewritten(place: Path) -> None:
    check("samples", holds_own=True)
    with pytest.raises(UserError, match="which holds built samples"):
        check("samples/new", holds_own=True)


def test_output_next_to_configurations_in_working_directory(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Allow the zoo's own way: `--config .` in a folder of two files."""
    monkeypatch.chdir("other")
    require_output("--out", Path("scores.csv"), kept={"--config": "."})
