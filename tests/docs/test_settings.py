"""docs/settings.md recommends what `build_dataset.py ... --entry` writes."""

from typing import Any

import pytest
import yaml
from pages import ROOT, blocks, tables

from dien_fuxictr.dataset.samples.build_options import BuildOptions
from dien_fuxictr.experiment.configuration.new_entry import models_text, recommend
from dien_fuxictr.experiment.configuration.yaml_files import parse_yaml

PAGE = ROOT / "docs" / "settings.md"
TEXT = PAGE.read_text(encoding="utf-8")
COLUMNS = (
    "users", "items", "training rows", "labels per user", "behaviours per history", "auxiliary loss", "batch_size",
    "λ of DIN", "λ of DIEN",
)  # fmt: skip
FEW, MANY = "[few labels](#few-labels)", "[many labels](#many-labels)"


def table() -> list[list[str]]:
    """Return the cells of the page's first table, without the name of the log."""
    head, *rows = tables(TEXT.split("\n## Settings by log\n")[1])[0]
    assert tuple(head[1:]) == COLUMNS
    return [row[1:] for row in rows]


def number(cell: str) -> float:
    return float(cell.replace(",", ""))


def counts_of(row: list[str]) -> dict[str, Any]:
    users, items, rows, _, steps = map(number, row[:5])
    return {"users": users, "items": items, "train": {"rows": rows, "positives": rows / 2, "mean_history": steps}}


def entry(row: list[str]) -> dict[str, Any]:
    """Return what --entry writes for a row's log."""
    build = BuildOptions.of({"source": "log", "input": "a", "user": "u", "item": "i", "time": "t"})
    return parse_yaml(models_text("my", build, counts_of(row)))


def block(heading: str) -> dict[str, Any]:
    section = TEXT.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    (text,) = [block.text for block in blocks(PAGE) if block.text in section.replace("\n    ", "\n")]
    return yaml.safe_load(text)


@pytest.mark.parametrize("row", table(), ids=lambda row: "-".join(row[:2]))
def test_the_table_has_what_recommend_returns(row: list[str]) -> None:
    settings = recommend(counts_of(row))
    assert row[3] == f"{settings.labels:.1f}"
    assert row[5:] == [
        FEW if settings.has_few_labels else MANY,
        str(settings.batch_size),
        f"{settings.regularizer:g}",
        f"{settings.aux_regularizer:g}",
    ]


def test_the_table_has_both_kinds_of_logs() -> None:
    assert {row[5] for row in table()} == {FEW, MANY}


@pytest.mark.parametrize("row", table(), ids=lambda row: "-".join(row[:2]))
def test_blocks_are_what_the_entry_has(row: list[str]) -> None:
    written = entry(row)
    general = block("For every model")
    for key in ("embedding_regularizer", "batch_size", *(("epochs",) if "eval_steps" in written["Base"] else ())):
        assert key in written["Base"] and general.pop(key)
    assert general.items() <= written["Base"].items()
    assert block("Few labels" if row[5] == FEW else "Many labels").items() <= written["DIEN_GRU_my"].items()
    assert block("AUGRU").items() <= written["DIEN_my"].items()


def test_the_block_for_every_model_is_of_the_first_log() -> None:
    first, general = table()[0], block("For every model")
    assert [str(general["batch_size"]), f"{general['embedding_regularizer']:g}"] == first[6:8]
