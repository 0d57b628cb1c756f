"""Exported models score as the models do, where nothing of what made them is."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from fuxictr.pytorch.models import BaseModel
from made import TWO
from made_bundles import other_bundle
from made_exports import KEYWORDS, SIZES, by_forward, made_dien, made_inputs, with_weights
from made_models import MODELS, make_model, pooled_features
from pages import ROOT, blocks

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.serving.bundle import open_bundle
from dien_fuxictr.serving.cli import main
from dien_fuxictr.serving.export_model import ABOUT, export

POOLED = ("DeepFM", "FM", "WideDeep")
WITHOUT = "import sys; sys.modules |= dict.fromkeys({}); import json, numpy as np\n"
CASES = """
cases = {}
for name, value in np.load("inputs.npz").items():
    case, _, feature = name.partition(":")
    cases.setdefault(case, {})[feature] = value
"""
ONNX = """
import onnxruntime
session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
about = session.get_modelmeta().custom_metadata_map
inputs = {each.name: each.shape for each in session.get_inputs()}
scores = [session.run(["scores"], case)[0] for case in cases.values()]
np.savez("scores.npz", *scores)
print(json.dumps([about, inputs]))
"""
TORCH = """
import torch
about = {"about.json": ""}
program = torch.export.load("model.pt2", extra_files=about).module()
scores = []
for case in cases.values():
    features = {name: torch.from_numpy(value) for name, value in case.items()}
    row = features.pop("row")
    with torch.no_grad():
        scores.append(program(features, row).numpy())
np.savez("scores.npz", *scores)
print(json.dumps([json.loads(about["about.json"]), None]))
"""


def check_elsewhere(program: str, without: list[str], model: BaseModel, folder: Path) -> tuple[dict, dict]:
    """Check that the file scores like the model, without some packages.

    Returns:
        The metadata of the file, and its inputs.
    """
    cases = [made_inputs(model, *sizes) for sizes in SIZES]
    inputs, row = made_inputs(model, 3, 17, 100)
    histories = {name: x.flip(1)[:, :9] if x.dim() == 2 else x for name, x in inputs.items()}
    cases += [(inputs, row), (histories, row), (inputs, (row + 1) % 3)]
    arrays = {
        f"{number}:{name}": value.numpy()
        for number, (inputs, row) in enumerate(cases)
        for name, value in {**inputs, "row": row}.items()
    }
    np.savez(folder / "inputs.npz", **arrays)
    of_torch_2_10 = "ignore:The given buffer is not writable:UserWarning"
    command = [sys.executable, "-W", of_torch_2_10, "-I", "-c", WITHOUT.format(without) + CASES + program]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    scores = list(np.load(folder / "scores.npz").values())
    for got, case in zip(scores, cases, strict=True):
        np.testing.assert_allclose(got, by_forward(model, *case), rtol=0, atol=1e-5)
    assert all(abs(other - scores[-3]).max() > 1e-3 for other in scores[-2:]), "histories matter"
    about, inputs = json.loads(done.stdout)
    return about, inputs


def example(call: str) -> dict[str, Any]:
    """Run the example of docs/guides/export.md with this call; return its names."""
    (code,) = (block.text for block in blocks(ROOT / "docs" / "guides" / "export.md") if call in block.text)
    names: dict[str, Any] = {}
    exec(code, names)
    return names


def test_onnx(bundle_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the example of docs/guides/export.md."""
    digest = other_bundle(bundle_folder, tmp_path / "DIEN_amazon.bundle", 1)
    monkeypatch.chdir(tmp_path)
    Path("DIEN_amazon.onnx").write_bytes(b"an earlier one")
    assert main(["--bundle", "DIEN_amazon.bundle", "--export", "onnx", "DIEN_amazon.onnx"]) == 0
    names = example("onnxruntime.InferenceSession")
    model, feed = open_bundle("DIEN_amazon.bundle").model, names["feed"]
    features = {name: torch.from_numpy(value) for name, value in feed.items()}
    expected = by_forward(model, features, features.pop("row"))
    assert expected.std() > 1e-3
    np.testing.assert_allclose(names["scores"], expected, rtol=0, atol=1e-5)

    about, inputs = check_elsewhere(ONNX, ["torch"], model, Path("DIEN_amazon.onnx").rename("model.onnx").parent)
    assert inputs == {
        "item_id": ["candidates"],
        "cate_id": ["candidates"],
        "item_history": ["users", "steps_0"],
        "cate_history": ["users", "steps_0"],
        "row": ["candidates"],
    }
    assert (about["model"], about["expid"], about["torch"]) == (digest, "DIEN_amazon", torch.__version__)
    stated = {name: {"shape": shape, "dtype": "int64"} for name, shape in inputs.items() if name != "row"}
    assert json.loads(about["inputs"]) == stated


def test_onnx_of_means(tmp_path: Path) -> None:
    """Export the zoo's mean of no behaviours, which is 0 / 1e-12.

    Sums of no rows need axes that count from the front.
    """
    model = with_weights(make_model("FM", pooled_features("Average")))
    export(model, "onnx", tmp_path / "model.onnx", {})
    _, inputs = check_elsewhere(ONNX, ["torch"], model, tmp_path)
    assert inputs["query_history"] == ["users", "steps_2"]
    graph = onnx.load(tmp_path / "model.onnx").graph
    constants = {
        node.output[0]: onnx.numpy_helper.to_array(node.attribute[0].t)
        for node in graph.node
        if node.op_type == "Constant" and node.attribute[0].name == "value"
    }
    axes = [constants[node.input[1]] for node in graph.node if node.op_type == "ReduceSum"]
    assert len(axes) > 20 and all((each >= 0).all() for each in axes)


@pytest.mark.full
@pytest.mark.parametrize("keywords", KEYWORDS, ids=str)
def test_onnx_of_every_dien(keywords: dict[str, Any], tmp_path: Path) -> None:
    model = made_dien(**keywords)
    export(model, "onnx", tmp_path / "model.onnx", {})
    check_elsewhere(ONNX, ["torch"], model, tmp_path)


@pytest.mark.full
@pytest.mark.parametrize("name", POOLED)
def test_onnx_of_other_models(name: str, tmp_path: Path) -> None:
    model = with_weights(make_model(name))
    export(model, "onnx", tmp_path / "model.onnx", {})
    check_elsewhere(ONNX, ["torch"], model, tmp_path)


def test_a_program_of_torch_alone(tmp_path: Path) -> None:
    model = made_dien(recurrence_backend="torch")
    export(model, "torch", tmp_path / "model.pt2", {"model": "x"})
    about, _ = check_elsewhere(TORCH, ["model_zoo", "fuxictr", "dien_fuxictr"], model, tmp_path)
    assert about["model"] == "x" and "day_history" in json.loads(about["inputs"])


@torch.no_grad()
def test_a_program_with_operators(tmp_path: Path) -> None:
    model = made_dien(**TWO, attention_type="din_attention")
    export(model, "torch", tmp_path / "model.pt2", {})
    exported = torch.export.load(tmp_path / "model.pt2")
    names = [str(node.target) for node in exported.graph.nodes if str(node.target).startswith("dien.")]
    assert names == ["dien.extract.default", "dien.evolve.default"] * 2
    for sizes in SIZES:
        case = made_inputs(model, *sizes)
        np.testing.assert_allclose(exported.module()(*case), by_forward(model, *case), rtol=0, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("name", POOLED)
def test_other_models(name: str, tmp_path: Path) -> None:
    model = with_weights(make_model(name))
    export(model, "torch", tmp_path / "model.pt2", {})
    program = torch.export.load(tmp_path / "model.pt2").module()
    for sizes in SIZES:
        case = made_inputs(model, *sizes)
        np.testing.assert_allclose(program(*case), by_forward(model, *case), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", sorted(MODELS.keys() - {"DIENLight", *POOLED}))
def test_the_rest_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=f"{name} cannot be exported: .*; models that do: DIEN, DIENLight, DeepFM, FM, WideDeep$"
    ):
        export(make_model(name), "torch", tmp_path / "model.pt2", {})
    assert not list(tmp_path.iterdir())


def test_a_feature_with_the_name_of_an_input(tmp_path: Path) -> None:
    spec = pooled_features()
    spec["row"] = spec["query"]
    with pytest.raises(UserError, match=r"feature 'row' must have another name: an exported model has an input 'row'"):
        export(make_model("WideDeep", spec), "torch", tmp_path / "model.pt2", {})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("form", "name", "message"),
    [
        ("onnx", "none/x.onnx", "does not exist"),
        ("onnx", "x.pt2", "the file's name must end with .onnx"),
        ("torch", "x.onnx", "the file's name must end with .pt2"),
        ("torch", "folder.pt2", "it already exists and is not a file"),
    ],
)
def test_a_file_that_cannot_be_is_one_line(
    form: str, name: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "folder.pt2").mkdir()
    (tmp_path / "x.pt2").write_bytes(b"other")
    assert main(["--bundle", "not looked at", "--export", form, str(tmp_path / name)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line and (tmp_path / "x.pt2").read_bytes() == b"other"


def test_onnxscript_is_missing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    assert main(["--bundle", "not looked at", "--export", "onnx", "x.onnx"]) == 2
    line = "error: --export onnx needs the package onnxscript, which is not installed: pip install onnxscript\n"
    assert capsys.readouterr().err == line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["csv", "x.csv"], "--export csv is unknown; allowed: onnx, torch"),
        (["onnx", "x.onnx", "--port", "1"], "--port cannot be combined with --export"),
        (["onnx", "x.onnx", "--max-body", "1"], "--max-body cannot be combined with --export"),
        (["onnx"], "expected 2 arguments"),
    ],
)
def test_a_wrong_command_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--export", *arguments])
    assert end.value.code == 2 and message in capsys.readouterr().err


@torch.no_grad()
def test_an_experiment_and_its_bundle(
    project: Path,
    bundle_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = {file.relative_to(project) for file in project.rglob("*")}
    digest, file = other_bundle(bundle_folder, tmp_path / "b", 1), tmp_path / "DIEN_amazon.pt2"
    for source, name in (("--expid", "DIENLight_amazon"), ("--bundle", str(tmp_path / "b"))):
        assert main([source, name, "--export", "torch", str(file)]) == 0
        about = {ABOUT: ""}
        torch.export.load(file, extra_files=about)
        said = json.loads(about[ABOUT])
        assert capsys.readouterr().out == f"{said['expid']}, model {said['model']}: {file}\n"
    assert (said["expid"], said["model"]) == ("DIEN_amazon", digest)
    assert {file.relative_to(project) for file in project.rglob("*")} == before
    assert {file.name for file in tmp_path.iterdir()} == {"b", file.name}

    monkeypatch.chdir(tmp_path)
    names = example("torch.export.load")
    model = open_bundle("b").model
    for case in ((names["features"], names["row"]), made_inputs(model, 3, 17, 100)):
        np.testing.assert_allclose(names["program"](*case), by_forward(model, *case), rtol=0, atol=1e-5)


def test_an_export_into_a_bundle_is_refused(bundle_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = bundle_folder / "weights.pt2"
    assert main(["--bundle", str(bundle_folder), "--export", "torch", str(file)]) == 2
    line = f"error: --export torch {file} is an input of the command: --bundle = {bundle_folder}; name another path\n"
    assert capsys.readouterr().err == line and not file.exists()
