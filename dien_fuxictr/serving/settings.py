"""Settings of a serving process, also as a worker's command line."""

import json
from dataclasses import asdict, dataclass

SILENT = 1.0
"""Seconds without an answer after which a worker is given no connection until it answers."""
EXPORT_FORMS = {"onnx": ".onnx", "torch": ".pt2"}
"""Export format -> suffix of its files."""


@dataclass(frozen=True)
class Limits:
    """Limits of one request."""

    candidates: int = 5000
    behaviours: int = 5000
    users: int = 1000


@dataclass(frozen=True)
class Settings:
    """Settings that the options of `run_serve.py` set.

    Attributes:
        bundle: the folder.
        gpu: index of the GPU, -1 for the CPU.
        port: a free port to listen on.
        workers: number of processes.
        log_format: one of `log.FORMATS`.
        allow_new_fields: accept a new bundle whose requests have other fields than the served one.
        accepted: link to the bundle that workers have accepted, kept by a supervisor.
    """

    bundle: str
    gpu: int
    host: str
    port: int
    workers: int
    max_body: int = 4 << 20
    max_in_flight: int = 64
    max_candidates: int = Limits.candidates
    max_behaviours: int = Limits.behaviours
    max_users: int = Limits.users
    max_connections: int = 500
    header_timeout: float = 10
    body_timeout: float = 10
    idle_timeout: float = 75
    worker_timeout: float = 30
    log_format: str = "text"
    allow_new_fields: bool = False
    accepted: str = ""

    def to_json(self) -> str:
        """Return the settings as text for `from_json`."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Settings":
        """Return the settings in a text of `to_json`."""
        return cls(**json.loads(text))
