"""Who writes a run, wherever it lies: one process, in its folder or in a working copy of it.

Knows locks and working copies; does not know what is written.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from metarec_ray.data.files.paths import is_remote
from metarec_ray.engine.cluster.one_writer import one_writer
from metarec_ray.storage.keeping import written
from metarec_ray.storage.uris import local

if TYPE_CHECKING:  # pruning a store needs no learner
    from metarec_ray.config.experiment import Experiment

Tell = Callable[[str], None]


@contextmanager
def writing(experiment: "Experiment", tell: Tell, *, out: Path | None = None) -> Iterator[None]:
    """Hold a run's folder for the length of a `with` block, kept equal to its URI if it has one.

    What is written into `out` instead holds that folder; a run in an object store is held, too.

    Raises:
        ConfigError: another process writes it.
        MachineError: its object store does not answer, or may not be written.
        RunFailed: at the end: what was written could not be brought there.

    """
    with ExitStack() as stack:
        if out is not None:
            stack.enter_context(one_writer(out))
        if out is None or is_remote(experiment.run.dir):
            stack.enter_context(_writing(experiment.run.dir, tell))
        yield


def writing_store(experiment: "Experiment", tell: Tell) -> AbstractContextManager[None]:
    """Hold the folder that an experiment's store is made in, as `writing` does, if it is remote.

    A store in a folder has a lock of its own.
    """
    return writing_place(experiment.run.store or experiment.run.dir, tell)


def writing_place(place: str, tell: Tell) -> AbstractContextManager[None]:
    """Hold a path or URI as `writing_store` does."""
    return _writing(place, tell) if is_remote(place) else nullcontext()


@contextmanager
def _writing(place: str, tell: Tell) -> Iterator[None]:
    with one_writer(local(place)), written(place, tell) if is_remote(place) else nullcontext():
        yield
