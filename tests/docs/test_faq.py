"""docs/faq.md quotes messages that the program has."""

import ast

import pytest
from pages import ROOT, blocks

PAGE = ROOT / "docs" / "faq.md"
MESSAGES = [line for block in blocks(PAGE) if block.language == "text" for line in block.text.splitlines()]


@pytest.fixture(scope="module")
def texts() -> str:
    """Return every text of the source, one per line, with joined f-strings."""
    files = [file for folder in ("dien_fuxictr", "model_zoo") for file in (ROOT / folder).rglob("*.py")]
    nodes = [node for file in files for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))]
    return "\n".join(node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str))


@pytest.mark.parametrize("message", MESSAGES)
def test_the_program_has_the_message(message: str, texts: str) -> None:
    parts = [part.strip() for part in message.split("…")]
    assert [part for part in parts if len(part) > 3 or part == "="], message
    assert not [part for part in parts if part not in texts]


def test_there_are_twenty_questions() -> None:
    assert sum(line.startswith("### ") for line in PAGE.read_text(encoding="utf-8").splitlines()) == 20
