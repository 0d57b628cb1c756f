"""Check text of a configuration that the zoo evaluates as Python.

Only text that builds a layer or an initialiser is accepted. The zoo calls `eval` on `feature_encoder`, on
`embedding_initializer` and, in its own build, on a column's `dtype`, which must be one of three names
(`dataset.encoding.schema`).
"""

import ast
import inspect
from collections.abc import Callable, Iterable
from typing import Any

from fuxictr.pytorch import layers
from torch import nn

from dien_fuxictr.common.errors import UserError

ENCODERS = "layers.NAME(...) or nn.NAME(...), a layer of fuxictr.pytorch.layers or torch.nn with plain arguments"
INITIALIZERS = "nn.init.NAME or partial(nn.init.NAME, ...) with plain arguments"


_OF_EMBEDDINGS = {"feature_map", "embedding_initializer"}
"""Parameters of layers that do not encode one feature; the zoo itself evaluates the text of encoders of one feature."""


def check_expressions(params: dict[str, Any], where: Callable[[str], str]) -> None:
    """Check all text in a merged configuration that the zoo evaluates.

    Args:
        params: settings of an experiment, as they were read.
        where: key -> the file and section it comes from.

    Raises:
        UserError: text that is neither a layer nor an initialiser.
    """
    for key, value in params.items():
        if key in ("feature_cols", "feature_specs", "label_col"):
            columns = value if isinstance(value, list) else [value]
            check_features([column for column in columns if isinstance(column, dict)], f"{key} in {where(key)}")
        elif str(key).endswith("initializer"):
            check_initializer(value, f"{key} in {where(key)}")


def check_features(columns: Iterable[dict[str, Any]], where: str) -> None:
    """Check `feature_encoder` and `embedding_initializer` of features.

    Raises:
        UserError: one that is not allowed.
    """
    for column in columns:
        name = f"{column.get('name')!r} of {where}"
        encoder = column.get("feature_encoder")
        for text in encoder if isinstance(encoder, list) else [encoder]:
            if text is not None and not (isinstance(text, str) and _is_layer(text)):
                raise UserError(f"feature_encoder = {text!r} of {name} must be null, {ENCODERS}, or a list of them")
        for key in column:
            if str(key).endswith("initializer"):
                check_initializer(column[key], f"{key} of {name}")


def check_initializer(text: Any, what: str) -> None:
    """Raise UserError unless the text is None or an initialiser of torch."""
    if text is not None and not (isinstance(text, str) and _is_initializer(text)):
        raise UserError(f"{what} = {text!r} must be {INITIALIZERS}")


def _is_layer(text: str) -> bool:
    call = _expression(text)
    if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)):
        return False
    module = {"layers": layers, "nn": nn}.get(call.func.value.id) if isinstance(call.func.value, ast.Name) else None
    layer = getattr(module, call.func.attr, None)
    return (
        isinstance(layer, type)
        and issubclass(layer, nn.Module)
        and _OF_EMBEDDINGS.isdisjoint(inspect.signature(layer).parameters)
        and _has_plain_arguments(call)
    )


def _is_initializer(text: str) -> bool:
    expression = _expression(text)
    if not isinstance(expression, ast.Call):
        return _names_initializer(expression)
    is_partial = isinstance(expression.func, ast.Name) and expression.func.id == "partial"
    first = expression.args[0] if expression.args else None
    plain = ast.Call(func=expression.func, args=expression.args[1:], keywords=expression.keywords)
    return is_partial and _names_initializer(first) and _has_plain_arguments(plain)


def _names_initializer(expression: ast.AST | None) -> bool:
    parts = ast.unparse(expression).split(".") if isinstance(expression, ast.Attribute) else []
    name = parts[-1] if parts[:-1] in (["nn", "init"], ["torch", "nn", "init"]) else ""
    return name.endswith("_") and not name.startswith("_") and callable(getattr(nn.init, name, None))


def _has_plain_arguments(call: ast.Call) -> bool:
    values = [*call.args, *(keyword.value for keyword in call.keywords if keyword.arg)]
    try:
        for value in values:
            ast.literal_eval(value)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return False
    return all(keyword.arg for keyword in call.keywords)


def _expression(text: str) -> ast.AST | None:
    try:
        return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return None
