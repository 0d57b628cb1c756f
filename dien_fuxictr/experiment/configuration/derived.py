"""Derived data sets: other build options, for settings like `build.fold`.

A derived set has its own id and thus its own folder, and is built like any set that is missing.
"""

import re
from pathlib import Path
from typing import Any

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.dataset.samples.build_options import BuildOptions
from dien_fuxictr.dataset.samples.protocols import SPLITS

from .overrides import PREFIX


def build_options(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a build among settings, without their prefix."""
    return {key.removeprefix(PREFIX): value for key, value in settings.items() if key.startswith(PREFIX)}


def derived(params: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """Return the keys that change when the data set is built with other options.

    Args:
        params: the merged configuration.
        options: options of the build. Options that the data set has already, or that are the default, change nothing.

    Returns:
        `dataset_id`, followed by `_OPTION_VALUE` for each different option, sorted; `build`, and the splits that the
        data set names. Empty if none differs.

    Raises:
        UserError: the data set has no build section, or an option or value is not allowed.
    """
    dataset_id, build = params["dataset_id"], params.get("build")
    if not isinstance(build, dict):
        key = f"{PREFIX}{next(iter(options))}"
        raise UserError(f"{key} cannot be set: data set {dataset_id} has no build section")
    before, after = (BuildOptions.of(section).stated() for section in (build, {**build, **options}))
    different = {name: value for name, value in after.items() if name in options and before.get(name) != value}
    if not different:
        return {}
    name = "_".join([dataset_id, *(f"{option}_{as_name(value)}" for option, value in sorted(different.items()))])
    folder = Path(str(params["data_root"]), name, "samples")
    splits = {f"{split}_data": str(folder / f"{split}.{params['data_format']}") for split in SPLITS}
    return {
        "dataset_id": name,
        "build": {**build, **different},
        **{key: path for key, path in splits.items() if params.get(key)},
    }


def as_name(value: Any) -> str:
    """Return a value as part of a file's name."""
    return re.sub(r"[^\w.+-]+", "_", str(value)).strip("_") or "none"
