"""docs/notebook.ipynb from its first cell to its last, in a folder of its own."""

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]


def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    notebook = nbformat.read(ROOT / "docs" / "notebook.ipynb", as_version=4)
    stored = [[output.output_type for output in cell.outputs] for cell in notebook.cells if cell.cell_type == "code"]
    client = NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": tmp_path}})
    client.execute()  # raises if a cell raises
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 4
    shown = "\n".join(output.get("data", {}).get("text/plain", "") for output in outputs)
    assert "│ test  ┆ 0." in shown and "score" in shown
    assert any(stored), "the notebook is kept with what its cells show"
    for cell in nbformat.read(ROOT / "docs" / "notebook.ipynb", as_version=4).cells:
        assert str(ROOT) not in str(cell), "a path of this machine is stored"
