"""A bundle has everything for serving, is written atomically, and is checked."""

import json
import os
import shutil
import time
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from dien_fuxictr import Experiment, open_experiment
from dien_fuxictr.common.errors import UserError
from dien_fuxictr.dataset.encoding.encoder import Encoder
from dien_fuxictr.dataset.loading.loader import InMemoryDataLoader
from dien_fuxictr.experiment.configuration.yaml_files import read_yaml, write_config
from dien_fuxictr.experiment.evaluation.evaluate import predict
from dien_fuxictr.experiment.training import checkpoint
from dien_fuxictr.serving import write
from dien_fuxictr.serving.bundle import CATALOGUE, Bundle, BundleLoader, open_bundle
from dien_fuxictr.serving.examples import made_request
from dien_fuxictr.serving.golden import check
from dien_fuxictr.serving.manifest import MANIFEST, read_manifest, write_manifest
from dien_fuxictr.serving.write import write_bundle
from model_zoo.DIEN.src import DIEN


def scores(bundle: Bundle, rows: Path) -> list[float]:
    encoded = bundle.encoder.encode_rows(rows)
    return predict(bundle.model, InMemoryDataLoader.from_encoded(bundle.model.feature_map, encoded)).tolist()


@pytest.mark.parametrize("expid", ["DIEN_amazon", "WideDeep_amazon", "DIENLight_amazon"])
def test_bundle_scores_without_any_other_file(
    expid: str, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment, rows = open_experiment(expid), project / "data" / "amazon" / "samples"
    digest = write_bundle(experiment, tmp_path / "made" / "bundle", [])
    expected = experiment.predict(rows / "test.parquet").tolist()
    (tmp_path / "elsewhere").mkdir()
    shutil.move(tmp_path / "made" / "bundle", tmp_path / "elsewhere" / "moved")
    monkeypatch.chdir(tmp_path / "elsewhere")
    opened = open_bundle("moved")
    assert opened.digest == digest and opened.expid == expid and not opened.model.training
    assert scores(opened, rows / "test.parquet") == pytest.approx(expected, abs=1e-6)
    assert 0 < opened.metrics["validation/AUC"] < 1
    assert opened.versions.keys() >= {"python", "torch"}
    text = "".join(file.read_text(errors="replace") for file in Path("moved").rglob("*") if file.is_file())
    assert str(project) not in text and "user_id" not in json.loads(Path("moved", "encoder.json").read_text())


def test_nothing_that_only_training_needs_is_in_it(experiment: Experiment, bundle: Path) -> None:
    experiment.load()
    auxiliary = {name for name in experiment.model.state_dict() if "auxiliary" in name}
    kept = load_file(bundle / "weights.safetensors").keys()
    assert auxiliary and not auxiliary & kept
    assert not [name for name in kept if name.endswith("item_history.weight")], "it is item_id's"
    assert not [file for file in bundle.rglob("*") if file.suffix in (".pkl", ".model")]
    vocabularies = json.loads((bundle / "encoder.json").read_text())["vocabularies"]
    assert vocabularies.keys() == {"item_id", "cate_id"}, "nobody's user ids"


def test_of_a_light_net_it_is_a_dien_without_the_booster(project: Path, tmp_path: Path) -> None:
    write_bundle(open_experiment("DIENLight_amazon"), tmp_path / "light", [])
    opened = open_bundle(tmp_path / "light")
    assert type(opened.model) is DIEN and opened.params["model"] == "DIEN" and opened.expid == "DIENLight_amazon"
    assert not [name for name in load_file(tmp_path / "light" / "weights.safetensors") if name.startswith("booster")]
    assert "booster" not in (tmp_path / "light" / "config.yaml").read_text()


def test_the_digest_is_that_of_the_content(experiment: Experiment, bundle: Path, tmp_path: Path) -> None:
    again = write_bundle(experiment, tmp_path / "again", [])
    assert again == open_bundle(bundle).digest
    example = made_request(open_bundle(bundle).encoder, 2, 1)
    assert write_bundle(experiment, tmp_path / "again", [example]) != again
    assert open_bundle(tmp_path / "again").examples == [example]


def test_failed_write_leaves_no_bundle(experiment: Experiment, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    before = open_bundle(bundle).digest
    monkeypatch.setattr(write, "write_manifest", full)
    for folder in (bundle, bundle.parent / "new"):
        with pytest.raises(UserError, match=r"cannot write bundle .*: No space left on device"):
            write_bundle(experiment, folder, [])
    assert open_bundle(bundle).digest == before
    assert [file.name for file in bundle.parent.iterdir()] == [bundle.name]


def test_a_folder_that_is_no_bundle_is_not_replaced(experiment: Experiment, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    with pytest.raises(UserError, match=r"cannot write bundle: .*thesis already exists and is not a bundle"):
        write_bundle(experiment, tmp_path / "thesis", [])
    with pytest.raises(UserError, match=r"thesis is not a bundle: manifest.json is missing; run_serve"):
        open_bundle(tmp_path / "thesis")


@pytest.mark.parametrize(
    "name", ["weights.safetensors", "encoder.json", "feature_map.json", "config.yaml", "about.json", "catalogue.json"]
)
def test_any_other_byte_is_refused(bundle: Path, name: str) -> None:
    content = bytearray((bundle / name).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / name).write_bytes(content)
    with pytest.raises(UserError, match=f"{name} does not match its digest"):
        open_bundle(bundle)
    (bundle / name).unlink()
    with pytest.raises(UserError, match=f"bundle .*: {name} is missing"):
        open_bundle(bundle)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is damaged"),
        ('{"format": 2, "digest": "", "files": {}}', "format = 2 in manifest.json must be 1"),
        ('{"format": 1, "digest": "0", "files": {}}', "its digest does not match its files"),
        ('{"format": 1, "digest": "0", "files": {}, "written": "yesterday"}', "is damaged"),
        ('{"format": 1, "digest": "0", "files": {}, "written": [1]}', "is damaged"),
        ('{"format": 1, "digest": "0", "files": {}, "written": 1' + "0" * 400 + "}", "is damaged"),
    ],
)
def test_a_damaged_manifest_is_refused(bundle: Path, content: str, message: str) -> None:
    (bundle / MANIFEST).write_text(content)
    with pytest.raises(UserError, match=message):
        open_bundle(bundle)


def test_a_manifest_says_when_it_was_written(bundle: Path, tmp_path: Path) -> None:
    """A copy says so, too; of an older bundle the time of the file does."""
    written = read_manifest(bundle).written
    assert abs(time.time() - written) < 86_400
    shutil.copytree(bundle, tmp_path / "copy", copy_function=shutil.copyfile)
    os.utime(tmp_path / "copy" / MANIFEST, (5, 5))
    assert read_manifest(tmp_path / "copy").written == written
    content = json.loads((bundle / MANIFEST).read_text())
    del content["written"]
    (tmp_path / "copy" / MANIFEST).write_text(json.dumps(content))
    os.utime(tmp_path / "copy" / MANIFEST, (5, 5))
    assert read_manifest(tmp_path / "copy").written == 5


def change(bundle: Path, name: str, old: str, new: str) -> None:
    text = (bundle / name).read_text()
    assert old in text
    (bundle / name).write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("encoder.json", '"name": "cate_id"', '"name": "other"', "encoder.json lacks feature cate_id"),
        ("encoder.json", '"max_len": 50', '"max_len": 40', "item_history has max_len 40 in encoder.json, 50 in"),
        ("encoder.json", '"type": "categorical"', '"type": "numeric"', "item_id has type numeric in encoder.json"),
        (
            "encoder.json",
            '"ids": [1, ',
            '"ids": [9999, ',
            "item_id has ids up to 9999 in encoder.json, .* ids in feature",
        ),
        ("encoder.json", '"ids": [1, ', '"ids": [1, 1, ', "encoder.json is damaged"),
        ("config.yaml", "gru_type: AUGRU", "gru_type: AIGRUX", "gru_type"),
        ("config.yaml", "embedding_dim: 18", "embedding_dim: 17", "does not match the model"),
        ("config.yaml", "model: DIEN", "model: DIN", "attention_activation"),
        ("about.json", '"metrics"', '"measures"', "metrics is missing in about.json of bundle"),
    ],
)
def test_parts_that_do_not_fit_each_other_are_refused(
    bundle: Path, name: str, old: str, new: str, message: str
) -> None:
    change(bundle, name, old, new)
    write_manifest_anew(bundle)
    with pytest.raises(UserError, match=message) as error:
        open_bundle(bundle)
    assert "\n" not in str(error.value)


def write_manifest_anew(bundle: Path) -> None:
    (bundle / MANIFEST).unlink()
    write_manifest(bundle)


def test_weights_of_another_model_are_refused(bundle: Path) -> None:
    weights = load_file(bundle / "weights.safetensors")
    save_file({**weights, "another": torch.zeros(1)}, bundle / "weights.safetensors")
    write_manifest_anew(bundle)
    with pytest.raises(UserError, match="another is not the model's"):
        open_bundle(bundle)
    (bundle / "weights.safetensors").write_bytes(b"broken")
    write_manifest_anew(bundle)
    with pytest.raises(UserError, match=r"weights.safetensors is not readable"):
        open_bundle(bundle)


def test_without_a_checkpoint(project: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"checkpoint .*DIN_amazon.model does not exist; run_expid.py --expid DIN"):
        write_bundle(open_experiment("DIN_amazon"), tmp_path / "bundle", [])
    assert not (tmp_path / "bundle").exists()


def test_metrics_are_those_of_the_run_that_wrote_the_checkpoint(project: Path, tmp_path: Path) -> None:
    experiment = open_experiment("WideDeep_amazon", overrides={"model_root": str(tmp_path)})
    shutil.copytree(project / "checkpoints" / "amazon", experiment.folder)
    weights = checkpoint.load(experiment.checkpoint)
    checkpoint.save({name: value + 1 for name, value in weights.items()}, experiment.checkpoint)
    with pytest.raises(UserError, match="does not match the digest"):
        write_bundle(experiment, tmp_path / "bundle", [])
    experiment.checkpoint.with_suffix(".resume").unlink()
    write_bundle(experiment, tmp_path / "bundle", [])
    assert open_bundle(tmp_path / "bundle").metrics == {}


def test_models_of_a_checkout_are_not_served(experiment: Experiment, tmp_path: Path) -> None:
    experiment.params["zoo"] = "FuxiCTR"
    with pytest.raises(
        UserError, match="DIEN_amazon cannot be served: its model is in the FuxiCTR checkout FuxiCTR, and a bundle"
    ):
        write_bundle(experiment, tmp_path / "bundle", [])


def test_a_package_that_is_missing(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "safetensors.torch", None)
    with pytest.raises(UserError, match=r'needs the package safetensors.*not installed: pip install "uvicorn'):
        open_bundle(bundle)


def test_its_encoder_is_that_of_the_data_set(experiment: Experiment, bundle: Path) -> None:
    own = Encoder.load(Path(experiment.params["data_root"], "amazon"), experiment.params)
    moved = open_bundle(bundle).encoder
    assert [column for column in own.columns if column["type"] != "meta"] == moved.columns
    assert (moved.tables, moved.latest) == (own.tables, own.latest)
    assert all(own.vocabularies[name] == tokens for name, tokens in moved.vocabularies.items())


def test_equal_vocabularies_are_not_read_again(bundle: Path) -> None:
    load = BundleLoader(bundle)
    bundles = [load()]
    for name in ("weights.safetensors", "encoder.json", "encoded/layout.json", CATALOGUE):
        if name.endswith(".json"):
            (bundle / name).write_bytes((bundle / name).read_bytes() + b"\n")
        else:
            save_file({key: weight + 1 for key, weight in load_file(bundle / name).items()}, bundle / name)
        (bundle / MANIFEST).unlink()
        write_manifest(bundle)
        bundles.append(load())
    encoders, catalogues = [each.encoder for each in bundles], [each.catalogue for each in bundles]
    assert [one is after for one, after in pairwise(encoders)] == [True, False, False, True]
    assert [one is after for one, after in pairwise(catalogues)] == [True, True, True, False]
    assert all(each.vocabularies == encoders[0].vocabularies for each in encoders)
    assert catalogues[-1] == catalogues[0] and catalogues[0].words
    assert len({id(each.model) for each in bundles}) == len({each.digest for each in bundles}) == len(bundles)


@pytest.mark.parametrize("key", ["use_features", "sep"])
def test_of_other_parameters_the_encoder_is_read_again(key: str, bundle: Path) -> None:
    first = open_bundle(bundle)
    changed = Bundle(**{**vars(first), "params": {**first.params, key: "other"}})
    again = open_bundle(bundle, earlier=changed)
    assert again.encoder is not first.encoder and again.catalogue is first.catalogue


@pytest.mark.parametrize(
    ("leaking", "message"),
    [(["device"], "another user's device"), ([], ""), (None, "items have several values of cate_id")],
)
def test_a_bundle_warns_of_leaking_columns(
    leaking: list[str] | None, message: str, bundle: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Warn of columns in an older bundle by the sides that its catalogue lacks.

    These sides had several values.
    """
    folder = tmp_path / "other"
    shutil.copytree(bundle, folder)
    about = json.loads((folder / "about.json").read_text())
    assert about.pop("leaking_columns") == []
    if leaking is not None:
        about["leaking_columns"] = leaking
    (folder / "about.json").write_text(json.dumps(about))
    if leaking is None:
        (folder / "catalogue.json").write_text('{"words": {}, "fields": {}}')
    (folder / "manifest.json").unlink()
    write_manifest(folder)
    open_bundle(folder)
    warnings = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == bool(message) and all(message in warning for warning in warnings)


def test_a_bundle_of_49f06ef_gives_its_golden_scores() -> None:
    """Score the golden requests of a bundle that commit 49f06ef has written.

    It was written by --publish of a DIEN of one epoch on a sample of 40 users.
    """
    bundle = open_bundle(Path(__file__).with_name("bundle_of_49f06ef"))
    assert bundle.digest == "b6134b5304d952adfa40bc78af0ae287" and len(bundle.examples) == 10
    golden = [score for each in bundle.golden for score in each["scores"]]
    assert len(golden) > 20 and max(golden) - min(golden) > 0.1
    difference = check(bundle)
    assert difference is not None and difference < 1e-5


@pytest.mark.parametrize(("value", "kind"), [("paper", "AUGRU"), ("code", "AUGRU-tensorflow")])
def test_a_bundle_with_keys_of_an_earlier_version_opens(value: str, kind: str, tmp_path: Path) -> None:
    folder = shutil.copytree(Path(__file__).with_name("bundle_of_49f06ef"), tmp_path / "bundle")
    keys = {"augru_sign": value, "aux_pool": "worker", "batch_statistics": "worker", "data_loader": "flat"}
    gone = {"aux_pretrain_epochs": 0, "behaviour_dropout": 0.1, "embedding_reinit": "epoch", "aux_loss_alpha": [0, 0]}
    write_config(folder / "config.yaml", {**read_yaml(folder / "config.yaml"), **keys, **gone})
    write_manifest(folder)
    bundle = open_bundle(folder)
    assert bundle.model.sequences[0].evolution.kind == kind
    expected = {"aux_negative_scope": "shard", "sync_batch_norm": False, "data_loader": "memory_mapped"}
    assert expected.items() <= bundle.params.items() and bundle.params["aux_loss_alpha"] == 0
    assert not {"augru_sign", "aux_pool", "batch_statistics", "behaviour_dropout"} & bundle.params.keys()
    if value == "paper":
        difference = check(bundle)
        assert difference is not None and difference < 1e-5
