"""Text that the zoo evaluates: only what it needs reaches the zoo."""

import json
from pathlib import Path

import pytest

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.experiment.configuration.expressions import check_expressions

ATTACKS = [
    "__import__('os').system('touch owned')",
    "layers.__builtins__['eval']('1')",
    "nn.Module.__subclasses__()",
    "nn.Linear(*open('owned', 'w'))",
    "nn.Linear(1, open('owned', 'w'))",
    "nn.Linear(**{})",
    "nn.modules.linear.Linear(1, 1)",
    "layers.torch.load('x')",
    "nn.Linear",
    "(lambda: nn.Identity())()",
    "[nn.Identity()][0]",
    "nn.Identity(); 1",
    "nn.Idenity()",
    "layers.get_activation('x')",
    """layers.FeatureEmbedding(0, 4, "open('owned', 'w')")""",
    """layers.FeatureEmbeddingDict(0, 4, embedding_initializer="open('owned', 'w')")""",
    """layers.PretrainedEmbedding("a", {}, "p", "v", 4, 4, "init", "open('owned', 'w')")""",
    "layers.LogisticRegression(0)",
    "nn.Linear(" * 3000,
    "",
]


def where(key: str) -> str:
    return "a.yaml [X]"


@pytest.mark.parametrize(
    "encoder",
    [
        None,
        "layers.MaskedAveragePooling()",
        "layers.MaskedSumPooling()",
        " nn.Linear(4, 4, bias=False)",
        "nn.Sequential()",
        ["nn.Linear(4, -8)", "nn.ReLU()", "nn.Dropout(p=0.1)"],
    ],
    ids=str,
)
def test_layers_pass(encoder):
    for key in ("feature_cols", "feature_specs"):
        check_expressions({key: [{"name": "item", "dtype": "str", "feature_encoder": encoder}]}, where)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda text: text[:40])
@pytest.mark.parametrize("key", ["feature_cols", "feature_specs"])
def test_nothing_else_is_a_layer(key, attack, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for encoder in (attack, ["nn.ReLU()", attack]):
        with pytest.raises(UserError, match=r"feature_encoder = .* of 'item' of feature_.* in a.yaml .X. must be null"):
            check_expressions({key: [{"name": "item", "feature_encoder": encoder}]}, where)
    assert not Path("owned").exists()


@pytest.mark.parametrize(
    "text", ["partial(nn.init.normal_, std=1e-4)", "nn.init.xavier_normal_", "torch.nn.init.zeros_"]
)
def test_initializers_pass(text):
    check_expressions({"embedding_initializer": text}, where)
    check_expressions({"embedding_initializer": None}, where)


@pytest.mark.parametrize(
    "text",
    [
        *ATTACKS,
        "partial(print, 1)",
        "partial(nn.init.normal_, std=open('owned', 'w'))",
        "partial(nn.init._no_grad_normal_, 0)",
        "partial()",
        "partial(nn.init.normal_)(1)",
        "nn.init.math.exp",
        3,
    ],
    ids=lambda text: str(text)[:40],
)
def test_nothing_else_is_an_initializer(text):
    with pytest.raises(UserError, match=r"embedding_initializer in a.yaml .X. = .* must be nn.init.NAME"):
        check_expressions({"embedding_initializer": text}, where)


def test_a_run_evaluates_nothing_of_a_yaml_or_of_a_feature_map(workspace, bad):
    code = "__import__('pathlib').Path('owned').touch()"
    workspace.write_configs({"Tiny_test": {"feature_specs": [{"name": "item", "feature_encoder": code}]}})
    assert "feature_encoder = " in bad()
    workspace.write_configs({"Tiny_test": {}})
    file = workspace.folder / "data" / "tiny" / "feature_map.json"
    content = json.loads(file.read_text())
    content["features"][1]["item"]["feature_encoder"] = code
    file.write_text(json.dumps(content))
    assert "feature_encoder = " in bad() and "feature_map.json" in bad()
    assert not Path("owned").exists()


@pytest.mark.parametrize("name", ["../../x", "/abs", "a/b", ".", "..", "", "a\\b", "a\nb", "a\0b"])
def test_ids_are_names_and_no_paths(name, workspace, bad):
    workspace.write_configs({"Tiny_test": {}, name: {}})
    assert "must be a name" in bad(expid=name)
    workspace.write_configs({"Tiny_test": {"dataset_id": name}})
    assert "must be a name" in bad()
    assert "must be a name" in bad("--set", f"dataset_id={json.dumps(name)}")
