"""A FuxiCTR checkout of a few small models, and a project with small data."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from made_comparison import SETTINGS, Fake

from dien_fuxictr.dataset.generate_sample import World, generate, write_lines

ROOT = Path(__file__).parents[3]
MODEL = """
from fuxictr.pytorch.layers import FeatureEmbedding, MLP_Block
from fuxictr.pytorch.models import BaseModel


class {name}(BaseModel):
    def __init__(self, feature_map, model_id="{name}", gpu=-1, learning_rate=1e-3, embedding_dim=10, depth=1,
                 dnn_hidden_units=[64], dnn_activations="ReLU", net_dropout=0, batch_norm=False,
                 embedding_regularizer=None, net_regularizer=None, **kwargs):
        super().__init__(feature_map, model_id=model_id, gpu=gpu, embedding_regularizer=embedding_regularizer,
                         net_regularizer=net_regularizer, **kwargs)
        self.embedding_layer = FeatureEmbedding(feature_map, embedding_dim)
        self.mlp = MLP_Block(feature_map.sum_emb_out_dim(), dnn_hidden_units, dnn_activations, output_dim=1)
        self.compile(kwargs["optimizer"], kwargs["loss"], learning_rate)
        self.reset_parameters()
        self.model_to_device()

    def forward(self, X):
        {fault}
        logit = self.mlp(self.embedding_layer(self.get_inputs(X), flatten_emb=True))
        return {{"y_pred": self.output_activation(logit)}}
"""
SIGNATURES = {
    "Reader": "din_target_field='item_id', din_sequence_field='click_history', attention_hidden_units=[64], gate=None",
    "Factors": "learning_rate=1e-3, embedding_dim=10, regularizer=None",
    "MaskNet": "dnn_hidden_units=[64], dnn_hidden_activations='ReLU'",
    "Towers": "mlp1_hidden_units=[64], mlp1_dropout=0, mlp1_batch_norm=False, top_mlp_units=[64], afn_dropout=0,"
    " top_mlp_activations=None, attention_hidden_units=[64], aux_activation='ReLU', mlp_hidden_units=[]",
}
ENTRIES = {
    "Mean_default": {
        "model": "Mean",
        "dataset_id": "TBD",
        "depth": 7,
        "learning_rate": 0.5,
        "dnn_hidden_units": [512],
        "batch_size": 10000,
        "epochs": 100,
    },
    "Mean_first": {"model": "Mean", "depth": 8},
    "DIN_test": {"model": "DIN", "depth": 9},
    "Reader_default": {
        "model": "Reader",
        "din_target_field": "adgroup_id",
        "din_sequence_field": "click_sequence",
        "attention_hidden_units": [32],
        "gate": "sigmoid",
    },
    "MaskNet_default": {"model": "MaskNet", "dnn_hidden_activations": "ReLU"},
    "Towers_default": {"model": "Towers", "mlp_hidden_units": [], "top_mlp_units": [512, 256], "afn_dropout": 0.3},
}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a checkout with Mean, DIN, Broken, Needy and other models.

    Broken raises an error in forward, Needy needs a package that is not installed, and others only have a signature.
    """
    root = tmp_path / "FuxiCTR"
    sources = {name: MODEL.format(name=name, fault="") for name in ("Mean", "DIN")}
    sources["Broken"] = MODEL.format(name="Broken", fault='raise RuntimeError("mat1 and mat2 do not fit")')
    for name, keywords in SIGNATURES.items():
        sources[name] = (
            f"from fuxictr.pytorch.models import BaseModel\n\n\nclass {name}(BaseModel):\n"
            f"    def __init__(self, feature_map, {keywords}, **kwargs):\n        pass\n"
        )
    sources["Needy"] = f"import no_such_package\n{sources['Factors'].replace('Factors', 'Needy')}"
    sources["Tasks"] = sources["Factors"].replace("Factors", "Tasks").replace("BaseModel", "MultiTaskModel")
    for name, text in sources.items():
        folder = root / "model_zoo" / ("multitask" if name == "Tasks" else "") / name
        (folder / "src").mkdir(parents=True)
        (folder / "src" / "__init__.py").write_text(f"from .{name} import *\n")
        (folder / "src" / f"{name}.py").write_text(text)
        entries = {expid: entry for expid, entry in ENTRIES.items() if entry["model"] == name}
        if entries:
            (folder / "config").mkdir()
            (folder / "config" / "model_config.yaml").write_text(yaml.dump({"Base": {"num_workers": 3}, **entries}))
    (root / "fuxictr").mkdir()
    (root / "fuxictr" / "__init__.py").write_text("raise AssertionError('shadows the installed package')\n")
    return root


@pytest.fixture
def sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Change to a project of one epoch per experiment, with a sample of 60 users."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "config", "config")
    for file in Path("config/model_config").glob("*.yaml"):
        file.write_text(file.read_text().replace("epochs: 8", "epochs: 1"))
    reviews, items = generate(0, World(users=60))
    Path("data/amazon_sample").mkdir(parents=True)
    write_lines(Path("data/amazon_sample/reviews_Sample_5.json.gz"), [json.dumps(review) for review in reviews])
    write_lines(Path("data/amazon_sample/meta_Sample.json.gz"), [repr(item) for item in items])


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config" / "model_config").mkdir(parents=True)
    entries = {
        "Base": {},
        "weak": SETTINGS,
        "weak_again": SETTINGS,
        "strong": {**SETTINGS, "epochs": 3},
        "elsewhere": {**SETTINGS, "dataset_id": "other"},
        "no_auc": {**SETTINGS, "metrics": ["logloss"]},
        "pooled": {key: value for key, value in SETTINGS.items() if key != "dien_target_field"}
        | {"model": "EmbeddingMLP"},
        "untested": {**SETTINGS, "dataset_id": "no_test"},
    }
    (tmp_path / "config" / "model_config" / "M.yaml").write_text(yaml.dump(entries))
    data = {"data_root": "./data/", "data_format": "csv", "train_data": "train.csv", "test_data": "test.csv"}
    for name in ("train.csv", "test.csv"):
        Path(name).touch()
    sets = {"d": data, "other": data, "no_test": {**data, "test_data": None}}
    (tmp_path / "config" / "dataset_config.yaml").write_text(yaml.dump(sets))
    fake = Fake()
    monkeypatch.setattr("dien_fuxictr.studies.comparison.run_comparison.run_with_progress", fake)
    return fake
