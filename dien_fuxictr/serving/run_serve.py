"""`run_serve.py`: serve, or write a bundle or an exported model."""

import argparse
import tempfile
from dataclasses import fields
from importlib import import_module
from pathlib import Path

from dien_fuxictr.common.optional_packages import needed
from dien_fuxictr.common.outputs import require_output
from dien_fuxictr.experiment.device import device_index
from dien_fuxictr.experiment.experiment import Experiment, open_experiment

from .bundle import INSTALL, open_bundle
from .examples import users_of_test
from .export_model import check_file, export
from .golden import check
from .hold import Hold
from .log import configure
from .manifest import read_manifest
from .port import listen
from .settings import Settings
from .worker import serve_alone
from .write import write_bundle


def serve(options: argparse.Namespace) -> int:
    """Serve a bundle, or that of an experiment, until a signal comes.

    Args:
        options: options of the command line.

    Returns:
        Exit code.
    """
    configure(options.log_format)
    for name in ("uvicorn", "orjson", "prometheus_client"):
        with needed("serving", INSTALL):
            import_module(name)
    from .supervisor import become_supervisor

    gpu = device_index(options.gpu)
    listen(options.host, options.port).close()  # a taken port is reported before a bundle is written
    folder = options.bundle or _write(_experiment(options), options)[0]
    read_manifest(folder)
    hold = Hold(folder)
    if not options.bundle:
        hold.renew()  # held until this process ends, so that its bundle is not replaced before the servers hold it
    settings = Settings(
        bundle=str(folder),
        gpu=gpu,
        **{
            field.name: getattr(options, field.name)
            for field in fields(Settings)
            if field.name not in ("bundle", "gpu", "accepted")
        },
    )
    if options.engine == "ray":
        from .ray_serve import serve_on_ray

        serve_on_ray(settings, options.max_workers)
    elif settings.workers > 1:
        become_supervisor(settings)
    else:
        serve_alone(settings)
    return 0


def publish(options: argparse.Namespace) -> int:
    """Write the bundle of an experiment; it may replace a served one.

    Args:
        options: options of the command line.

    Returns:
        Exit code.
    """
    experiment = _experiment(options)
    folder, digest = _write(experiment, options)
    print(f"{experiment.expid}, model {digest}: {folder}")
    return 0


def export_to_file(options: argparse.Namespace) -> int:
    """Write the model of an experiment or of a bundle to a file.

    Args:
        options: options of the command line.

    Returns:
        Exit code.
    """
    form, file = options.export[0], Path(options.export[1])
    check_file(form, file)
    if options.bundle:
        require_output(f"--export {form}", file, {"--bundle": options.bundle})
        bundle = open_bundle(options.bundle)
    else:
        experiment = _experiment(options)
        experiment.require_output(f"--export {form}", file)
        with tempfile.TemporaryDirectory(prefix=".export.", dir=experiment.folder) as folder:
            write_bundle(experiment, Path(folder, "bundle"), users_of_test(experiment, options.examples))
            bundle = open_bundle(Path(folder, "bundle"))
    check(bundle)
    export(bundle.model, form, file, {"model": bundle.digest, "expid": bundle.expid})
    print(f"{bundle.expid}, model {bundle.digest}: {file}")
    return 0


def _experiment(options: argparse.Namespace) -> Experiment:
    experiment = open_experiment(options.expid, options.config or "./config/", overrides=dict(options.settings))
    experiment.require_finished(options.allow_unfinished)
    return experiment


def _write(experiment: Experiment, options: argparse.Namespace) -> tuple[Path, str]:
    folder = experiment.folder / f"{experiment.expid}.bundle"
    return folder, write_bundle(experiment, folder, users_of_test(experiment, options.examples), options.publish)
