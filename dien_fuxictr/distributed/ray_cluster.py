"""Ray cluster of a command: an existing one, or one that it starts and ends."""

import logging
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.common.package_data import TOP
from dien_fuxictr.common.ray_loopback import on_loopback

FLAGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # Ray's future default: tasks without a GPU keep CUDA_VISIBLE_DEVICES
}
_LOCAL = "local"
_PATIENCE_SECONDS = 5


@contextmanager
def joined(address: str, package: str = "ray", cpus: int | None = None, shows_output: bool = False) -> Iterator[str]:
    """Connect this process to a cluster within the context.

    The cluster's processes can import this code.

    Args:
        address: HOST:PORT of its first machine; `auto`: see `add_cluster_option`; `local`: start one on this machine.
        package: the part of Ray that is needed, as pip names it.
        cpus: number of CPUs of a started cluster, which limits parallel processes; None: as many as the machine has.
        shows_output: whether output of the cluster's processes is shown.

    Yields:
        The name of the cluster for messages.

    Raises:
        UserError: Ray is not installed, or there is no cluster.
    """
    os.environ.update({flag: value for flag, value in FLAGS.items() if flag not in os.environ})
    try:
        import ray
    except ImportError as error:
        raise UserError(missing(error, package)) from error
    found = _found() if address == "auto" else address
    options = {"num_cpus": cpus, "include_dashboard": False, "object_store_memory": 100 << 20}
    if found != _LOCAL:
        if found != "auto":  # Ray itself tries for minutes
            if not _answers(found):
                raise UserError(f"there is no Ray cluster at {found}")
            if not _is_ray(found):
                raise UserError(f"the server at {found} is not a Ray cluster, or needs a token (RAY_AUTH_MODE=token)")
        options = {}
    path = os.pathsep.join(filter(None, [str(TOP), os.environ.get("PYTHONPATH")]))
    code = {"env_vars": {"PYTHONPATH": path}}
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        try:
            with on_loopback() if found == _LOCAL else nullcontext():
                ray.init(found, logging_level=logging.ERROR, log_to_driver=shows_output, runtime_env=code, **options)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise UserError(
                f"{error} ({found}); this machine must belong to the cluster, and a cluster that was started with a "
                "token needs RAY_AUTH_MODE=token"
            ) from error
        if signal.getsignal(signal.SIGTERM) != on_sigterm:  # Ray installs its own handler
            signal.signal(signal.SIGTERM, on_sigterm)
        yield (
            "a Ray cluster of this machine"
            if found == _LOCAL
            else f"the Ray cluster {ray.get_runtime_context().gcs_address}"
        )
    finally:
        ray.shutdown()


def missing(error: ImportError, package: str) -> str:
    """Return the message for a part of Ray that is not installed."""
    return f"a Ray cluster needs the package {error.name}, which is not installed: pip install {shlex.quote(package)}"


def _found() -> str:
    """Return the address of an existing cluster, else `local`.

    A machine that was switched off may have left an address, so that the cluster is asked.
    """
    if address := os.environ.get("RAY_ADDRESS"):
        return address
    file = Path(os.environ.get("RAY_TMPDIR", tempfile.gettempdir()), "ray", "ray_current_cluster")
    address = file.read_text(encoding="utf-8").strip() if file.is_file() else ""
    return "auto" if address and _answers(address) else _LOCAL


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    if not (host and port.isdecimal() and int(port) < 1 << 16) or "/" in host:
        raise UserError(f"Ray cluster {address}: must be auto, or HOST:PORT of a cluster that this machine belongs to")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _PATIENCE_SECONDS).close()
    except OSError:
        return False
    return True


def _is_ray(address: str) -> bool:
    check = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", address]
    try:
        return not subprocess.run(check, capture_output=True, timeout=4 * _PATIENCE_SECONDS).returncode
    except subprocess.TimeoutExpired:
        return False
