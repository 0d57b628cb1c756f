"""Every YAML on the project's pages loads, and passes the checks of a run."""

import ast
import re
from pathlib import Path

import pytest
import yaml
from fuxictr.pytorch.models import BaseModel
from pages import PAGES, Block, blocks, config_blocks

from dien_fuxictr.experiment import contract
from dien_fuxictr.experiment.configuration.config import BASE, load_config
from dien_fuxictr.experiment.configuration.yaml_files import ConfigLoader
from dien_fuxictr.experiment.contract import check_configuration
from dien_fuxictr.experiment.experiment import Experiment
from dien_fuxictr.experiment.models import find_model, own_models

TEXT = {
    "docs/guides/evolution.md": "chromium --headless",
}
"""Page -> how a block begins that is neither commands nor YAML nor Python."""
SECTIONS = [
    (file, name)
    for file, block in config_blocks()
    for name in re.findall(r"^(\w+):", block.text, re.MULTILINE)
    if name != BASE
]
OTHERS = [
    block
    for page in PAGES
    for block in blocks(page)
    if page.name != "deployment.md"  # YAML of proxies and Kubernetes, which tests/docs/test_deployment.py reads
    and not block.is_shell
    and block.language in ("", "yaml")
    and block not in [block for _, block in config_blocks()]
]

TUNERS = [block for block in OTHERS if "tuner_space:" in block.text]


def is_mapping(block: Block) -> bool:
    """Return whether the block is YAML that maps names to something."""
    try:
        return isinstance(yaml.load(block.text, ConfigLoader), dict)
    except yaml.YAMLError:
        return False


def is_python(block: Block) -> bool:
    try:
        return bool(ast.parse(block.text))
    except SyntaxError:
        return False


@pytest.mark.parametrize(("file", "name"), SECTIONS)
def test_sections_pass_the_checks(file: str, name: str, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if file.startswith("config/dataset_config/"):
        (project / "config" / "model_config" / "Z.yaml").write_text(f"X: {{dataset_id: {name}}}")
        assert load_config(Path("config"), "X").params["label_col"]
        return
    config = load_config(Path("config"), name)
    assert not config.warnings and config.origin["model"].startswith(file)
    if config.params.get("zoo") or config.params["model"] not in own_models():  # a checkout has the model
        model = find_model(config.params["model"]) if config.params["model"] in own_models() else BaseModel
        monkeypatch.setattr(contract, "find_model", lambda *_: model)
        check_configuration(config.params, config.where)
    else:
        assert not Experiment(config, strict=True).warnings


@pytest.mark.parametrize("block", [block for block in OTHERS if is_mapping(block) and block not in TUNERS], ids=str)
def test_keys_of_an_entry_pass_the_checks(block: Block, project: Path) -> None:
    config = load_config(Path("config"), "DIEN_amazon", yaml.load(block.text, ConfigLoader))
    assert not Experiment(config, strict=True).warnings


def test_tuner_file_of_sweeps_is_in_config() -> None:
    (block,) = TUNERS
    file = Path(__file__).parents[2] / "config" / "tuner" / "DIEN_amazon.yaml"
    assert yaml.safe_load(block.text) == yaml.safe_load(file.read_text(encoding="utf-8"))


def test_every_block_is_commands_or_yaml_or_python_or_listed() -> None:
    rest = [block for block in OTHERS if not is_mapping(block) and not is_python(block)]
    assert [block.page for block in rest] == list(TEXT)
    assert all(block.text.startswith(TEXT[block.page]) for block in rest)
