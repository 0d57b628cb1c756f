"""Every experiment in config/ trains, on made raw files of the form that its data set entry asks for."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from dien_fuxictr.dataset.generate_sample import World, generate, write_lines
from dien_fuxictr.dataset.samples.build import build_samples
from dien_fuxictr.experiment.cli import main
from dien_fuxictr.experiment.configuration.config import ConfigLoader

ROOT = Path(__file__).parent.parent
MODELS = {file: yaml.load(file.read_text(), ConfigLoader) for file in (ROOT / "config" / "model_config").glob("*.yaml")}
ENTRIES = {expid: entry for entries in MODELS.values() for expid, entry in entries.items() if expid != "Base"}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with config/, one epoch an experiment, and small raw files of every data set."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "config", folder / "config")
    for file, entries in MODELS.items():
        for entry in entries.values():
            if "epochs" in entry:
                entry["epochs"] = 1
        (folder / "config" / "model_config" / file.name).write_text(yaml.dump(entries))
    reviews, items = generate(0, World(users=120, behaviours=(5, 12)))
    raw = folder / "data" / "raw"
    raw.mkdir(parents=True)
    for name in ("Beauty", "Electronics", "Books"):
        write_lines(raw / f"reviews_{name}_5.json.gz", [json.dumps(review) for review in reviews])
        write_lines(raw / f"meta_{name}.json.gz", [repr(item) for item in items])
    sample = folder / "data" / "amazon_sample"
    sample.mkdir()
    shutil.copy(raw / "reviews_Beauty_5.json.gz", sample / "reviews_Sample_5.json.gz")
    shutil.copy(raw / "meta_Beauty.json.gz", sample / "meta_Sample.json.gz")
    build_samples(
        {
            "source": "amazon",
            "reviews": raw / "reviews_Books_5.json.gz",
            "meta": raw / "meta_Books.json.gz",
            "protocol": "leave_one_out",
            "format": "csv",
        },
        folder / "published",
        verbose=False,
    )
    published = folder / "data" / "AmazonElectronics_x1"
    published.mkdir()
    for split in ("train", "test"):
        text = (folder / "published" / f"{split}.csv").read_text()
        (published / f"{split}.csv").write_text(text.replace("A00", "100").replace("SYNTH", ""))
    return folder


@pytest.mark.parametrize("expid", ENTRIES)
def test_experiment_trains(
    expid: str, project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project)
    assert main(["--expid", expid, "--strict"]) == 0, capsys.readouterr().err
    result = (project / "config.csv").read_text().splitlines()[-1]
    assert f"[exp_id] {expid}," in result and result.count("AUC: ") == 4
    dataset = result.split("[dataset_id] ")[1].split(",")[0]
    weights = torch.load(project / "checkpoints" / dataset / f"{expid}.model", weights_only=True)
    assert all(value.isfinite().all() for value in weights.values())
    assert any(name.startswith("aux_losses") for name in weights) == (ENTRIES[expid].get("aux_loss_alpha", 0) > 0)


@pytest.mark.parametrize("gru_type", ["GRU", "AIGRU", "AGRU", "AUGRU"])
def test_the_ablation_has_each_variant_with_and_without_auxiliary_loss(gru_type: str) -> None:
    without, with_loss = ENTRIES[f"DIEN_amazon_{gru_type}"], ENTRIES[f"DIEN_amazon_{gru_type}_aux"]
    assert without["aux_loss_alpha"] == 0 < with_loss["aux_loss_alpha"]
    assert (
        without
        == {**with_loss, "aux_loss_alpha": 0}
        == {**ENTRIES["DIEN_amazon"], "gru_type": gru_type, "aux_loss_alpha": 0}
    )


def test_every_data_set_entry_is_used() -> None:
    entries = yaml.load((ROOT / "config" / "dataset_config" / "amazon.yaml").read_text(), ConfigLoader)
    used = {entry["dataset_id"] for models in MODELS.values() for entry in models.values() if "dataset_id" in entry}
    assert used == set(entries)


@pytest.mark.parametrize("expid", [expid for expid in ENTRIES if not expid.startswith("DIEN_amazon_A")])
def test_missing_raw_files(
    expid: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line that says how to get them."""
    shutil.copytree(ROOT / "config", tmp_path / "config")
    monkeypatch.chdir(tmp_path)
    assert main(["--expid", expid]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert re.match(
        r"error: .* does not exist; tried .*; to get it: (wget|python -m dien_fuxictr.dataset.generate_sample)",
        line,
    )
