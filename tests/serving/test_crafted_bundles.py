"""A bundle of another party runs no code, reads no other files, and is bounded."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.experiment.configuration.yaml_files import read_yaml, write_config
from dien_fuxictr.serving.bundle import NO_KEYS, open_bundle
from dien_fuxictr.serving.cli import main
from dien_fuxictr.serving.manifest import MANIFEST, write_manifest
from dien_fuxictr.serving.model_service import ModelService
from dien_fuxictr.serving.request import Limits
from dien_fuxictr.serving.server_metrics import Metrics
from model_zoo.DIEN.src import DIEN


@pytest.fixture
def crafted(bundle_folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(bundle_folder, tmp_path / "crafted")


def sign(folder: Path) -> None:
    (folder / MANIFEST).unlink()
    write_manifest(folder)


def configure(folder: Path, **keys: Any) -> None:
    write_config(folder / "config.yaml", {**read_yaml(folder / "config.yaml"), **keys})
    sign(folder)


def edit(folder: Path, name: str, change: Callable[[Any], Any]) -> None:
    content = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps(change(content) or content))
    sign(folder)


def plant_checkout(folder: Path, proof: Path) -> None:
    source = folder / "model_zoo" / "Evil" / "src"
    source.mkdir(parents=True)
    (source / "__init__.py").write_text(
        f"open({str(proof)!r}, 'w')\nfrom fuxictr.pytorch.models import BaseModel\nclass Evil(BaseModel): pass\n"
    )


@pytest.mark.parametrize("place", ["in the bundle", "named by the manifest", "elsewhere"])
def test_a_checkout_that_it_names_is_not_imported(
    place: str, crafted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkout = tmp_path / "checkout" if place == "elsewhere" else crafted
    if place == "named by the manifest":
        plant_checkout(checkout, tmp_path / "owned")
    configure(crafted, zoo=str(checkout), model="Evil")
    if place != "named by the manifest":
        plant_checkout(checkout, tmp_path / "owned")
    assert main(["--bundle", str(crafted), "--export", "torch", str(tmp_path / "x.pt2")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    inside = f"error: bundle {crafted} holds model_zoo/Evil/src/__init__.py, which its manifest.json does not name;"
    refused = f"error: bundle {crafted}: zoo = {str(checkout)!r} in config.yaml is refused: a bundle must not name code"
    assert line.startswith(inside if place == "in the bundle" else refused)
    assert not (tmp_path / "owned").exists() and "Evil" not in str(sys.modules)


@pytest.mark.parametrize("key", NO_KEYS)
def test_keys_that_name_code_or_a_place_are_refused(key: str, crafted: Path) -> None:
    configure(crafted, **{key: "/etc/passwd"})
    with pytest.raises(UserError, match=f"{key} = '/etc/passwd' in config.yaml is refused"):
        open_bundle(crafted)


@pytest.mark.parametrize("name", ["sitecustomize.py", "encoded/evil.npz", "encoded/more/x.so", "._weights"])
def test_files_that_it_does_not_need_are_refused(name: str, crafted: Path) -> None:
    (crafted / name).parent.mkdir(exist_ok=True)
    (crafted / name).write_text("")
    with pytest.raises(UserError, match=f"holds {name}, which its manifest.json does not name; remove the file"):
        open_bundle(crafted)
    sign(crafted)
    with pytest.raises(UserError, match=f"holds {name}, which its model does not read"):
        open_bundle(crafted)


def test_links_to_elsewhere_are_refused(crafted: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (crafted / "folder").symlink_to(tmp_path / "outside")
    with pytest.raises(UserError, match="holds folder, which"):
        open_bundle(crafted)
    (crafted / "folder").unlink()
    edit(crafted, "titles.json", lambda titles: titles)
    manifest = json.loads((crafted / MANIFEST).read_text())
    manifest["files"]["../outside.json"] = manifest["files"].pop("titles.json")
    shutil.move(crafted / "titles.json", tmp_path / "outside.json")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dien_fuxictr.serving.manifest._together", lambda _: manifest["digest"])
        (crafted / MANIFEST).write_text(json.dumps(manifest))
        with pytest.raises(UserError, match=r": \.\./outside\.json is missing"):
            open_bundle(crafted)


@pytest.mark.parametrize("key", ["model_id", "dataset_id"])
def test_ids_are_names(key: str, crafted: Path) -> None:
    edit(crafted, "feature_map.json", lambda content: content | ({key: "../up"} if key == "dataset_id" else {}))
    configure(crafted, **{key: "../up"})
    with pytest.raises(UserError, match=r"config.yaml '../up' must be a name without /"):
        open_bundle(crafted)


@pytest.mark.parametrize("name", ["/etc/passwd.npz", "../x.npz", "encoded/../x.npz"])
def test_embeddings_outside_are_not_read(name: str, crafted: Path) -> None:
    edit(crafted, "feature_map.json", lambda content: feature(content, "item_id").update(pretrained_emb=name))
    with pytest.raises(UserError, match=r"pretrained_emb = .*npz' in feature item_id of .* must be the name of a file"):
        open_bundle(crafted)


def test_embeddings_of_feature_specs_are_files_of_the_bundle(crafted: Path) -> None:
    configure(crafted, feature_specs=[{"name": "item_id", "pretrained_emb": "/etc/x.npz"}])
    with pytest.raises(UserError, match=r"pretrained_emb = '/etc/x.npz' is not a file of the bundle"):
        open_bundle(crafted)


@pytest.mark.parametrize("key", ["feature_encoder", "embedding_initializer"])
def test_text_that_the_zoo_evaluates_is_refused(key: str, crafted: Path, tmp_path: Path) -> None:
    text = f"""layers.FeatureEmbedding(0, 4, "open('{tmp_path}/owned', 'w')")"""
    edit(crafted, "feature_map.json", lambda content: feature(content, "item_id").update({key: text}))
    with pytest.raises(UserError, match=f"{key} "):
        open_bundle(crafted)
    assert not (tmp_path / "owned").exists()


def test_yaml_makes_no_objects(crafted: Path, tmp_path: Path) -> None:
    text = (crafted / "config.yaml").read_text()
    (crafted / "config.yaml").write_text(f"{text}\nx: !!python/object/apply:os.mkdir [{tmp_path}/owned]\n")
    sign(crafted)
    with pytest.raises(UserError, match="is not readable YAML"):
        open_bundle(crafted)
    assert not (tmp_path / "owned").exists()
    with pytest.raises(yaml.YAMLError):
        yaml.safe_load("x: !!python/object/apply:os.mkdir [owned]")


@pytest.mark.parametrize(
    ("part", "field", "value", "message"),
    [
        ("user", "item_history", "B01", "user.item_history: must be a list or null"),
        ("user", "item_id", "B01", "user.item_id: must not be in candidates too"),
        ("candidates", "item_id", [[]], "candidates.item_id: must hold text"),
        ("candidates", "x", [1], "candidates.x: is unknown; "),
    ],
)
def test_examples_are_requests(part: str, field: str, value: Any, message: str, crafted: Path) -> None:
    request = {"user": {"item_history": []}, "candidates": {"item_id": ["B01"]}}
    changed = {**request, part: {**request[part], field: value}}
    edit(crafted, "examples.json", lambda _: [request, changed])
    bundle = open_bundle(crafted)
    with pytest.raises(UserError, match=rf"model {bundle.digest}: request 1 of its examples.json: {message}"):
        ModelService(bundle, Limits(), Metrics())


def feature(content: dict[str, Any], name: str) -> dict[str, Any]:
    return next(entry[name] for entry in content["features"] if name in entry)


def column(content: dict[str, Any], name: str) -> dict[str, Any]:
    return next(each for each in content["columns"] if each["name"] == name)


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail if a model is built: refusals at once come before that."""

    def build(*_: object, **__: object) -> None:
        raise AssertionError("a model is built")

    monkeypatch.setattr(DIEN, "__init__", build)


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize("size", [10**12, -1, 1.5, "many", None, True])
@pytest.mark.parametrize("key", ["max_len", "vocab_size"])
def test_sizes_are_refused_at_once(key: str, size: Any, crafted: Path) -> None:
    edit(crafted, "feature_map.json", lambda content: feature(content, "item_history").update({key: size}))
    message = f"{key} = .* in feature item_history of .*feature_map.json must be a whole number"
    with pytest.raises(UserError, match=message):
        open_bundle(crafted)


@pytest.mark.usefixtures("no_model")
def test_a_vocabulary_is_as_large_as_its_ids(crafted: Path) -> None:
    edit(crafted, "feature_map.json", lambda content: feature(content, "item_id").update(vocab_size=2**31 - 1))
    with pytest.raises(UserError, match=r"item_id has ids up to \d+ in encoder.json, 2147483647 ids in feature_map"):
        open_bundle(crafted)


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize("size", [10**12, -1, "many"])
def test_sizes_of_the_encoder_are_refused_too(size: Any, crafted: Path) -> None:
    edit(crafted, "encoder.json", lambda content: column(content, "item_history").update(max_len=size))
    with pytest.raises(
        UserError, match=r"max_len = .* in column item_history of .*encoder.json of bundle .* must be a whole number"
    ):
        open_bundle(crafted)


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize("number", [-1, 1.5, "1", None, True])
def test_ids_are_whole_numbers_from_0(number: Any, crafted: Path) -> None:
    edit(crafted, "encoder.json", lambda content: content["vocabularies"]["item_id"]["ids"].__setitem__(0, number))
    with pytest.raises(UserError, match=r"ids of vocabulary item_id in encoder.json must be whole numbers from 0"):
        open_bundle(crafted)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("examples.json", {}, "examples.json = .* in bundle .* must be a list"),
        ("examples.json", [5], "examples.json = .* must be a list, each a mapping"),
        ("examples.json", [{"user": [], "candidates": {}}], "examples.json = .* must be a list, each a mapping"),
        ("titles.json", {"a": 5}, "titles.json = .* must be a mapping"),
        ("about.json", [], "about.json = .* must be a mapping"),
        ("about.json", {"expid": "a", "metrics": {"AUC": "high"}, "versions": {}}, "metrics = .* must be a mapping"),
        ("catalogue.json", {"words": {"a": 5}, "fields": {}}, "words = .* in catalogue.json of bundle .* must be"),
        ("catalogue.json", {"words": {}, "fields": {"cate_id": ["item_id", "b"]}}, "whose words lack b"),
    ],
)
def test_other_contents_are_refused(name: str, content: Any, message: str, crafted: Path) -> None:
    edit(crafted, name, lambda _: content)
    if content in ({}, []):
        (crafted / name).write_text(json.dumps(content))
        sign(crafted)
    with pytest.raises(UserError, match=message) as error:
        open_bundle(crafted)
    assert "\n" not in str(error.value)
