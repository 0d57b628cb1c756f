"""Read YAML safely, with tuples, 1e-3 as a number, and no duplicate keys."""

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.common.files import write_atomic

if TYPE_CHECKING or not yaml.__with_libyaml__:
    from yaml import SafeLoader
else:
    from yaml import CSafeLoader as SafeLoader  # ten times as fast

_MERGE = "tag:yaml.org,2002:merge"
_LARGEST = 1_000_000


class ConfigLoader(SafeLoader):
    """Loader of YAML with `!!python/tuple` (for BARS's files) and 1e-3 as a number.

    It is safe: `yaml.FullLoader`, the zoo's, also builds other Python objects that no configuration needs. A duplicate
    key in a mapping is an error; plain YAML takes the last value.
    """

    def get_single_node(self) -> yaml.Node | None:
        """Return the document before `<<` merges mappings, checked for duplicate keys."""
        node = super().get_single_node()
        left, known = [node], set()
        while left:
            one = left.pop()
            if not isinstance(one, yaml.CollectionNode) or id(one) in known:
                continue
            known.add(id(one))
            if isinstance(one, yaml.MappingNode):
                _check_keys(one)
                left += [part for pair in one.value for part in pair]
            else:
                left += one.value
        return node


def _check_keys(node: yaml.MappingNode) -> None:
    seen: set[str] = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE:
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"{key.value!r} occurs twice", problem_mark=key.start_mark)
            seen.add(key.value)


def _construct_tuple(loader: yaml.SafeLoader, node: yaml.SequenceNode) -> tuple[Any, ...]:
    return tuple(loader.construct_sequence(node, deep=True))


ConfigLoader.add_constructor("tag:yaml.org,2002:python/tuple", _construct_tuple)
# YAML 1.1 reads 1e-3 (no point) and 1.5e3 (no sign) as text. Quoted text stays text.
_EXPONENT = "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d[\d_]*\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
ConfigLoader.add_implicit_resolver(*_EXPONENT)


class ConfigDumper(yaml.SafeDumper):
    """Writes what `ConfigLoader` reads."""

    def ignore_aliases(self, data: Any) -> bool:
        """Return True: values are written out instead of as aliases."""
        return True


ConfigDumper.add_implicit_resolver(*_EXPONENT)  # which quotes text that would be read as a number
ConfigDumper.add_representer(
    tuple, lambda dumper, value: dumper.represent_sequence("tag:yaml.org,2002:python/tuple", value)
)


def read_yaml(file: Path) -> dict[str, Any]:
    """Return the content of a YAML file that maps names to settings.

    Raises:
        UserError: it cannot be read, or has another form.
    """
    try:
        content = parse_yaml(file.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise UserError(f"{file} is not readable YAML: {' '.join(str(error).split())}") from error
    if content is not None and not isinstance(content, dict):
        raise UserError(f"{file} must map names to settings, but holds a {type(content).__name__}")
    return {str(name): section for name, section in (content or {}).items()}


def parse_yaml(text: str) -> Any:
    """Return the content of a configuration's YAML.

    Raises:
        ValueError: it is broken, nested too deeply, or its aliases refer to themselves or expand to too many values.
    """
    try:
        content = yaml.load(text, Loader=ConfigLoader)
        size = _size(content, {})
    except (yaml.YAMLError, RecursionError) as error:
        # the first is Python's error, the second libyaml's
        is_deep = isinstance(error, RecursionError) or "nesting depth" in str(error)
        raise ValueError("it is nested too deeply" if is_deep else str(error)) from error
    if size > _LARGEST:
        raise ValueError(f"its aliases expand to {size:.2g} values")
    return content


def _size(content: Any, sizes: dict[int, float]) -> float:
    """Return the number of values, with aliases expanded; infinite if recursive."""
    parts = [*content.keys(), *content.values()] if isinstance(content, dict) else content
    if not isinstance(parts, (list, tuple)):
        return 1
    if id(content) not in sizes:
        sizes[id(content)] = math.inf
        sizes[id(content)] = 1 + sum(_size(part, sizes) for part in parts)
    return sizes[id(content)]


def write_config(file: Path, content: dict[str, Any]) -> None:
    """Write experiments or data set entries by their ids."""
    text = yaml.dump(content, Dumper=ConfigDumper, default_flow_style=None, indent=4, sort_keys=False)
    write_atomic(file, lambda output: output.write(text.encode()))
