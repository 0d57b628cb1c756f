"""The application as a deployment of Ray Serve: replicas behind a proxy.

They run on this machine or a cluster.
"""

import logging
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from prometheus_client.multiprocess import mark_process_dead

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.common.optional_packages import needed
from dien_fuxictr.common.ray_loopback import on_loopback

from .app import App, make_app
from .bundle import open_bundle
from .golden import check
from .port import announce, listen
from .settings import Settings
from .worker import GRACE

INSTALL = 'pip install "ray[serve]"'
_TOP = Path(__file__).parents[2]
FLAGS = {
    "RAY_SERVE_ENABLE_HA_PROXY": "1",  # HAProxy sends requests to replicas, rather than Ray's own proxy, in Python
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    # seconds until no request is sent to an ending replica; the default is 30
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
    "RAY_SERVE_LOG_TO_STDERR": "1",  # the second flag would keep warnings in a file
    "RAY_USAGE_STATS_ENABLED": "0",
}
_NAME = "run_serve"


def serve_on_ray(settings: Settings, most: int) -> None:
    """Serve until a signal comes, on the cluster of RAY_ADDRESS or a started one.

    Args:
        settings: settings of each replica; there are `workers` of them, or more.
        most: largest number of replicas, which are added above two requests in flight per replica.

    Raises:
        UserError: Ray Serve is not installed or runs already, the bundle is inconsistent, or the port is taken.
    """
    os.environ.update({flag: value for flag, value in FLAGS.items() if flag not in os.environ})
    with needed("serving", INSTALL):
        from ray import serve
    bundle = settings.bundle
    check(open_bundle(bundle))
    settings = replace(settings, bundle=os.path.abspath(bundle))
    with listen(settings.host, settings.port) as free:
        host, port = free.getsockname()[:2]
    with _cluster(most) as counts:
        if serve.status().proxies:
            raise UserError("Ray Serve already runs on the cluster, on another port; `serve shutdown` ends it")
        quiet = {"log_level": "WARNING", "enable_access_log": False}
        try:
            serve.start(http_options={"host": host, "port": port}, logging_config=quiet)
            serve.run(_deployment(settings, most, counts), name=_NAME)
            announce(bundle, host, port)
            with suppress(KeyboardInterrupt):
                while True:
                    time.sleep(1)
                    _forget_the_dead(counts)
        finally:
            serve.delete(_NAME)  # while the proxy, which has their answers, still runs
            serve.shutdown()


def _deployment(settings: Settings, most: int, counts: str | None) -> Any:
    from ray import serve

    def build() -> App:
        import torch

        torch.set_num_threads(1)
        return make_app(settings, accepts_at_once=False)

    class Replica:
        app: App

        def check_health(self) -> None:
            if self.app.failure:
                raise self.app.failure

    path = os.pathsep.join(filter(None, [str(_TOP), os.environ.get("PYTHONPATH")]))
    variables = {"PYTHONPATH": path} | ({"PROMETHEUS_MULTIPROC_DIR": counts} if counts else {})
    return serve.deployment(
        autoscaling_config={"min_replicas": settings.workers, "max_replicas": most},
        max_ongoing_requests=2 * settings.max_in_flight,  # the application refuses excess requests, not Ray
        graceful_shutdown_timeout_s=GRACE,
        ray_actor_options={"num_cpus": 1, "runtime_env": {"env_vars": variables}},
    )(serve.ingress(build)(Replica)).bind()


@contextmanager
def _cluster(replicas: int) -> Iterator[str | None]:
    """Join a cluster, or start one with a CPU per replica, within the context.

    Yields:
        The folder in which replicas of one machine count.
    """
    import ray

    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    address = os.environ.get("RAY_ADDRESS")
    own = {} if address else {"num_cpus": replicas, "include_dashboard": False, "object_store_memory": 100 << 20}
    print(f"replicas run on the Ray cluster {address}" if address else "replicas run on a Ray cluster of this machine")
    on_sigterm = signal.getsignal(signal.SIGTERM)
    with tempfile.TemporaryDirectory(prefix="run_serve-") as folder:
        try:
            try:
                with nullcontext() if address else on_loopback():
                    ray.init(address or "local", logging_level=logging.WARNING, **own)
            except ConnectionError as error:
                raise UserError(f"no Ray cluster answers at RAY_ADDRESS = {address}: {error}") from error
            signal.signal(signal.SIGTERM, on_sigterm)  # Ray installs its own handler
            # SIGHUP asks a server to check the bundle, which replicas do by themselves
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            yield None if address else folder
        finally:
            ray.shutdown()


def _forget_the_dead(counts: str | None) -> None:
    for file in Path(counts).glob("gauge_live*.db") if counts else ():
        pid = file.stem.rpartition("_")[2]
        if not Path("/proc", pid).exists():
            mark_process_dead(pid, counts)
