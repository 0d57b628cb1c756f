"""One floor a folder: imports go down only, and never in a circle."""

import ast
import re
from graphlib import TopologicalSorter

from source_code import ROOT, modules

FLOORS = [
    {"dien_fuxictr.common"},
    {"dien_fuxictr.dataset.samples"},
    {"dien_fuxictr.dataset.encoding"},
    {"dien_fuxictr.dataset.loading"},
    {"dien_fuxictr.dataset"},
    {"model_zoo"},
    {"dien_fuxictr.experiment.process_group"},
    {"dien_fuxictr.experiment.configuration"},
    {"dien_fuxictr.experiment.evaluation"},
    {"dien_fuxictr.experiment.training"},
    {"dien_fuxictr.experiment"},
    {"dien_fuxictr.distributed.row_shards"},
    {"dien_fuxictr.distributed"},
    {"dien_fuxictr.studies.runs"},
    {"dien_fuxictr.studies.sweep", "dien_fuxictr.studies.comparison", "dien_fuxictr.studies.evolution"},
    {"dien_fuxictr.studies", "dien_fuxictr.serving"},
    {"dien_fuxictr"},
    {"benchmarks", "scripts"},
    {"research"},
]
"""From the ground up. A module imports from its own folder and from lower ones, never from another one beside it.
A module that is named here is a floor by itself."""
BORDER = {
    "dien_fuxictr.experiment.cli": "the command line, which starts several processes",
    "dien_fuxictr.experiment.run_experiment": "the command line, in which they find each other",
    "dien_fuxictr.experiment.experiment": "inside a function: the store of weights for `embedding_sharding: rows`",
}
"""Modules in which `experiment` reaches up to `distributed`; training reaches it by interfaces alone."""
HEIGHT = {folder: height for height, floor in enumerate(FLOORS) for folder in floor}
MODULES = {module.name: module for module in modules()}
DIEN = [module for name, module in MODULES.items() if name.startswith("model_zoo.DIEN.")]


def place(name: str) -> str:
    """Return the folder in `FLOORS` of a module, or the module itself."""
    top = name.split(".")[0]
    if name in HEIGHT:
        return name
    return top if top in ("model_zoo", "benchmarks", "research") else MODULES[name].folder or "scripts"


def _names(node: ast.AST) -> list[str]:
    return [node.module or ""] if isinstance(node, ast.ImportFrom) else []


def test_every_folder_has_its_floor() -> None:
    assert {place(name) for name in MODULES} == HEIGHT.keys()


def test_imports_go_down_only() -> None:
    wrong = [
        f"{module.file} imports {name}"
        for module in MODULES.values()
        for name in module.imports & MODULES.keys()
        if place(name) != place(module.name) and HEIGHT[place(name)] >= HEIGHT[place(module.name)]
        if not (module.name in BORDER and name.startswith("dien_fuxictr.distributed."))
    ]
    assert not wrong


def test_the_product_imports_neither_benchmarks_nor_research() -> None:
    for module in MODULES.values():
        if place(module.name) not in ("benchmarks", "research"):
            assert not {name.split(".")[0] for name in module.imports} & {"benchmarks", "research"}, module.file


def test_experiment_is_imported_without_distributed() -> None:
    """Check the imports at the top of modules, for use from Python."""
    top = {name for node in MODULES["dien_fuxictr.experiment.experiment"].tree.body for name in _names(node)}
    assert any(name.startswith("dien_fuxictr.") for name in top)
    assert not {name for name in top if name.startswith("dien_fuxictr.distributed")}


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {name: module.imports & MODULES.keys() - {name} for name, module in MODULES.items()}
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_model_zoo_imports_nothing_else_of_the_project() -> None:
    """Check imports, and that model_zoo has no `__init__`.

    The zoo's wheel has a `model_zoo`, too, and the two form one namespace.
    """
    assert not (ROOT / "model_zoo" / "__init__.py").exists()
    for name, module in MODULES.items():
        if name.startswith("model_zoo."):
            tops = {imported.split(".")[0] for imported in module.imports}
            assert not tops & {"dien_fuxictr", "benchmarks", "research", "tests"}, module.file


def test_the_package_imports_no_model() -> None:
    """It asks a model what it offers, never which one it is."""
    for module in MODULES.values():
        if module.name.startswith("dien_fuxictr."):
            assert not [name for name in module.imports if re.fullmatch(r"model_zoo\.(\w+)\.src(\.\1)?", name)], (
                module.file
            )


def test_dien_is_a_folder_to_drop_into_a_checkout() -> None:
    """It imports itself alone, and that relatively: in a checkout it is `src`."""
    assert DIEN
    for module in DIEN:
        own = {name for name in module.imports if name.startswith("model_zoo")}
        assert all(name.startswith("model_zoo.DIEN.src.") for name in own), module.file
        assert not re.search(r"(from|import) model_zoo", (ROOT / module.file).read_text(encoding="utf-8")), module.file


def test_layers_and_kernels_import_torch_only() -> None:
    """Exclude fuxictr, whose models import Ray.

    The compiled kernels use filelock, which torch has, too.
    """
    extra = {"cpu": {"filelock"}, "triton": {"triton"}}
    alone = ("layers", "kernels", "attention", "attentional_gru", "auxiliary_loss", "operators")
    layers = [module for module in DIEN if module.name.split(".")[3:4] and module.name.split(".")[3] in alone]
    assert {module.name.split(".")[3] for module in layers} == set(alone)
    for module in layers:
        allowed = {"torch"} | extra.get(module.folder.rpartition(".")[2], set())
        assert module.third_party <= allowed, module.file
