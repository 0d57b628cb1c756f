"""A model in a new folder is trained, served, explained and exported.

Nothing else is changed for it.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from made_asgi import started
from made_project import make_project

from dien_fuxictr import open_experiment
from dien_fuxictr.experiment.cli import main as run_expid
from dien_fuxictr.serving.bundle import open_bundle
from dien_fuxictr.serving.cli import main as run_serve
from dien_fuxictr.serving.write import write_bundle
from dien_fuxictr.studies.evolution.cli import main as run_evolution

MODEL = '''
import torch
from fuxictr.pytorch.layers import FeatureEmbeddingDict
from fuxictr.pytorch.models import BaseModel
from torch import nn


class Nearest(BaseModel):
    """The target's embedding by those of the behaviours, weighed by attention."""

    def __init__(self, feature_map, model_id="Nearest", gpu=-1, learning_rate=1e-3, embedding_dim=8, **kwargs):
        super().__init__(feature_map, model_id=model_id, gpu=gpu, **kwargs)
        self.embedding_layer = FeatureEmbeddingDict(feature_map, embedding_dim)
        self.bias = nn.Parameter(torch.zeros(1))
        self.compile(kwargs["optimizer"], kwargs["loss"], learning_rate)
        self.reset_parameters()
        self.model_to_device()

    def match(self, ids, item):
        """Returns scores (B,) and attention (B, T)."""
        history = self.embedding_layer({"item_history": ids})["item_history"]
        target = self.embedding_layer({"item_id": item})["item_id"].unsqueeze(2)
        products = (history @ target).squeeze(2)
        attention = torch.where(ids > 0, products, -30.0).softmax(dim=1) * (ids > 0)
        return torch.sigmoid(self.bias + (attention * products).sum(dim=1)), attention

    def forward(self, inputs):
        X = self.get_inputs(inputs)
        return {"y_pred": self.match(X["item_history"].long(), X["item_id"].long())[0].unsqueeze(1)}

    @torch.no_grad()
    def scores(self, user, candidates, count):
        ids, items = torch.as_tensor(user["item_history"]), torch.as_tensor(candidates["item_id"])
        scores, attention = self.match(ids.expand(count, -1), items)
        return scores.numpy(), attention[:, ids[0] > 0].numpy()
'''
METHODS = """
    def scorer(self):
        self.scorers = getattr(self, "scorers", 0) + 1
        return lambda *request: self.scores(*request)[0]

    @property
    def explained_fields(self):
        return [(("item_id",), ("item_history",))]

    def explain(self, user, candidates, count):
        scores, attention = self.scores(user, candidates, count)
        return scores, [{"attention": attention}]

    def export_module(self, form):
        return Exported(self)


class Exported(nn.Module):
    features = ("item_id", "item_history")

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, inputs, row):
        return self.model.match(inputs["item_history"][row], inputs["item_id"])[0]
"""
ENTRY = """
Nearest_amazon:
    model: Nearest
    model_root: ./checkpoints/
    dataset_id: amazon
    task: binary_classification
    loss: binary_crossentropy
    metrics: [AUC]
    monitor: AUC
    monitor_mode: max
    optimizer: adam
    learning_rate: 0.02
    batch_size: 64
    epochs: 1
    shuffle: True
    seed: 1
    num_workers: 1
    verbose: 0
    embedding_dim: 8
    embedding_regularizer: null
    net_regularizer: null
"""


def add_model(folder: Path, code: str, patch: pytest.MonkeyPatch) -> None:
    """Make the project in a folder, with the model and its entry, and go there."""
    make_project(folder)
    (folder / "config" / "model_config" / "own.yaml").write_text(ENTRY)
    package = folder / "model_zoo" / "Nearest" / "src"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(code)
    patch.syspath_prepend(str(folder))
    patch.chdir(folder)


@pytest.fixture
def unlearnt() -> Iterator[None]:
    yield
    for name in [name for name in sys.modules if name.startswith("model_zoo.Nearest")]:
        del sys.modules[name]


def test_it_is_served_explained_and_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unlearnt: None, capsys: pytest.CaptureFixture[str]
) -> None:
    add_model(tmp_path, MODEL + METHODS, monkeypatch)
    assert run_expid(["--expid", "Nearest_amazon"]) == 0
    experiment = open_experiment("Nearest_amazon")
    write_bundle(experiment, Path("bundle"), [])
    bundle = open_bundle("bundle")
    client = started(lambda: bundle).loaded()
    request = client.get("/v1/model").json["example"]
    reply = client.post("/v1/score", request)
    assert reply.status == 200 and bundle.model.scorers == 1
    items, history = request["candidates"]["item_id"], request["user"]["item_history"]
    tokens = bundle.encoder.vocabularies["item_id"]
    ids, wanted = (torch.tensor([tokens[word] for word in words]) for words in (history, items))
    with torch.no_grad():
        scores, attention = bundle.model.match(ids.expand(len(items), -1), wanted)
    np.testing.assert_allclose(reply.json["scores"], scores, atol=1e-6)
    explained = client.post("/v1/explain", request).json
    (sequence,) = explained["sequences"]
    assert (sequence["fields"], sequence["seen"]) == (["item_history"], list(range(len(history))))
    np.testing.assert_allclose(sequence["attention"], attention, atol=1e-6)
    assert "path" not in sequence and explained["scores"] == reply.json["scores"]
    client.close()

    inputs, row = {"item_history": ids.view(1, -1), "item_id": wanted}, torch.zeros(len(items), dtype=torch.int64)
    for form, file in (("torch", "own.pt2"), ("onnx", "own.onnx")):
        assert run_serve(["--bundle", "bundle", "--export", form, file]) == 0
    program = torch.export.load("own.pt2").module()
    np.testing.assert_allclose(program(inputs, row).detach(), scores, atol=1e-6)
    session = onnxruntime.InferenceSession("own.onnx", providers=["CPUExecutionProvider"])
    (got,) = session.run(["scores"], {name: x.numpy() for name, x in {**inputs, "row": row}.items()})
    np.testing.assert_allclose(got, scores, atol=1e-5)

    capsys.readouterr()
    assert run_evolution(["--expid", "Nearest_amazon"]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line == "error: attention, states or untargeted is missing in the explanation of Nearest"


def test_without_the_methods_it_is_served_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unlearnt: None, capsys: pytest.CaptureFixture[str]
) -> None:
    add_model(tmp_path, MODEL, monkeypatch)
    assert run_expid(["--expid", "Nearest_amazon"]) == 0
    write_bundle(open_experiment("Nearest_amazon"), Path("bundle"), [])
    client = started(lambda: open_bundle("bundle")).loaded()
    request = client.get("/v1/model").json["example"]
    assert len(client.post("/v1/score", request).json["scores"]) == len(request["candidates"]["item_id"])
    sequences = client.post("/v1/explain", request).json["sequences"]
    assert [set(sequence) for sequence in sequences] == [{"fields", "seen"}]
    client.close()
    capsys.readouterr()
    for run, arguments, lack in (
        (run_serve, ["--bundle", "bundle", "--export", "torch", "own.pt2"], "cannot be exported: it offers no export"),
        (run_evolution, ["--expid", "Nearest_amazon"], "has no interests to draw: it offers no explain(); models that"),
    ):
        assert run(arguments) == 2
        line = capsys.readouterr().err.splitlines()[-1]
        assert line.startswith(f"error: Nearest {lack}")
