"""Measure the cost of a served score.

paths     one user's candidates scored natively and layer by layer, one thread, no HTTP
batching  requests that are scored one by one, and several together
http      CPU time of a request by parts: JSON, encoding, model, everything else
load      latency against the rate of requests, which leave at given times (open loop): at equal distances, and as from
          independent users (Poisson)
reload    latency while a bundle replaces another, with equal vocabularies, and with different ones, which are read
memory    memory of the server, under load with reloads
attacks   answers to normal clients, at 60 % of the capacity, while others are slow, silent or greedy
overload  requests with a deadline of 50 ms, at up to four times the capacity of the server

The server has one core, and the clients have another. Weights are random and items uniform: the cost of a score does
not depend on them.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import orjson

from dien_fuxictr.common.errors import run_command

from ..compare_systems import add_zoo
from ..report import Row, make_parser, publish
from ..synthetic_batches import AMAZON, Sizes
from .attacks import attack_rows, overload_rows, storm_rows
from .batching import batching_rows
from .bundles import Workshop
from .load import cost_rows, highest_rates, memory_rows, rate_rows, reload_rows
from .paths import MODELS, Shape, file_name, path_rows, ratio_rows
from .server import server_and_client_cores, serving

PARTS = ("paths", "batching", "http", "load", "reload", "memory", "attacks", "overload")
_USUAL = PARTS[:5]
SHAPES = ((20, 50), (50, 200), (100, 1000))
SERVED = ("H 36", "H 32", "H 32, light")
PEER = "zoo's DIEN, FastAPI"
_PEER_COMMAND = ["-m", "benchmarks.serving.peer"]


def main(arguments: Sequence[str] | None = None, sizes: Sizes = AMAZON, shapes: Sequence[Shape] = SHAPES) -> int:
    """Measure and print; returns an exit code, 2 for a checkout that is none.

    `sizes` and `shapes` other than the default are for trying out.
    """
    parser = make_parser("benchmarks.serving", __doc__ or "", rounds=5)
    parser.add_argument(
        "--parts", nargs="+", choices=PARTS, default=list(_USUAL), help="parts to run; default " + " ".join(_USUAL)
    )
    parser.add_argument(
        "--rates",
        type=float,
        nargs="+",
        default=[5, 10, 25, 50, 100, 150, 200, 250, 300, 350, 400],
        metavar="N",
        help="requests per second, with 50 behaviours and 200 candidates each; default 5 to 400",
    )
    parser.add_argument("--seconds", type=float, default=20, metavar="S", help="duration at each rate; default 20")
    parser.add_argument("--minutes", type=float, default=30, metavar="M", help="duration of part memory; default 30")
    parser.add_argument(
        "--reloads", type=int, default=20, metavar="N", help="number of reloads in part memory; default 20"
    )
    add_zoo(parser)
    options = parser.parse_args(arguments)
    return run_command(lambda: _run(options, arguments, sizes, shapes), "interrupted")


def _run(options: argparse.Namespace, arguments: Sequence[str] | None, sizes: Sizes, shapes: Sequence[Shape]) -> int:
    parts, tables, notes = set(options.parts), {}, []
    with TemporaryDirectory() as folder:
        workshop = Workshop(Path(folder), sizes)
        if "paths" in parts:
            rows = tables["Scoring, one thread"] = path_rows(workshop, shapes, options.rounds)
            tables["Ratios"] = ratio_rows(rows, shapes)
        if "batching" in parts:
            tables["Requests that are scored together"] = batching_rows(workshop, shapes, options.rounds)
        core, own = server_and_client_cores()
        if core == own:
            notes.append("this machine has one core, which the server shares with whoever asks")
        rng, shape = np.random.default_rng(0), shapes[min(1, len(shapes) - 1)]
        bodies = [orjson.dumps(workshop.request(*shape, rng)) for _ in range(100)]
        if parts & {"http", "load"}:
            if not options.zoo:
                notes.append(f"without --zoo, the {PEER}, is left out")
            tables |= _served_tables(workshop, bodies, core, options)
        if parts & {"attacks", "overload"}:
            tables |= _attack_tables(workshop, bodies, core, options)
        if parts & {"reload", "memory"}:
            others = Workshop(Path(folder, "others"), replace(sizes, items=sizes.items - 1))
            tables |= _reload_tables(workshop, others, Path(folder, "current"), bodies, core, options)
    publish("benchmarks.serving", tables, notes, options.json, options.zoo, arguments)
    return 0


def _served_tables(
    workshop: Workshop, bodies: Sequence[bytes], core: int, options: argparse.Namespace
) -> dict[str, list[Row]]:
    costs: list[Row] = []
    rates: list[Row] = []
    bundles = {name: workshop.bundle(file_name(name), **MODELS[name]) for name in SERVED}
    commands = {name: _command(bundle) for name, bundle in bundles.items()}
    if options.zoo:
        commands[PEER] = [*_PEER_COMMAND, "--zoo", str(options.zoo.resolve()), "--bundle", str(bundles["H 36"])]
    for name, command in commands.items():
        with serving(command, core) as server:
            if "http" in options.parts and name != PEER:
                costs += cost_rows(name, server, bodies, _easy(options.rates), options.seconds)
            if "load" in options.parts:
                rates += rate_rows(name, server, bodies, options.rates, options.seconds)
    return {
        "A request's CPU time": costs,
        "Latency against the rate": rates,
        "Highest rate of one core": highest_rates(rates),
    }


def _attack_tables(
    workshop: Workshop, bodies: Sequence[bytes], core: int, options: argparse.Namespace
) -> dict[str, list[Row]]:
    tables: dict[str, list[Row]] = {}
    with serving(_command(workshop.bundle("H_36", 0)), core) as server:
        if "attacks" in options.parts:
            tables["Well-behaved clients under attack"] = attack_rows(server, bodies, 1000, options.seconds)
            tables["Clients that ask again at once"] = storm_rows(server, bodies, options.seconds, options.rounds)
        if "overload" in options.parts:
            tables["Requests with a deadline of 50 ms"] = overload_rows(server, bodies, options.seconds)
    return tables


def _reload_tables(
    workshop: Workshop,
    others: Workshop,
    link: Path,
    bodies: Sequence[bytes],
    core: int,
    options: argparse.Namespace,
) -> dict[str, list[Row]]:
    bundles = [workshop.bundle("H_36", seed) for seed in (0, 1)]
    pairs = {"the same": bundles, "others": [bundles[0], others.bundle("H_36")]}
    link.symlink_to(bundles[0])
    rate = _easy(options.rates)
    tables: dict[str, list[Row]] = {}
    with serving(_command(link), core) as server:
        if "reload" in options.parts:
            rows = reload_rows(server, link, pairs, bodies, rate, 3 * options.seconds)
            tables[f"Reloads at {rate:g} requests/s"] = rows
        if "memory" in options.parts:
            rows = memory_rows(server, link, bundles, bodies, rate, options.minutes, options.reloads)
            tables[f"Memory at {rate:g} requests/s"] = rows
    return tables


def _easy(rates: Sequence[float]) -> float:
    """Return a rate that the server handles easily: the lower quartile of the given."""
    return sorted(rates)[len(rates) // 4]


def _command(bundle: Path) -> list[str]:
    return ["run_serve.py", "--bundle", str(bundle), "--port", "0"]


if __name__ == "__main__":
    sys.exit(main())
