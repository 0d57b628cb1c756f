import base64
from html.parser import HTMLParser
from pathlib import Path

import numpy as np

from dien_fuxictr.studies.comparison.page import as_html
from dien_fuxictr.studies.comparison.table import HEADER, cells, make_rows


class Page(HTMLParser):
    """Texts of the table's cells, images, and tags that are still open at the end."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.cells: list[str] = []
        self.images: list[str] = []
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value for name, value in attrs if name in ("href", "src") and value]
        if tag == "img":
            self.images.append(dict(attrs)["src"] or "")
        elif tag != "meta":
            self.open.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] == ["td"] or self.open[-2:] == ["th", "button"]:
            self.cells[-1] += data


def test_the_page_stands_alone(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    label = np.tile([1.0, 0.0], 50)
    run = {
        "test": {"AUC": 0.7},
        "parameters": 1,
        "epochs": 1,
        "train_seconds": 1.0,
        "train_rows": 1,
        "inference_ms": 1.0,
        "dataset_id": "<b>",
        "versions": {"torch": "2"},
        "hardware": {"cpus": 2},
    }
    names = ["a & b", "<script>"]
    results = {name: [run] for name in names}
    rows = make_rows(results, {name: [{"label": label, "score": rng.random(100)}] for name in names}, names[0])
    (tmp_path / "auc.png").write_bytes(b"picture")
    page = Page(as_html(rows, results, tmp_path))
    assert page.open == []
    assert page.cells == [*HEADER, *cells(rows[0]), *cells(rows[1])]
    assert page.images == [f"data:image/png;base64,{base64.b64encode(b'picture').decode()}"] == page.links
