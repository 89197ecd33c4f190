"""Working copies that are kept equal to their objects while something writes them.

Knows when; `working_copy` knows what. An object store that does not answer for a while stops
nobody: what is not there yet lies in the copy, and is brought there when it answers again.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from metarec_ray.errors import MachineError, RunFailed
from metarec_ray.storage import lease as leases
from metarec_ray.storage.working_copy import WorkingCopy

EVERY_S = 5.0
"""Between two looks for what has changed: so much of a run's log is lost with a machine."""
PATIENCE_S = 120.0
"""At the end, an object store that does not answer is asked again for so long."""


class Keeper:
    """Keeps a copy that was taken or joined, in a thread of its own, during a `with` block.

    Attributes:
        refused: why nothing is brought to the store any more; None as long as it is.

    """

    def __init__(
        self,
        copy: WorkingCopy,
        tell: Callable[[str], None],
        *,
        allow: Callable[[], None] | None = None,
        beats: bool = False,
        every_s: float = EVERY_S,
    ):
        """With `beats` it also says that the writer lives; `allow` as `keep` takes it."""
        self.copy, self.tell, self.allow = copy, tell, allow
        self.every_s = every_s
        self.refused: RunFailed | None = None
        self._silent = False
        self._ended = threading.Event()
        runs = [self._run, self._beat] if beats else [self._run]
        self._threads = [threading.Thread(target=run, daemon=True) for run in runs]

    def __enter__(self) -> "Keeper":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()
        if kind is None:
            self.finish()
        else:  # what went wrong is told, not that this went wrong, too
            with suppress(RunFailed, MachineError):
                self.now()

    def now(self) -> None:
        """Bring to the store what has changed; errors as of `WorkingCopy.keep`."""
        self.copy.keep(allow=self.allow)

    def soon(self) -> None:
        """Bring to the store what has changed, now or when it answers; RunFailed as `keep`."""
        try:
            self.now()
        except MachineError as error:
            self._hear(error)

    def finish(self, *, patience_s: float = PATIENCE_S) -> None:
        """Bring everything to the store; RunFailed if it cannot be."""
        until = time.monotonic() + patience_s
        while True:
            if self.refused is not None:
                raise self.refused
            try:
                self.now()
                return
            except MachineError as error:
                if time.monotonic() > until:
                    raise RunFailed(
                        f"{error}; what is not there yet is kept in {self.copy.folder}, the same "
                        "command brings it there"
                    ) from error
                self._hear(error)
            time.sleep(min(1.0, self.every_s))

    def _run(self) -> None:
        while not self._ended.wait(self.every_s):
            try:
                self.now()
                self._heard()
            except MachineError as error:
                self._hear(error)
            except RunFailed as error:
                self.refused = error
                self.tell(f"storage: {error}")
                return
            except OSError as error:  # this machine's disk, which the run itself will meet, too
                self._hear(error)

    def _beat(self) -> None:
        """Say that the writer lives, however long an object takes on its way."""
        while not self._ended.wait(leases.BEAT_S) and self.refused is None:
            with suppress(MachineError, RunFailed):
                leases.require(self.copy.objects, str(self.copy.lease))
                leases.beat(self.copy.objects, str(self.copy.lease))

    def _hear(self, error: Exception) -> None:
        if not self._silent:
            self._silent = True
            self.tell(f"storage: {error}; the run goes on, its files are in {self.copy.folder}")

    def _heard(self) -> None:
        if self._silent:
            self._silent = False
            self.tell(f"storage: {self.copy.objects.uri} answers again")


@contextmanager
def written(
    uri: str, tell: Callable[[str], None], *, every_s: float = EVERY_S
) -> Iterator[WorkingCopy]:
    """Give the copy of a folder that this process alone may write; keep it in a `with` block.

    Raises:
        ConfigError: another process writes it.
        MachineError: the store does not answer, or may not be written.
        RunFailed: what was written could not be brought there.

    """
    copy = WorkingCopy(uri)
    copy.take()
    keeper = Keeper(copy, tell, beats=True, every_s=every_s)
    try:
        with keeper:
            yield copy
    finally:
        if keeper.refused is None:
            with suppress(MachineError):
                leases.beat(copy.objects, str(copy.lease), ended=True)
