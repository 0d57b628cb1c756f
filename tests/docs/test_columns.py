"""docs/guides/data.md: an experiment trains with each kind of column.

The columns are changed as the page says.
"""

import re
import shlex
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from pages import ROOT, blocks

from dien_fuxictr.experiment import build_dataset, cli
from dien_fuxictr.experiment.configuration.yaml_files import ConfigDumper, ConfigLoader

PAGE = ROOT / "docs" / "guides" / "data.md"
BUILDS = {
    match[1]: shlex.split(block.text.replace("\\\n", ""))[2:]
    for block in blocks(PAGE)
    if block.is_shell and (match := re.search(r"--entry (my_columns|my_sets)$", block.text))
}
SECTIONS = {
    "Categorical columns": "my_columns",
    "Numeric columns": "my_columns",
    "Multi-valued columns": "my_sets",
    "Pretrained vectors of items": "my_columns",
    "The user id as a feature": "my_columns",
}
"""Section -> the data set whose columns it changes."""


def changed_columns(section: str) -> list[dict[str, Any]]:
    text = PAGE.read_text(encoding="utf-8").split(f"### {section}\n")[1].split("\n### ")[0]
    (block,) = re.findall(r"```yaml\n([\s\S]*?)```", text)
    return yaml.load(block, ConfigLoader)["feature_cols"]


def names_of(column: dict[str, Any]) -> list[str]:
    return column["name"] if isinstance(column["name"], list) else [column["name"]]


@pytest.mark.parametrize("section", SECTIONS)
def test_each_kind_trains(section: str, project: Path) -> None:
    name = SECTIONS[section]
    assert build_dataset.main(BUILDS[name]) == 0
    data_file, model_file = (Path("config", kind, f"{name}.yaml") for kind in ("dataset_config", "model_config"))
    data = yaml.load(data_file.read_text(), ConfigLoader)
    changed = changed_columns(section)
    given = {column for each in changed for column in names_of(each)}
    no_behaviours = {column for each in changed if each["type"] in ("numeric", "sequence") for column in names_of(each)}
    dropped = given | {f"{column}_history" for column in no_behaviours}
    user, *columns = data[name]["feature_cols"]
    kept = [{**each, "name": [column for column in names_of(each) if column not in dropped]} for each in columns]
    data[name]["feature_cols"] = [user, *changed, *(each for each in kept if each["name"])]
    data_file.write_text(yaml.dump(data, Dumper=ConfigDumper))
    models = yaml.load(model_file.read_text(), ConfigLoader)
    dien, unused = models[f"DIEN_GRU_{name}"], dropped - (given - no_behaviours)
    for key in ("dien_target_field", "dien_sequence_field"):
        dien[key] = tuple(field for field in dien[key] if field not in unused)
    model_file.write_text(yaml.dump(models, Dumper=ConfigDumper))
    run = ["--expid", f"DIEN_GRU_{name}", "--rebuild", "--allow-untrained", "--set", "epochs=1"]
    assert cli.main(run) == 0


def test_lists_are_joined_as_the_page_says(project: Path) -> None:
    log = pl.read_parquet("clicks.parquet")
    log.with_columns(pl.col("genres").str.split("|")).write_parquet("lists.parquet")
    (block,) = (block for block in blocks(PAGE) if "lists.parquet" in block.text)
    exec(block.text, {})
    assert pl.read_parquet("clicks.parquet").equals(log)
