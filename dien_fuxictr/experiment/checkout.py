"""Models of a FuxiCTR checkout: their places, experiments and classes.

A class is imported by the path of its `src` folder. The checkout's root is never added to `sys.path`, where its
`fuxictr` would shadow the installed one.
"""

import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

from fuxictr.pytorch.models import BaseModel

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.common.suggestions import nearest

from .configuration.config import merge_model
from .configuration.yaml_files import read_yaml

_CLASS = re.compile(r"^class (\w+)\((BaseModel|MultiTaskModel)\)", re.MULTILINE)


class Checkout:
    """The PyTorch models below `model_zoo/` of a checkout.

    Args:
        path: its root.

    Raises:
        UserError: no such folder, or no models in it.

    Attributes:
        sources: class name -> `src` folder that defines it.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_dir():
            raise UserError(f"FuxiCTR checkout {path} does not exist; it must be a folder with model_zoo/")
        self.path = path.resolve()
        self.sources: dict[str, Path] = {}
        self._multi_task: set[str] = set()
        folders = [*self.path.glob("model_zoo/*/src"), *self.path.glob("model_zoo/*/*/src")]
        for source in sorted(folder for folder in folders if not folder.parent.name.endswith("_tf")):
            for file in sorted(source.glob("*.py")):
                for name, base in _CLASS.findall(file.read_text(encoding="utf-8")):
                    if base == "BaseModel":
                        self.sources[name] = source
                    else:
                        self._multi_task.add(name)
        if not self.sources:
            raise UserError(f"{path} is not a FuxiCTR checkout: its model_zoo/ has no model")

    def source(self, name: str) -> Path:
        """Return the `src` folder of a model.

        Raises:
            UserError: the model is unknown (the message has the nearest names), or has several tasks.
        """
        if name in self._multi_task:
            raise UserError(
                f"model {name!r} of {self.path} has several tasks; only models with one task can be trained"
            )
        if name not in self.sources:
            hint = nearest(name, self.sources)
            listed = f"nearest: {', '.join(hint)}" if hint else f"known: {', '.join(sorted(self.sources))}"
            raise UserError(f"{self.path} has no model {name!r}; {listed}")
        return self.sources[name]

    def model_class(self, name: str) -> type[BaseModel]:
        """Return the class of a model.

        Raises:
            UserError: as `source`, or the class cannot be imported.
        """
        source = self.source(name)
        # The name contains the path, so that models of two checkouts do not collide in sys.modules.
        package = re.sub(r"\W", "_", str(source))
        try:
            return getattr(sys.modules.get(package) or _import_package(package, source), name)
        except Exception as error:  # the checkout's code may raise any error
            raise UserError(
                f"model {name!r} cannot be imported from {source}: {type(error).__name__}: {error}"
            ) from error

    def entry(self, name: str) -> dict[str, Any]:
        """Return the merged experiment `<name>_default`, or the first one of the model.

        The result is empty if the model has none.
        """
        folder = self.source(name).parent / "config"
        file = folder / "model_config.yaml"
        if not file.is_file():
            return {}
        content = read_yaml(file)
        own = [expid for expid, entry in content.items() if isinstance(entry, dict) and entry.get("model") == name]
        default = f"{name}_default"
        if not own:
            return {}
        return merge_model({file: content}, folder, default if default in own else own[0]).params


def _import_package(name: str, folder: Path) -> Any:
    spec = importlib.util.spec_from_file_location(
        name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
