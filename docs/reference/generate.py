"""Write the pages of the reference: `python -m docs.reference.generate`.

They are generated from the declarations of keys, options and endpoints, and from docstrings.
"""

import argparse
import ast
import contextlib
import inspect
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints
from unittest import mock

import torch
from fuxictr.pytorch.models import BaseModel

from dien_fuxictr.common import key_types
from dien_fuxictr.common.key_types import allowed
from dien_fuxictr.dataset import audit
from dien_fuxictr.dataset.encoding.schema import KEYS
from dien_fuxictr.dataset.loading.entry import ENTRY, DatasetEntry
from dien_fuxictr.experiment import build_dataset, cli
from dien_fuxictr.experiment.configuration.training_options import TRAINING, TrainingOptions
from dien_fuxictr.experiment.evaluation.evaluate import Evaluation
from dien_fuxictr.experiment.experiment import Experiment, open_experiment
from dien_fuxictr.experiment.models import find_model, own_models
from dien_fuxictr.experiment.prepared_data import PreparedData
from dien_fuxictr.experiment.trained_model import TrainedModel
from dien_fuxictr.serving import cli as serving
from dien_fuxictr.serving.app import ENDPOINTS
from dien_fuxictr.serving.bundle import open_bundle
from dien_fuxictr.serving.examples import users_of_test
from dien_fuxictr.serving.model_service import ModelService
from dien_fuxictr.serving.openapi import openapi_document
from dien_fuxictr.serving.request import Limits
from dien_fuxictr.serving.server_metrics import Metrics
from dien_fuxictr.serving.write import write_bundle
from dien_fuxictr.studies.comparison import cli as comparison
from dien_fuxictr.studies.evolution import cli as evolution
from dien_fuxictr.studies.sweep import cli as sweep
from model_zoo.DIEN.src.validation import Help

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]
HELP = (Help, key_types.Help)  # the model's folder has its own
NOTE = "<!-- python -m docs.reference.generate writes this page; edit the declarations instead. -->"
COMMANDS: tuple[Callable[[list[str]], object], ...] = (
    cli.parse_arguments,
    build_dataset.main,
    audit.main,
    comparison.parse_arguments,
    sweep.parse_arguments,
    serving.parse_arguments,
    evolution.parse_arguments,
)


class _Parsed(BaseException):
    """Carries the parser of a command."""


def keywords() -> str:
    """Return the page of the keywords of training and of every model."""
    training = [(each.name, TRAINING[each.name], _given(each)) for each in fields(TrainingOptions)]
    lines = [
        "# Keywords",
        NOTE,
        "Keys of an experiment in `config/model_config/`, and of `--set KEY=VALUE`. Numbers in brackets are equations "
        "of the paper. [The model](model.md) and [training](../guides/training.md) explain more.",
        "## Training, evaluation and batches",
        "Every model has these keys.",
        _table(training),
    ]
    models = ["DIEN", *(name for name in own_models() if name != "DIEN")]
    for name in models:
        lines += [f"## {name}", _first_sentence(find_model(name)), _table(_of_model(find_model(name)))]
    return "\n\n".join(lines) + "\n"


def data_sets() -> str:
    """Return the page of the keys of a data set's entry."""
    keys = [(each.name, ENTRY[each.name], _given(each)) for each in fields(DatasetEntry) if each.name in ENTRY]
    lines = [
        "# Keys of a data set",
        NOTE,
        "Keys of a data set in `config/dataset_config/`. Those of its columns are [another page](feature_cols.md), the "
        "options of `build` those of [`build_dataset.py`](command_lines.md), with `_` instead of `-`. "
        "[Data](../guides/data.md) has examples.",
        _table(keys),
    ]
    return "\n\n".join(lines) + "\n"


def feature_cols() -> str:
    """Return the page of the keys of columns."""
    rows = ((key, allowed(declared.kind), declared.help) for key, declared in KEYS.items())
    lines = [
        "# Keys of `feature_cols`",
        NOTE,
        "Keys of the columns of a data set in `config/dataset_config/`; `label_col` and an experiment's "
        "`feature_specs` have them, too. `feature_encoder` and `embedding_initializer` name a layer and an initializer "
        "like `layers.MaskedSumPooling()`. [Data](../guides/data.md) has examples.",
        _rows(("key", "values", "meaning"), rows),
    ]
    return "\n\n".join(lines) + "\n"


def command_lines() -> str:
    """Return the page of the options of every command."""
    lines = [
        "# Command lines",
        NOTE,
        "Options of the commands, as `--help` shows them; `--version` prints the version. Options of "
        "`build_dataset.py` are keys of a data set's `build` section, too, with `_` instead of `-`.",
    ]
    for command in COMMANDS:
        lines += _sections(_parser(command))
    return "\n\n".join(lines) + "\n"


def python_api() -> str:
    """Return the page of the Python API, with docstrings."""
    lines = [
        "# Python API",
        NOTE,
        "`dien_fuxictr.open_experiment` is the way in; the other classes are what its methods return. "
        "[A notebook](../notebook.ipynb) uses them from the data to pictures.",
    ]
    for offered in (open_experiment, Experiment, PreparedData, TrainedModel, Evaluation):
        lines += [f"## {offered.__name__}", f"```python\n{_stub(offered)}```"]
    return "\n\n".join(lines) + "\n"


def openapi() -> str:
    """Return the OpenAPI document of a server with the sample's model.

    It does not contain weights.
    """
    with tempfile.TemporaryDirectory() as made, _in_root():
        overrides = {"data_root": made, "model_root": made, "verbose": 0}
        experiment = open_experiment("DIEN_amazon", ROOT / "config", overrides=overrides)
        with contextlib.redirect_stdout(None):
            experiment.prepare()
        torch.save(experiment.model.state_dict(), experiment.checkpoint)
        write_bundle(experiment, Path(made, "bundle"), users_of_test(experiment, 1))
        service = ModelService(bundle=open_bundle(Path(made, "bundle")), limits=Limits(), metrics=Metrics())
        return json.dumps(openapi_document(ENDPOINTS, service), indent=1) + "\n"


PAGES = {
    "keywords.md": keywords,
    "data_sets.md": data_sets,
    "feature_cols.md": feature_cols,
    "command_lines.md": command_lines,
    "python_api.md": python_api,
}
FILES = {**PAGES, "openapi.json": openapi}


@contextlib.contextmanager
def _in_root() -> Iterator[None]:
    """Work in the repository, whose sample is read wherever the command is called."""
    called = Path.cwd()
    os.chdir(ROOT)
    try:
        yield
    finally:
        os.chdir(called)


def _stub(offered: Any) -> str:
    """Return a function, or a class with its public members, as a stub.

    The stub has declarations with docstrings.
    """
    tree = ast.parse(inspect.getsource(offered))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            del node.body[1:]
        elif isinstance(node, ast.ClassDef):
            node.body = [each for each in node.body if not getattr(each, "name", "").startswith("_")]
    command = [sys.executable, "-m", "ruff", "format", "--stdin-filename", __file__, "-"]
    return subprocess.run(command, input=ast.unparse(tree), capture_output=True, text=True, check=True).stdout


def _of_model(model: type[BaseModel]) -> list[tuple[str, Any, Any]]:
    """Return the keywords of a model that `TrainingOptions` lacks.

    Each is a tuple of name, type and default.
    """
    found: dict[str, tuple[str, Any, Any]] = {}
    for cls in model.__mro__:
        if cls is BaseModel:
            break
        if "__init__" not in vars(cls):
            continue
        hints = get_type_hints(vars(cls)["__init__"], include_extras=True)
        for name, parameter in inspect.signature(vars(cls)["__init__"]).parameters.items():
            if _help(hints.get(name)) and name not in ("model_id", "gpu"):
                found.setdefault(name, (name, hints[name], parameter.default))
    return [*found.values()]


def _first_sentence(model: type) -> str:
    return (model.__doc__ or "").strip().splitlines()[0]


def _table(keys: Iterable[tuple[str, Any, Any]]) -> str:
    rows = ((name, allowed(kind), _default(default), _help(kind)) for name, kind, default in keys)
    return _rows(("key", "values", "default", "meaning"), rows)


def _given(field: Field[Any]) -> Any:
    """Return the default of a field."""
    return "required" if field.default is MISSING else field.default


def _default(value: Any) -> str:
    return value if value == "required" else "null" if value is None else f"`{value}`"


def _help(kind: Any) -> str:
    """Return the help in a type or in one of its parts."""
    if isinstance(kind, HELP):
        return kind.text
    parts = reversed(get_args(kind)) if get_origin(kind) is Annotated else get_args(kind)  # its own help comes first
    return next((text for part in parts if (text := _help(part))), "")


def _parser(command: Callable[[list[str]], object]) -> argparse.ArgumentParser:
    def stop(parser: argparse.ArgumentParser, *_: object, **__: object) -> None:
        raise _Parsed(parser)

    with mock.patch.object(argparse.ArgumentParser, "parse_args", stop):
        try:
            command([])
        except _Parsed as parsed:
            return parsed.args[0]
    raise AssertionError(f"{command} parses nothing")


def _sections(parser: argparse.ArgumentParser) -> list[str]:
    """Return heading, description and options of a command and its subcommands."""
    own = [action for action in parser._actions if not isinstance(action, argparse._SubParsersAction)]
    commands = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    lines = [f"## {parser.prog}", _plain(parser.description or "")]
    helps = {action: _plain((action.help or "") % {**vars(action), "prog": parser.prog}) for action in own}
    if rows := [(_flags(action), text) for action, text in helps.items() if action.dest not in ("help", "version")]:
        lines.append(_rows(("option", "meaning"), rows))
    if parser.epilog and not commands:
        lines.append("```text\n" + parser.epilog.replace("%(prog)s", parser.prog).strip("\n") + "\n```")
    for action in commands:
        for sub in action.choices.values():
            lines += _sections(sub)
    return lines


def _flags(action: argparse.Action) -> str:
    named = ", ".join(action.option_strings) or str(action.metavar or action.dest)
    if action.nargs == 0:
        return named
    if action.choices is not None:
        value = "|".join(map(str, action.choices))
    elif isinstance(action.metavar, tuple):
        value = " ".join(action.metavar)
    else:
        value = str(action.metavar or action.dest.upper())
    return f"{named} {value}" if action.option_strings else named


def _plain(text: str) -> str:
    return " ".join(text.split())


def _rows(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Return a table whose first column is code."""
    lines = [" | ".join(head), " | ".join("---" for _ in head)]
    lines += [" | ".join(_cell(text, is_code=not number) for number, text in enumerate(row)) for row in rows]
    return "\n".join(f"| {line} |" for line in lines)


def _cell(text: str, is_code: bool) -> str:
    text = text.replace("|", "\\|")
    return f"`{text}`" if is_code else text


if __name__ == "__main__":
    argparse.ArgumentParser(prog="python -m docs.reference.generate", description=__doc__).parse_args()
    for name, page in FILES.items():
        (FOLDER / name).write_text(page(), encoding="utf-8")
