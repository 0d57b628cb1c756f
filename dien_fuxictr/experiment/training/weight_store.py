"""How weights and the state of a training get to files and back, as far as embedding tables have to do with it."""

from pathlib import Path

from fuxictr.pytorch.models import BaseModel

from ..process_group import SINGLE_PROCESS, ProcessGroup
from . import checkpoint


class Tables:
    """Tables that a model holds whole: in files they are among its other weights, and the leader writes them.

    Args:
        model: compiled.
        workers: who train it.

    Attributes:
        are_apart: whether each worker has another part of them, so that what reads or writes them all do together.
    """

    are_apart = False

    def __init__(self, model: BaseModel, workers: ProcessGroup = SINGLE_PROCESS) -> None:
        self.model = model
        self.workers = workers

    def write_weights(self, path: Path) -> None:
        """Write all weights, a plain state dict; the other workers may read it then."""
        if self.workers.leads:
            checkpoint.save(self.model.state_dict(), path)
        self.workers.wait()

    def read_weights(self, path: Path) -> None:
        """Load what `write_weights` has written; raises UserError as `checkpoint.load_weights`."""
        checkpoint.load_weights(self.model, path)

    def write_state(self, state: Path) -> str:
        """Write what the resume state `state` is to lack.

        Returns:
            The name by which `read_state` and `remove` know it; empty where there is nothing.
        """
        return ""

    def read_state(self, state: Path, name: str) -> None:
        """Take up what was written by that name; raises UserError where it is not there, or another model's."""

    def remove(self, state: Path, kept: str = "") -> None:
        """Remove what was written beside a resume state, but for what has a name."""
