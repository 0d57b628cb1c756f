"""docs/tutorial.md, followed step by step: each command runs and prints what the page shows.

The comparison has one seed here instead of three: the others train the same experiments again.
"""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from made_server import ready
from pages import ROOT, Block, blocks, tables

PAGE = ROOT / "docs" / "tutorial.md"
BLOCKS = blocks(PAGE)
SAVED_AS = {block: named[1] for block in BLOCKS if (named := re.search(r"Save .* as `(\S+)`", block.before))}
"""Block -> the file that the page has the reader save it as."""
NOT_RUN = ("python3 -m venv .venv", ". .venv/bin/activate", "pip install -r requirements.txt -r requirements-serve.txt")
SERVES = "python run_serve.py --bundle "
ADDRESS = "http://127.0.0.1:8080"
EXACT = 1e-9
TRAINED = 0.08
"""How far a metric may be from the page: another CPU is as another seed, and this is five of their deviations."""
SCORED = 0.2
"""How far one score may be."""


class Tutorial:
    """The page's steps, done in a folder.

    Attributes:
        printed: command -> what it printed.
        answer: of the server.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.printed: dict[str, str] = {}
        shutil.copytree(ROOT / "config", folder / "config")
        serve = ""
        for block in BLOCKS:
            if block in SAVED_AS:
                (folder / SAVED_AS[block]).write_text(f"{block.text}\n", encoding="utf-8")
            for command in block.commands if block.is_shell else ():
                if command.startswith(SERVES):
                    serve = command
                elif command.startswith("curl "):
                    self._ask(serve, command)
                elif command not in NOT_RUN:
                    self.printed[command] = self._run(command.replace("--seeds 3", "--seeds 1"))

    def _run(self, command: str) -> str:
        program, *arguments = shlex.split(command)
        if program == "cat":
            (name,) = arguments
            return (self.folder / name).read_text(encoding="utf-8")
        assert program == "python", command
        own = arguments[0] in SAVED_AS.values()
        script = (self.folder if own else ROOT) / arguments[0]
        done = subprocess.run(
            [sys.executable, str(script), *arguments[1:]],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=900,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}"
        return done.stdout

    def _ask(self, serve: str, command: str) -> None:
        words = shlex.split(command)
        (url,) = (word for word in words if word.startswith(ADDRESS))
        with ready(self.folder, *shlex.split(serve)[2:]) as server:
            self.printed[serve] = server.line.replace(f":{server.port} ", ":8080 ")
            status, self.answer = server.ask("POST", url.removeprefix(ADDRESS), json.loads(words[-1]))
        assert status == 200, self.answer


@pytest.fixture(scope="module")
def tutorial(tmp_path_factory: pytest.TempPathFactory) -> Tutorial:
    return Tutorial(tmp_path_factory.mktemp("tutorial"))


def shown_outputs() -> list[tuple[str, Block]]:
    """Return each block of output, with the command that prints it."""
    pairs, command = [], ""
    for block in BLOCKS:
        if block.is_shell:
            command = block.commands[-1]
        elif block.language == "text" and block not in SAVED_AS:
            pairs.append((command, block))
    return pairs


def tolerance(command: str) -> float:
    """Return how far a figure that the command prints may be from the page's."""
    if command.startswith("cat "):
        return SCORED
    return TRAINED if command.startswith("python run_") else EXACT


def is_shown(line: str, printed: str, within: float) -> bool:
    """Return whether a line of the page is a printed one, but for blanks and for figures within a tolerance."""
    ours, theirs = (re.split(r"[\s,]+", text.strip()) for text in (line, printed))
    figure = re.compile(r"-?\d*\.\d+")
    return len(ours) == len(theirs) and all(
        abs(float(one) - float(other)) <= within if figure.fullmatch(one) and figure.fullmatch(other) else one == other
        for one, other in zip(ours, theirs, strict=True)
    )


@pytest.mark.parametrize(("command", "block"), shown_outputs(), ids=lambda part: str(part)[:60])
def test_a_command_prints_what_the_page_shows(command: str, block: Block, tutorial: Tutorial) -> None:
    printed = iter(tutorial.printed[command].splitlines())
    for line in block.text.splitlines():
        if line not in ("", "..."):
            assert any(is_shown(line, other, tolerance(command)) for other in printed), line


def rows_below(heading: str) -> list[list[str]]:
    """Return the cells of the first table below a heading, without its head."""
    return tables(PAGE.read_text(encoding="utf-8").split(f"\n## {heading}\n")[1])[0][1:]


def test_the_comparison_is_the_one_shown(tutorial: Tutorial) -> None:
    table = pl.read_csv(tutorial.folder / "comparisons" / "my_clicks" / "table.csv")
    measured = {row["expid"]: row for row in table.iter_rows(named=True)}
    shown = rows_below("6. Compare DIEN with DIN and sum pooling")
    assert {name for name, *_ in shown} == set(measured)
    for name, auc, *_ in shown:
        assert float(auc.split(" ± ")[0]) == pytest.approx(measured[name]["auc"], abs=TRAINED)


def test_the_training_ends_as_shown(tutorial: Tutorial) -> None:
    (line,) = (tutorial.folder / "config.csv").read_text(encoding="utf-8").splitlines()
    measured = re.search(r"\[val\] (.*)\[test\] (.*)", line)
    assert measured
    for (_, *shown), metrics in zip(rows_below("5. Train DIEN"), measured.groups(), strict=True):
        figures = [float(figure) for figure in re.findall(r"\w+: (\d\.\d+)", metrics)]
        assert [float(figure) for figure in shown] == pytest.approx(figures, abs=TRAINED)


def test_dien_is_better_than_din_and_sum_pooling(tutorial: Tutorial) -> None:
    table = pl.read_csv(tutorial.folder / "comparisons" / "my_clicks" / "table.csv")
    auc = dict(table.select("expid", "auc").iter_rows())
    assert auc["DIEN_GRU_my_clicks"] > max(auc["DIN_my_clicks"], auc["EmbeddingMLP_my_clicks"])
    assert dict(table.select("expid", "verdict").iter_rows())["DIN_my_clicks"] == "base"


def test_the_next_category_has_the_highest_score(tutorial: Tutorial) -> None:
    scores = pl.read_csv(tutorial.folder / "scores.csv").filter(pl.col("user_id") == "u0")
    assert scores["item_id"][int(scores["score"].arg_max() or 0)] == "i70"
    assert max(tutorial.answer["scores"]) == tutorial.answer["scores"][0]


def test_the_answer_is_the_one_shown(tutorial: Tutorial) -> None:
    (block,) = (block for block in BLOCKS if block.language == "json")
    shown = json.loads(block.text)
    assert tutorial.answer.keys() == shown.keys()
    assert tutorial.answer["unknown"] == shown["unknown"]
    assert tutorial.answer["scores"] == pytest.approx(shown["scores"], abs=SCORED)


def test_prediction_and_server_agree(tutorial: Tutorial) -> None:
    """The request has the candidates and the history of the rows that were scored from files."""
    scores = pl.read_csv(tutorial.folder / "scores.csv").filter(pl.col("user_id") == "u0")
    assert tutorial.answer["scores"][: scores.height] == pytest.approx(scores["score"].to_list(), abs=1e-4)


def test_every_block_of_the_page_is_tried() -> None:
    assert list(SAVED_AS.values()) == ["write_log.py", "candidates.csv"]
    assert all(block.is_shell or block in SAVED_AS or block.language in ("text", "json") for block in BLOCKS)
    assert set(NOT_RUN) <= {command for block in BLOCKS if block.is_shell for command in block.commands}
