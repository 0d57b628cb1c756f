"""Bundle: everything that serving a model needs, in one folder.

It needs no data set and no training, and no code runs when it is read.

manifest.json         the digest of every other file, and of them together
about.json            experiment id, metrics of training, versions
config.yaml           the experiment's keys, without paths
weights.safetensors   weights that scoring needs, without those of training only, such as a booster
feature_map.json      of the data set, with feature_vocab.json and pretrained embeddings if it has them
encoder.json          vocabularies and normalisers, with encoded/layout.json: which sequences are aligned
examples.json         requests of users of the test set
titles.json           titles of their items, if the raw metadata have titles
golden.json           requests with the scores that they had when the bundle was written; not in older bundles
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from math import isfinite
from pathlib import Path
from typing import Any

from fuxictr.pytorch.models import BaseModel
from torch import nn

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.common.key_types import Contract, described, must
from dien_fuxictr.common.optional_packages import needed
from dien_fuxictr.common.suggestions import require_name
from dien_fuxictr.dataset.encoding.encoder import FILES, PARAMS, Encoder
from dien_fuxictr.dataset.encoding.fit import check_fit
from dien_fuxictr.experiment.configuration.changed_keys import with_current_keys
from dien_fuxictr.experiment.configuration.yaml_files import read_yaml
from dien_fuxictr.experiment.contract import check_configuration
from dien_fuxictr.experiment.models import build_model, find_model, load_feature_map
from dien_fuxictr.experiment.training import checkpoint

from .item_sides import Catalogue, side_columns
from .manifest import Manifest, read_manifest

ABOUT, CONFIG, WEIGHTS = "about.json", "config.yaml", "weights.safetensors"
CATALOGUE, EXAMPLES, TITLES, GOLDEN = "catalogue.json", "examples.json", "titles.json", "golden.json"
FEATURE_MAP, FEATURE_VOCAB = "feature_map.json", "feature_vocab.json"
NO_KEYS = (
    *("zoo", "booster_checkpoint", "data_root", "model_root", "gpu", "build", "raw_from", "feature_cols", "label_col"),
    *("feature_config", "train_data", "valid_data", "test_data"),
)
"""Keys of an experiment that name code, or a place outside of a bundle."""
_FILES = {ABOUT, CONFIG, WEIGHTS, CATALOGUE, EXAMPLES, TITLES, GOLDEN, FEATURE_MAP, FEATURE_VOCAB, *FILES}
INSTALL = 'pip install "uvicorn[standard]" orjson prometheus-client safetensors'
"""Command that installs the packages that only serving needs."""
MOST_GOLDEN, MOST_SCORES = 100, 1000
"""Golden requests of a bundle, and scores of each: replaying them delays a start and every reload."""


def _are_golden(requests: list[dict[str, Any]]) -> bool:
    return len(requests) <= MOST_GOLDEN and all(
        request.keys() == {"request", "scores"}
        and isinstance(scores := request["scores"], list)
        and len(scores) <= MOST_SCORES
        and all(type(score) in (int, float) and isfinite(score) for score in scores)
        for request in requests
    )


_GOLDEN = described(
    list[dict[str, Any]],
    f"a list of at most {MOST_GOLDEN}, each a mapping of request and scores: at most {MOST_SCORES} finite numbers",
    must(_are_golden),
)
_ABOUT = Contract(
    {
        "expid": [str],
        "metrics": [dict[str, float]],
        "trained": [described(str, "a date and time, as 2026-11-29T08:30:00+00:00", must(datetime.fromisoformat))],
        "versions": [dict[str, str]],
        "leaking_columns": [list[str]],
    },
    ("expid", "metrics", "versions"),
)
_CONTENTS = Contract(
    {
        ABOUT: [dict[str, Any]],
        EXAMPLES: [list[dict[str, dict[str, Any]]]],
        TITLES: [dict[str, str]],
        GOLDEN: [_GOLDEN],
    },
)


@dataclass(frozen=True)
class Bundle:
    """A model with what makes its inputs.

    Attributes:
        folder: that it was read from.
        model: in evaluation mode.
        encoder: encoder of raw values.
        params: settings of the experiment, without paths.
        manifest: the digests of all files.
        expid: the experiment id.
        metrics: metrics of training, where they are known.
        trained: when the weights were written, as ISO 8601; empty where that is unknown.
        leaking: columns that leak the label (see `_warn_of_leaks`); None of an older bundle, which does not say.
        versions: versions of the packages that made it.
        catalogue: side fields of items.
        examples: requests of users of the test set.
        titles: item -> title, of items in the examples.
        golden: `request` and `scores`, of each; none of an older bundle.
    """

    folder: Path
    model: BaseModel
    encoder: Encoder
    params: dict[str, Any]
    manifest: Manifest
    expid: str
    metrics: dict[str, float]
    trained: str
    leaking: list[str] | None
    versions: dict[str, str]
    catalogue: Catalogue
    examples: list[dict[str, Any]]
    titles: dict[str, str]
    golden: list[dict[str, Any]]

    @property
    def digest(self) -> str:
        """Return the digest of all files."""
        return self.manifest.digest


class BundleLoader:
    """Opens the bundle of a folder, and whatever bundle is there later.

    Args:
        folder, gpu: as of `open_bundle`.
    """

    def __init__(self, folder: str | Path, gpu: int = -1) -> None:
        self._folder, self._gpu = folder, gpu
        self._last: Bundle | None = None

    def __call__(self) -> Bundle:
        """Return the current bundle; raises as `open_bundle`."""
        self._last = open_bundle(self._folder, self._gpu, self._last)
        return self._last


def open_bundle(folder: str | Path, gpu: int = -1, earlier: Bundle | None = None) -> Bundle:
    """Read a bundle; its golden requests are not replayed (see `golden.check`).

    Args:
        folder: the bundle; a symlink to it is followed once.
        gpu: index of the GPU, -1 for the CPU.
        earlier: another bundle; equal vocabularies and catalogue are taken from it instead of read again.

    Raises:
        UserError: a file is missing or was changed, or the parts are inconsistent.
    """
    folder = Path(folder).resolve()
    bundle = read_bundle(folder, read_manifest(folder), gpu, earlier)
    _warn_of_leaks(bundle)
    return bundle


def read_bundle(folder: Path, manifest: Manifest, gpu: int = -1, earlier: Bundle | None = None) -> Bundle:
    """Read a bundle whose manifest has been read; as `open_bundle`, without warnings."""
    with fitting(str(folder)):
        return _open(folder, manifest, gpu, earlier)


@contextmanager
def fitting(bundle: str) -> Iterator[None]:
    """Turn errors of reading a bundle's parts into a UserError that names the bundle."""
    try:
        yield
    except (LookupError, TypeError, AttributeError, ValueError, OSError, AssertionError, RecursionError) as error:
        if isinstance(error, UserError):
            raise
        reason = " ".join(str(error).split())
        raise UserError(f"bundle {bundle} is inconsistent: {type(error).__name__}: {reason}") from error


def _open(folder: Path, manifest: Manifest, gpu: int, earlier: Bundle | None) -> Bundle:
    with needed("serving", INSTALL):
        import orjson
        from safetensors import SafetensorError
        from safetensors.torch import load

    def content(name: str) -> Any:
        try:
            read = orjson.loads((folder / name).read_bytes())
        except orjson.JSONDecodeError as error:
            raise UserError(f"bundle {folder}: {name} is not JSON: {error}") from error
        return _CONTENTS.checked(name, read, f"bundle {folder}")

    about, examples, titles = map(content, (ABOUT, EXAMPLES, TITLES))
    golden = content(GOLDEN) if GOLDEN in manifest.files else []
    _ABOUT.check(about, lambda key: f"{ABOUT} of bundle {folder}")
    params = with_current_keys(read_yaml(folder / CONFIG))
    if names := [key for key in NO_KEYS if params.get(key) is not None]:
        raise UserError(
            f"bundle {folder}: {names[0]} = {params[names[0]]!r} in {CONFIG} is refused: a bundle must not "
            "name code or places"
        )
    here = {"data_root": str(folder), "model_root": str(folder), "gpu": gpu, "verbose": 0}
    params |= here
    check_configuration(params, lambda key: str(folder / CONFIG))
    for key in ("dataset_id", "model_id"):
        require_name(f"{key} of {folder / CONFIG}", params[key])
    feature_map = load_feature_map(params, folder)
    pretrained = {spec["pretrained_emb"] for spec in feature_map.features.values() if "pretrained_emb" in spec}
    if further := sorted(manifest.files.keys() - _FILES - pretrained):
        raise UserError(f"bundle {folder} holds {further[0]}, which its model does not read; remove the file")
    if elsewhere := sorted(pretrained - manifest.files.keys()):
        raise UserError(f"bundle {folder}: pretrained_emb = {elsewhere[0]!r} is not a file of the bundle")
    if earlier and _same(manifest, earlier, *FILES) and all(earlier.params.get(x) == params.get(x) for x in PARAMS):
        encoder = earlier.encoder
    else:
        encoder = Encoder.load(folder, params)
    if earlier and _same(manifest, earlier, CATALOGUE):
        catalogue = earlier.catalogue
    else:
        catalogue = Catalogue.of(orjson.loads((folder / CATALOGUE).read_bytes()), f"{CATALOGUE} of bundle {folder}")
    check_fit(encoder, feature_map, f"bundle {folder}")
    model = build_model(find_model(params["model"]), feature_map, params)
    try:
        weights = load((folder / WEIGHTS).read_bytes())
    except SafetensorError as error:
        raise UserError(f"bundle {folder}: {WEIGHTS} is not readable: {error}") from error
    names = distinct_weights(model)
    others = {name: value for name, value in weights.items() if name not in names.values()}
    own = {name: weights[kept] for name, kept in names.items() if kept in weights}
    checkpoint.fit_weights(model, {**own, **others}, folder / WEIGHTS)
    model.eval()
    kept = {key: value for key, value in params.items() if key not in here}
    return Bundle(
        folder=folder,
        model=model,
        encoder=encoder,
        params=kept,
        manifest=manifest,
        expid=about["expid"],
        metrics=about["metrics"],
        trained=about.get("trained", ""),
        leaking=about.get("leaking_columns"),
        versions=about["versions"],
        catalogue=catalogue,
        examples=examples,
        titles=titles,
        golden=golden,
    )


def _warn_of_leaks(bundle: Bundle) -> None:
    """Warn of side columns in which sampled negatives had another user's value.

    An older bundle does not store them.
    """
    if bundle.leaking:
        logging.warning(
            f"bundle {bundle.folder}: the label leaked in training, as negatives had another user's "
            f"{', '.join(bundle.leaking)}; build the samples again, train and publish"
        )
    columns, known = side_columns(bundle.encoder, bundle.model.feature_map.features), bundle.catalogue.fields
    several = [side for _, _, side, _ in columns if side not in known]
    if bundle.leaking is None and several:
        logging.warning(
            f"bundle {bundle.folder} comes from an older version, and items have several values of "
            f"{', '.join(several)}: "
            "if negatives were sampled, the label leaked in training; build the samples again, train and publish"
        )


def _same(manifest: Manifest, earlier: Bundle, *names: str) -> bool:
    return all(manifest.files[name] == earlier.manifest.files[name] for name in names)


def distinct_weights(model: nn.Module) -> dict[str, str]:
    """Return the name of each weight -> the first name of its tensor.

    Features that share an embedding have one tensor.
    """
    first: dict[tuple[int, tuple[int, ...]], str] = {}
    return {
        name: first.setdefault((value.data_ptr(), tuple(value.shape)), name) if value.numel() else name
        for name, value in model.state_dict().items()
    }
