"""docs/reference/: each file is what its program writes of today's declarations."""

import ast
import re

import pytest

from docs.reference.generate import FILES, FOLDER, PAGES


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_the_reference_is_current(name: str) -> None:
    expected = FILES[name]()
    assert (FOLDER / name).read_text(encoding="utf-8") == expected, "run python -m docs.reference.generate"


def test_every_row_of_the_reference_has_a_meaning() -> None:
    for name in PAGES.keys() - {"python_api.md"}:
        rows = [line for line in PAGES[name]().splitlines() if line.startswith("| `")]
        assert rows and not [row for row in rows if row.endswith("|  |")]


def test_every_public_member_of_the_python_api_has_a_docstring() -> None:
    page = PAGES["python_api.md"]()
    code = ast.parse("\n".join(re.findall(r"^```python\n([\s\S]*?)^```", page, re.MULTILINE)))
    offered = [node for node in ast.walk(code) if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    assert len(offered) > 15 and all(map(ast.get_docstring, offered))
