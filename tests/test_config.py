"""config/: what the zoo makes of it, and that every experiment trains, on made raw files of the form it asks for."""

import json
import re
import shutil
from pathlib import Path

import fuxictr.utils
import pytest
import torch
import yaml

from dien_fuxictr.dataset.generate_sample import World, generate, write_lines
from dien_fuxictr.dataset.samples.build import build_samples
from dien_fuxictr.experiment.cli import main
from dien_fuxictr.experiment.configuration.config import BASE, load_config, read_files, read_yaml

ROOT = Path(__file__).parent.parent
CONFIG = ROOT / "config"
MODELS = read_files(CONFIG, "model_config")
EXPERIMENTS = {expid: load_config(CONFIG, expid) for entries in MODELS.values() for expid in entries if expid != BASE}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with config/, one epoch an experiment, and small raw files of every data set."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "config", folder / "config")
    for file in (folder / "config" / "model_config").glob("*.yaml"):
        entries = read_yaml(file)
        entries[BASE]["epochs"] = 1
        file.write_text(yaml.dump(entries))
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


@pytest.mark.parametrize("expid", EXPERIMENTS)
def test_the_zoo_reads_the_same(expid: str) -> None:
    config = EXPERIMENTS[expid]
    assert config.params == fuxictr.utils.load_config(str(CONFIG), expid)
    assert not config.warnings


@pytest.mark.parametrize("file", MODELS, ids=lambda file: file.name)
def test_a_file_has_one_data_set_and_its_experiments_share_the_budget_of_base(file: Path) -> None:
    entries = MODELS[file]
    assert entries[BASE]["dataset_id"] == file.stem
    budget = {"dataset_id", "optimizer", "learning_rate", "batch_size", "epochs", "seed", "embedding_dim", "monitor"}
    assert budget <= entries[BASE].keys()
    assert not [(expid, key) for expid, entry in entries.items() if expid != BASE for key in budget & entry.keys()]


@pytest.mark.parametrize("expid", EXPERIMENTS)
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
    assert any(".auxiliary_loss." in name for name in weights) == (
        EXPERIMENTS[expid].params.get("aux_loss_alpha", 0) > 0
    )


@pytest.mark.parametrize("gru_type", ["GRU", "AIGRU", "AGRU", "AUGRU"])
def test_the_ablation_has_each_variant_with_and_without_auxiliary_loss(gru_type: str) -> None:
    without, with_loss, paper = (
        {key: value for key, value in EXPERIMENTS[f"DIEN_amazon{variant}"].params.items() if key != "model_id"}
        for variant in (f"_{gru_type}", f"_{gru_type}_aux", "")
    )
    assert without["aux_loss_alpha"] == 0 < with_loss["aux_loss_alpha"]
    assert without == {**with_loss, "aux_loss_alpha": 0} == {**paper, "gru_type": gru_type, "aux_loss_alpha": 0}


def test_every_data_set_entry_is_used() -> None:
    entries = [name for content in read_files(CONFIG, "dataset_config").values() for name in content]
    assert {config.params["dataset_id"] for config in EXPERIMENTS.values()} == set(entries)


@pytest.mark.parametrize("expid", [expid for expid in EXPERIMENTS if not expid.startswith("DIEN_amazon_A")])
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
