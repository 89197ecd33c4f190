"""Checkpoints that are written beside training, so that nobody waits for a disk.

Knows when a write may begin and where its failure is told; does not know what trains.
"""

from collections.abc import Callable
from pathlib import Path
from threading import Thread
from types import TracebackType

from metarec_ray import checkpoint as checkpoints
from metarec_ray.checkpoint import Checkpoint
from metarec_ray.config.running import Keep
from metarec_ray.core.batch import Params
from metarec_ray.training.run_folder.retention import retain

PATIENCE_S = 5.0
"""A write that ends within it is waited for: no more is lost by a kill than since the last one."""


class Saver:
    """Writes the checkpoints of one run, one at a time and in their order.

    A write that takes longer than `patience_s` goes on in a thread while the caller trains, from a
    copy of the tensors; the next one waits for it, as does the end of a `with` block. Workers that
    wait for each other with a time-out thus never wait for a disk.
    """

    def __init__(
        self,
        folder: Path,
        keep: Keep,
        *,
        allow: Callable[[], None] = lambda: None,
        written: Callable[[], None] = lambda: None,
        patience_s: float = PATIENCE_S,
    ):
        """Make one for the checkpoints in `folder`.

        `allow` raises RunFailed if nothing must be written, and is asked before each change;
        `written` is called after each write.
        """
        self.folder, self.keep, self.patience_s = folder, keep, patience_s
        self.allow, self.written = allow, written
        self._writing: Thread | None = None
        self._failure: BaseException | None = None

    def __enter__(self) -> "Saver":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._join(None)
        if error is None:
            self._tell()

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint and remove those that need not be kept.

        Raises:
            CheckpointError: this one, or the one before, could not be written.

        """
        self._join(None)
        self._tell()
        own = checkpoint._replace(
            model=_copied(checkpoint.model), optimizer=_copied(checkpoint.optimizer)
        )
        self._writing = Thread(target=self._write, args=(own,), name="checkpoint")
        self._writing.start()
        self._join(self.patience_s)
        self._tell()

    def _write(self, checkpoint: Checkpoint) -> None:
        try:
            self.allow()
            written = checkpoints.save_step(checkpoint, self.folder, allow=self.allow)
            self.allow()  # others may have taken over: what they are writing looks left over
            retain(self.folder, self.keep, written=written)
            self.written()
        except BaseException as error:  # told where it is waited for
            self._failure = error

    def _join(self, timeout: float | None) -> None:
        if self._writing is not None:
            self._writing.join(timeout)

    def _tell(self) -> None:
        if (failure := self._failure) is not None:
            self._failure = None
            raise failure


def _copied(params: Params) -> Params:
    return {name: value.detach().cpu().clone() for name, value in params.items()}
