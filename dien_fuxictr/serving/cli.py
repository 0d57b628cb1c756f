"""Command line of `run_serve.py`."""

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path

from dien_fuxictr.common.command_parser import command_parser
from dien_fuxictr.common.errors import run_command
from dien_fuxictr.common.signals import starting
from dien_fuxictr.experiment.options import add_experiment_options, positive_count

from .log import FORMATS, JSON, TEXT, tell
from .port import LOCAL
from .settings import EXPORT_FORMS, SILENT, Settings

EPILOG = """
examples:
  run_expid.py --expid DIEN_amazon                        first train: the data set and the checkpoint are used
  run_serve.py --expid DIEN_amazon --port 8080            write the bundle, then start the server
  run_serve.py --bundle DIEN_amazon.bundle                serve an existing bundle: no data set, no training is needed
  run_serve.py --workers 4                                four processes, each on its own core
  run_serve.py --engine ray --workers 2 --max-workers 8   replicas on Ray Serve, as many as the load needs
  curl http://127.0.0.1:8080/v1/model                     show the model, and an example request
  run_serve.py --expid DIEN_amazon --publish              after another training: running servers take up its checkpoint
  run_serve.py --expid DIEN_amazon --export onnx DIEN.onnx   a file for ONNX Runtime instead of a server
  ln -sfn "$(readlink current)" previous && ln -sfn new current.tmp && mv -T current.tmp current
                                                          swap the bundle of a server with --bundle current within 2 s
  ln -sfn "$(readlink previous)" current.tmp && mv -T current.tmp current
                                                          swap back to the earlier bundle

files (model_root and dataset_id of the configuration, ID the experiment id):
  <model_root>/<dataset_id>/ID.bundle/                    all files that serving needs; written at a start with
                                                          --expid. While servers use another model, only --publish
                                                          writes it
  FILE of --export                                        an existing file is replaced

exit code: 0 after SIGTERM or Ctrl-C, once all requests in flight are answered, and after --export and --publish; 2 bad
input (one line on stderr)
SIGHUP: check at once whether there is a new bundle
"""
_OF_PUBLISH = ("expid", "config", "settings", "examples", "publish", "allow_unfinished")
_OF_EMBEDDED = ("max_connections", "header_timeout", "body_timeout", "idle_timeout", "worker_timeout")
_OF_EXPORT = ("expid", "config", "settings", "bundle", "examples", "export", "allow_unfinished")


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the parsed command line; exit with code 2 on a wrong one."""
    parser = command_parser(
        "run_serve.py", "Serve the best checkpoint of an experiment over HTTP, without training.", EPILOG
    )
    add_experiment_options(parser, "a trained experiment")
    parser.set_defaults(config=None)  # a bundle needs no configuration, so that no message on its folder is printed
    parser.add_argument(
        "--bundle",
        type=Path,
        metavar="DIR",
        help="serve this bundle, which may be a symlink, instead of an experiment; checked for a new version "
        "every second",
    )
    parser.add_argument(
        "--examples",
        type=_up_to(100),
        default=100,
        metavar="N",
        help="number of test users in the bundle, for the page at /; default 100",
    )
    parser.add_argument(
        "--allow-unfinished",
        action="store_true",
        help="accept the checkpoint of a training that runs or was interrupted; by default it is refused",
    )
    parser.add_argument(
        "--publish",
        action="store_true",
        help="write the bundle of --expid and stop; servers of the earlier bundle swap it in",
    )
    parser.add_argument(
        "--allow-new-fields",
        action="store_true",
        help="let a running server swap in a bundle whose requests have other fields; by default the bundle is "
        "refused, since clients would get 422",
    )
    parser.add_argument(
        "--export",
        nargs=2,
        metavar=("FORM", "FILE"),
        help="write the model to a file and stop: onnx NAME.onnx (pip install onnxscript), or torch NAME.pt2, a "
        "program of torch.export",
    )
    parser.add_argument(
        "--host", default=LOCAL, metavar="ADDRESS", help=f"default {LOCAL}: only this machine reaches the server"
    )
    parser.add_argument(
        "--port", type=_up_to(65535), default=8080, metavar="N", help="default 8080; 0: a free port, which is printed"
    )
    parser.add_argument(
        "--workers",
        type=positive_count,
        default=1,
        metavar="N",
        help="number of processes on the port, each with the model and one thread for it; default 1; more need Linux",
    )
    parser.add_argument(
        "--engine",
        choices=("embedded", "ray"),
        default="embedded",
        help='what runs the workers: this command itself (default), or Ray Serve (pip install "ray[serve]"), on the '
        "cluster that RAY_ADDRESS names or else on this machine",
    )
    parser.add_argument(
        "--max-workers",
        type=positive_count,
        metavar="N",
        help="with --engine ray: largest number of replicas, added above two requests in flight per replica; "
        "default --workers",
    )
    for name, what in (
        ("max-body", "bytes of a request's body, also when gzip is unpacked; more is answered by 413"),
        ("max-in-flight", "number of simultaneous requests per worker; more are answered by 503"),
        ("max-candidates", "number of candidates per request; more are answered by 422"),
        ("max-behaviours", "number of behaviours per sequence of a request; more are answered by 422"),
        ("max-users", "number of users per batch; more are answered by 422"),
        (
            "max-connections",
            "number of simultaneous connections per worker; one more closes the one that has been idle longest",
        ),
    ):
        default = getattr(Settings, name.replace("-", "_"))
        parser.add_argument(
            f"--{name}", type=positive_count, default=default, metavar="N", help=f"{what}; default {default}"
        )
    for name, what in (
        ("header-timeout", "for a client to send a request's headers, from its connection on; then 408"),
        ("body-timeout", "for a client to send the body, then 408, and to read the answer"),
        ("idle-timeout", "from an answer to the end of an idle connection; more than a proxy keeps it"),
        ("worker-timeout", "until a worker that hangs is replaced; more than the longest request takes"),
    ):
        default = getattr(Settings, name.replace("-", "_"))
        parser.add_argument(
            f"--{name}", type=_seconds, default=default, metavar="S", help=f"seconds {what}; default {default:g}"
        )
    parser.add_argument(
        "--log-format",
        choices=FORMATS,
        default=TEXT,
        help="format of the log on stderr: text (default), or json, one object per line",
    )
    options = parser.parse_args(arguments)
    if options.export:
        if options.export[0] not in EXPORT_FORMS:
            parser.error(f"--export {options.export[0]} is unknown; allowed: {', '.join(EXPORT_FORMS)}")
        _require_only(_OF_EXPORT, "--export", options, parser)
    if options.publish:
        _require_only(_OF_PUBLISH, "--publish", options, parser)
    if options.bundle and options.settings:
        parser.error("--set, --data-root and --model-root cannot be combined with --bundle")
    if options.bundle and options.allow_unfinished:
        parser.error("--allow-unfinished cannot be combined with --bundle")
    if options.worker_timeout < SILENT:
        parser.error(f"--worker-timeout {options.worker_timeout:g} must be {SILENT:g} or more")
    if options.engine == "ray":
        options.max_workers = options.max_workers or options.workers
        if options.max_workers < options.workers:
            parser.error(f"--max-workers {options.max_workers} must be at least --workers {options.workers}")
        if options.gpu >= 0:
            parser.error("--gpu cannot be combined with --engine ray: a replica on Ray has a CPU")
        for name in _OF_EMBEDDED:
            if getattr(options, name) != getattr(Settings, name):
                parser.error(f"--{name.replace('_', '-')} cannot be combined with --engine ray: Ray has its own limits")
        if options.log_format == JSON:
            parser.error("--log-format json cannot be combined with --engine ray: Ray writes the log of its replicas")
    elif options.max_workers:
        parser.error("--max-workers needs --engine ray")
    return options


def _require_only(
    names: tuple[str, ...], mode: str, options: argparse.Namespace, parser: argparse.ArgumentParser
) -> None:
    for name, value in vars(options).items():
        if name not in names and value != parser.get_default(name):
            parser.error(f"--{name.replace('_', '-')} cannot be combined with {mode}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until a signal comes, or export.

    Args:
        arguments: the command line without the program's name; None: the process's.

    Returns:
        Exit code, see `run_command`.
    """
    with starting():
        options = parse_arguments(arguments)
    if options.export or options.publish:
        return run_command(lambda: _run(options), "interrupted; nothing was written")
    return run_command(lambda: _run(options), "interrupted; nothing was served", tell=tell)


def _run(options: argparse.Namespace) -> int:
    with starting():
        from .run_serve import export_to_file, publish, serve  # torch takes seconds: after `--help`
    return (export_to_file if options.export else publish if options.publish else serve)(options)


def _seconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text} must be a number of seconds, more than 0")
    return number


def _up_to(largest: int) -> Callable[[str], int]:
    def whole(text: str) -> int:
        if not text.isdecimal() or int(text) > largest:
            raise argparse.ArgumentTypeError(f"{text} must be a whole number from 0 to {largest}")
        return int(text)

    return whole
