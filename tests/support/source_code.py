"""Project's modules and their imports, read without importing anything."""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("dien_fuxictr", "model_zoo", "benchmarks", "research")


@dataclass(frozen=True)
class Module:
    """One file.

    Attributes:
        name: what it is imported as; of an `__init__`, the folder's.
        file: below `ROOT`.
    """

    name: str
    file: Path

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse((ROOT / self.file).read_text(encoding="utf-8"))

    @property
    def folder(self) -> str:
        return self.name if self.file.name == "__init__.py" else self.name.rpartition(".")[0]

    @cached_property
    def imports(self) -> set[str]:
        """Return the absolute names that a module imports, also inside functions.

        For `from a import b` it is a.b if that is a module of the project.
        """
        return {name for node in ast.walk(self.tree) for name in self._imported(node)}

    def _imported(self, node: ast.AST) -> Iterator[str]:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = self.folder.split(".")[: len(self.folder.split(".")) + 1 - node.level] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                yield name if is_own(name := f"{source}.{alias.name}") else source

    @property
    def third_party(self) -> set[str]:
        """Top-level names of packages that are neither Python's nor the project's."""
        tops = {name.split(".")[0] for name in self.imports}
        return {top for top in tops if top not in sys.stdlib_module_names and not is_own(top)}


def is_own(name: str) -> bool:
    """Return whether a file or folder of the project has the name.

    Helpers of the tests are imported without `tests`.
    """
    path = Path(*name.split("."))
    return any((root / path).is_dir() or (root / f"{path}.py").is_file() for root in (ROOT, ROOT / "tests" / "support"))


def modules(*folders: str) -> list[Module]:
    """Return all modules below folders; by default packages and scripts."""
    scripts = [] if folders else sorted(ROOT.glob("*.py"))
    found = [file for folder in folders or PACKAGES for file in sorted((ROOT / folder).rglob("*.py"))]
    return [_module(file.relative_to(ROOT)) for file in [*scripts, *found]]


def _module(file: Path) -> Module:
    parts = file.with_suffix("").parts
    return Module(".".join(parts[:-1] if parts[-1] == "__init__" else parts), file)
