"""A trained experiment -> its bundle, written whole or not at all."""

import json
import shutil
from copy import deepcopy
from pathlib import Path
from typing import Any, cast

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.common.files import digest, folder_beside, replace_folder
from dien_fuxictr.common.optional_packages import needed
from dien_fuxictr.dataset.encoding.encoder import Encoder
from dien_fuxictr.dataset.samples.columns import columns_of_no_item, leaking_columns
from dien_fuxictr.experiment.configuration.yaml_files import write_config
from dien_fuxictr.experiment.experiment import Experiment
from dien_fuxictr.experiment.models import build_model
from dien_fuxictr.experiment.report import PACKAGES, versions
from dien_fuxictr.experiment.training import checkpoint

from .bundle import (
    ABOUT,
    CATALOGUE,
    CONFIG,
    EXAMPLES,
    FEATURE_MAP,
    FEATURE_VOCAB,
    GOLDEN,
    INSTALL,
    NO_KEYS,
    TITLES,
    WEIGHTS,
    distinct_weights,
    read_bundle,
)
from .examples import titles_in
from .golden import golden_requests, is_nearly
from .hold import unless_held
from .item_sides import catalogue_of
from .manifest import MANIFEST, read_manifest, write_manifest


def write_bundle(experiment: Experiment, folder: Path, examples: list[dict[str, Any]], publish: bool = False) -> str:
    """Write the bundle of an experiment's best checkpoint.

    Args:
        experiment: that has one.
        folder: folder of the bundle; an existing bundle is replaced unless its content is equal.
        examples: requests to keep in it.
        publish: also replace a bundle that running servers hold; the servers swap in the new bundle.

    Returns:
        Its digest.

    Raises:
        UserError: no checkpoint; a model of a FuxiCTR checkout, whose code a bundle does not hold; a data set without
            a fitted encoder; a model whose scores are not finite, or examples that are not requests to it; `folder`
            cannot be written, is something else, or running servers hold it.
    """
    if experiment.params.get("zoo"):
        raise UserError(
            f"{experiment.expid} cannot be served: its model is in the FuxiCTR checkout {experiment.params['zoo']}, "
            "and a bundle holds no code; only models of model_zoo/ are served"
        )
    if folder.exists() and not (folder / MANIFEST).is_file():
        raise UserError(f"cannot write bundle: {folder} already exists and is not a bundle; move it away")
    experiment.load()
    try:
        with folder_beside(folder) as new:
            _write(experiment, new, examples)
            _write_golden(new, examples, folder)
            digest = write_manifest(new)
            with unless_held(folder) as is_free:
                earlier = _digest_of(folder)
                if earlier == digest:
                    return digest
                if not (is_free or publish):
                    raise UserError(
                        f"bundle {folder} is in use: running servers answer with model {earlier}, the checkpoint is "
                        f"model {digest}; --publish makes these servers take up the checkpoint"
                    )
                replace_folder(new, folder)
    except OSError as error:
        raise UserError(f"cannot write bundle {folder}: {error.strerror or error}") from error
    return digest


def _digest_of(folder: Path) -> str:
    try:
        return read_manifest(folder).digest
    except UserError:
        return "(damaged)"


def _write(experiment: Experiment, folder: Path, examples: list[dict[str, Any]]) -> None:
    with needed("serving", INSTALL):
        from safetensors.torch import save
    params, model = experiment.params, experiment.model
    data_dir = Path(model.feature_map.data_dir)
    encoder = Encoder.load(data_dir, params)
    _copy_features(data_dir, folder)
    encoder.columns = [column for column in encoder.columns if column["type"] != "meta"]
    used = {column.get("vocabulary") for column in encoder.columns}
    encoder.vocabularies = {name: tokens for name, tokens in encoder.vocabularies.items() if name in used}
    encoder.save(folder)
    (folder / "encoded").mkdir()
    _write_json(folder / "encoded" / "layout.json", {"tables": encoder.tables})

    config = deepcopy(experiment.config.params)  # the paths as the user wrote them
    kept = {key: value for key, value in config.items() if key not in NO_KEYS}
    kind, weights = type(model), model.state_dict()
    if hasattr(model, "for_serving"):
        kind, weights, kept = cast(Any, model).for_serving(kept)
    served = build_model(kind, model.feature_map, {**params, **kept})
    names = dict.fromkeys(distinct_weights(served).values())
    (folder / WEIGHTS).write_bytes(save({name: weights[name].cpu().contiguous().clone() for name in names}))
    write_config(folder / CONFIG, kept)
    samples = experiment.entry.samples_dir
    about = {
        "expid": experiment.expid,
        **_of_training(experiment),
        "versions": versions(PACKAGES),
        "leaking_columns": leaking_columns(samples),
    }
    _write_json(folder / ABOUT, about)
    catalogue = catalogue_of(encoder, model.feature_map.features, data_dir, columns_of_no_item(samples))
    _write_json(folder / CATALOGUE, catalogue._asdict())
    _write_json(folder / EXAMPLES, examples)
    _write_json(folder / TITLES, titles_in(examples, experiment.entry))


def _copy_features(data_dir: Path, folder: Path) -> None:
    """Copy the feature map, and the files of pretrained embeddings."""
    feature_map = json.loads((data_dir / FEATURE_MAP).read_text(encoding="utf-8"))
    specs = [spec for entry in feature_map["features"] for spec in entry.values()]
    pretrained = [spec["pretrained_emb"] for spec in specs if "pretrained_emb" in spec]
    for name in [FEATURE_MAP, *([FEATURE_VOCAB, *pretrained] if pretrained else [])]:
        shutil.copyfile(data_dir / name, folder / name)


def _write_golden(new: Path, examples: list[dict[str, Any]], earlier: Path) -> None:
    """Score golden requests by the bundle itself, as a server opens it.

    If the bundle to be replaced has equal requests with nearly equal scores, these stay: another machine
    rounds differently, and the same model would have another digest.
    """
    write_manifest(new)
    golden = golden_requests(read_bundle(new, read_manifest(new)), examples)
    try:
        there = json.loads((earlier / GOLDEN).read_bytes())
        golden = there if is_nearly(there, golden) else golden
    except (OSError, ValueError, LookupError, TypeError):
        pass  # there is none, or a damaged one
    _write_json(new / GOLDEN, golden)


def _of_training(experiment: Experiment) -> dict[str, Any]:
    """Return the validation metric of the checkpoint, and the time of its writing.

    They are read from the resume state, if it belongs to the checkpoint.
    """
    state, monitor = experiment.folder / f"{experiment.expid}.resume", experiment.params.get("monitor", "AUC")
    progress = checkpoint.load(state).get("progress", {}) if state.is_file() else {}
    if progress.get("weights") != digest(experiment.checkpoint):
        return {"metrics": {}}
    trained = {"trained": progress["saved_at"]} if progress.get("saved_at") else {}
    return {"metrics": {f"validation/{monitor}": progress["best_metric"]} if isinstance(monitor, str) else {}} | trained


def _write_json(file: Path, content: Any) -> None:
    file.write_text(json.dumps(content, indent=1), encoding="utf-8")
