"""Read the project's pages: their tables, and the blocks that readers copy (commands, YAML).

Commands may be inside a sentence.
"""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "research").rglob("*.md")),
    ROOT / "data" / "amazon_sample" / "README.md",
]
CONFIGS = sorted(file for folder in ("config", "research") for file in (ROOT / folder).rglob("*.yaml"))

# ``` to ```, or lines that are indented by four blanks, after an empty line.
_CODE = re.compile(r"^```(\w*)\n([\s\S]*?)^```$|(?<=\n\n)((?: {4}.*\n|\n+(?= {4}))+)", re.MULTILINE)
_TABLE = re.compile(r"(?:^\|.*\n)+", re.MULTILINE)
_COMMENTS = re.compile(r"(?:^# {3}.*\n)+", re.MULTILINE)
_SHELL = re.compile(r"(python3?|torchrun|pip|git|cp|ln|mv|cd|wget|curl|env|\.|[A-Z_]+=\S+|\.venv/\S+) ")
_INLINE = re.compile(r"`(python [^`]+)`")
_CONFIG = re.compile(r"`(config/\S+\.yaml)`")


@dataclass(frozen=True)
class Block:
    """Lines that are shown as code.

    Attributes:
        page: file, from the project's folder.
        text: of the block, without its indentation.
        before: the paragraph above it.
        language: of a fence.
    """

    page: str
    text: str
    before: str = ""
    language: str = ""

    def __str__(self) -> str:
        return f"{self.page}: {self.text.splitlines()[0]}"

    @property
    def is_shell(self) -> bool:
        """Return whether its lines are commands."""
        return self.language in ("bash", "sh") or (not self.language and bool(_SHELL.match(self.text)))

    @property
    def commands(self) -> list[str]:
        """Its commands, continued lines joined, without comments."""
        lines = [re.sub(r"\s#\s.*", "", line) for line in self.text.replace("\\\n", " ").splitlines()]
        return [" ".join(command.split()) for line in lines for command in line.split(" && ")]


def blocks(page: Path) -> list[Block]:
    """Return the blocks of a page of Markdown, in order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            str(page.relative_to(ROOT)),
            match[2] if match[3] is None else re.sub("^ {4}", "", match[3].rstrip(), flags=re.MULTILINE),
            text[: match.start()].rstrip().rsplit("\n\n", 1)[-1],
            match[1] or "",
        )
        for match in _CODE.finditer(text)
    ]


def prose(page: Path) -> str:
    """Return a page without its blocks."""
    return _CODE.sub("", page.read_text(encoding="utf-8"))


def tables(text: str) -> list[list[list[str]]]:
    """Return the tables of a text of Markdown, each as rows of cells, the head first."""
    found = [match[0].splitlines() for match in _TABLE.finditer(text)]
    return [
        [[cell.strip(" `*") for cell in line.split("|")[1:-1]] for line in (head, *rows)] for head, _, *rows in found
    ]


def shell_blocks() -> list[Block]:
    """Return commands of pages and of comments in configurations."""
    in_blocks = [block for page in PAGES for block in blocks(page) if block.is_shell]
    in_sentences = [
        Block(str(page.relative_to(ROOT)), command)
        for page in PAGES
        for command in _INLINE.findall(prose(page).replace("\n", " "))
    ]
    in_comments = [
        Block(str(file.relative_to(ROOT)), re.sub("^# +", "", match[0], flags=re.MULTILINE))
        for file in CONFIGS
        for match in _COMMENTS.finditer(file.read_text(encoding="utf-8"))
    ]
    return [block for block in in_blocks + in_sentences + in_comments if block.is_shell]


def config_blocks() -> list[tuple[str, Block]]:
    """Return whole sections of a configuration file, each with the named file.

    The paragraph above the section names it.
    """
    return [
        (named[-1], block)
        for page in PAGES
        for block in blocks(page)
        if not block.is_shell and (named := _CONFIG.findall(block.before))
    ]
