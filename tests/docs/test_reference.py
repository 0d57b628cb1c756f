"""docs/reference/: each page is what its program writes of today's declarations."""

import pytest

from docs.reference.generate import FOLDER, PAGES


@pytest.mark.parametrize("name", PAGES)
def test_a_page_of_the_reference_is_current(name: str) -> None:
    expected = PAGES[name]()
    assert (FOLDER / name).read_text(encoding="utf-8") == expected, "run python -m docs.reference.generate"


def test_every_row_of_the_reference_has_a_meaning() -> None:
    for page in PAGES.values():
        rows = [line for line in page().splitlines() if line.startswith("| `")]
        assert rows and not [row for row in rows if row.endswith("|  |")]
