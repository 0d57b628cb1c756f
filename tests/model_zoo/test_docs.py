"""docs/reference/model.md against the code."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "model_zoo" / "DIEN" / "src"


def test_the_table_of_files_names_every_file() -> None:
    table = (ROOT / "docs" / "reference" / "model.md").read_text().split("## Keywords")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    named = {SOURCE / name for row in rows for name in re.findall(r"`(.+?)`", row)}
    files = {path for folder in (SOURCE, SOURCE / "layers", SOURCE / "kernels") for path in folder.glob("[!_]*.py")}
    folders = {path.parent for path in SOURCE.glob("kernels/*/__init__.py")}
    assert named == files | folders
