"""A comparison as one HTML file that needs nothing beside it: the table, sortable, and the pictures."""

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from .table import HEADER, Row, cells

PICTURES = {
    "auc.png": "Test AUC",
    "auc_by_slice.png": "Test AUC by history length and by the item's popularity",
    "learning_curves.png": "Learning curves",
    "calibration.png": "Calibration",
}
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 95rem; padding: 0 1rem; color: #222; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; white-space: nowrap; }
th, td { padding: .35rem .8rem; border-bottom: 1px solid #ddd; text-align: right; }
th:nth-child(2), td:nth-child(2) { text-align: left; }
th button { font: inherit; font-weight: 600; border: 0; background: none; padding: 0; cursor: pointer; }
tr.better td { background: #eaf6ea; } tr.worse td { background: #fbeceb; } tr.base td { font-weight: 600; }
img { max-width: 100%; height: auto; }
figure { margin: 2rem 0; } figcaption { font-weight: 600; }
"""
SCRIPT = """
for (const [column, button] of document.querySelectorAll('th button').entries())
  button.onclick = () => {
    const body = document.querySelector('tbody'), rows = [...body.rows];
    const ascending = button.dataset.order !== 'ascending';
    button.dataset.order = ascending ? 'ascending' : 'descending';
    const key = row => row.cells[column].textContent.replace(/[,%[\\]]/g, '');
    rows.sort((a, b) => {
      const [x, y] = [parseFloat(key(a)), parseFloat(key(b))];
      const order = isNaN(x) || isNaN(y) ? key(a).localeCompare(key(b)) : x - y;
      return ascending ? order : -order;
    });
    body.append(...rows);
  };
"""


def as_html(rows: Sequence[Row], results: dict[str, list[dict[str, Any]]], folder: Path) -> str:
    """The page.

    Args:
        rows: of the table.
        results: expid -> result.json of each of its runs.
        folder: where the pictures are; those that are missing are left out.
    """
    run = next(iter(results.values()))[0]
    versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
    hardware = ", ".join(f"{name} {value}" for name, value in run["hardware"].items() if value)
    head = "".join(f"<th><button>{escape(name)}</button></th>" for name in HEADER)
    body = "\n".join(
        f'<tr class="{row.verdict.split()[0]}">' + "".join(f"<td>{escape(cell)}</td>" for cell in cells(row)) + "</tr>"
        for row in rows
    )
    figures = "\n".join(
        f'<figure><figcaption>{title}</figcaption><img alt="{title}" src="data:image/png;base64,'
        f'{base64.b64encode((folder / name).read_bytes()).decode()}"></figure>'
        for name, title in PICTURES.items()
        if (folder / name).is_file()
    )
    title = f"Comparison on {escape(run['dataset_id'])}"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{STYLE}</style>
</head>
<body>
<h1>{title}</h1>
<p>Test set, mean ± standard deviation over seeds. The interval is that of the AUC minus the base's: a paired bootstrap
over the test users, seeds pooled. A row whose interval holds 0 is not ranked against the base, and rows whose intervals
overlap are not ranked among each other: their places are ranges. Click on a column to sort by it.</p>
<div class="wide"><table>
<thead><tr>{head}</tr></thead>
<tbody>
{body}
</tbody>
</table></div>
{figures}
<p>{escape(versions)}; {escape(hardware)}</p>
<script>{SCRIPT}</script>
</body>
</html>
"""
