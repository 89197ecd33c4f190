"""What is told of a group of workers while it runs: who failed, what is waited for, progress.

Knows the files of a run's folder; does not know what workers compute.
"""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError
from ray.train import UserCallback

from metarec_ray.engine.nodes import Node, nodes, room
from metarec_ray.errors import last_line
from metarec_ray.training.run_folder import events_log, metrics_log
from metarec_ray.training.run_folder.events_log import Event

PATIENCE_S = 8.0
"""Workers that have not started for so long are waited for, which is told."""
AGAIN_S = 30.0
HUNG_AFTER_S = 30.0
"""A worker whose process does not answer Ray for so long is replaced.

Its answers come from a thread of their own: neither a long step nor a checkpoint delays them.
"""

_GONE = {  # private classes of Ray's
    "WorkerHealthCheckTimeoutError": "it hangs, its process has not answered for too long",
    "WorkerHealthCheckFailedError": "its process died: a kill, a crash or no memory left",
}


STARTED = "started"
"""Key of what workers report when they begin, with `step` and `nodes`."""


class Failures(UserCallback):
    """Writes down when workers began, which failed, and why: it runs in Ray's controller.

    The controller is on the driver's node, whose files alone it writes.
    """

    def __init__(self, directory: Path):
        self.directory = directory

    def after_report(
        self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: object
    ) -> None:
        del run_context, checkpoint
        said = metrics[0]
        if STARTED in said:
            at, nodes = said["step"], tuple(said["nodes"])
            with suppress(OSError):  # a full disk, which must not fail the controller, too
                events_log.append(self.directory, "started", said[STARTED], step=at, nodes=nodes)

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        del run_context
        sentence = failure(worker_exceptions, list(events_log.read_own(self.directory)))
        with suppress(OSError):
            events_log.append(self.directory, "failed", sentence)


def failure(errors: dict[int, Exception], events: Sequence[Event]) -> str:
    """Return which ranks failed, on which nodes where that is known, and why, in a sentence.

    Beside a process that died or hangs, what the others say of it is left out.
    """
    started = events[-1] if events and events[-1].kind == "started" else None
    on = dict(enumerate(started.nodes)) if started else {}
    gone = {rank: error for rank, error in errors.items() if type(error).__name__ in _GONE}
    return "; ".join(
        f"rank {rank}{f' on {on[rank]}' if rank in on else ''}: {cause(error)}"
        for rank, error in (gone or errors).items()
    )


def cause(error: BaseException) -> str:
    """Return why a worker failed: what became of its process, or the line that names the error."""
    last = last_line(error, type(error).__name__)
    last = last.partition(" This is typically caused")[0]  # gloo's advice
    return _GONE.get(type(error).__name__, last)


def awaited(workers: int, cpus: float, found: list[Node], free: float) -> str:
    """Return what a group of workers waits for that has not started."""
    has = ", ".join(f"{node.cpus:g} on {node.name}" for node in found) or "none"
    asked = f"{workers} {'worker' if workers == 1 else 'workers'} of {cpus:g} CPU"
    if room(found, cpus) < workers:
        return f"a node, for {asked}; CPUs of living nodes: {has}"
    return f"{asked} to start; CPUs of living nodes: {has}, free: {free:g}"


class Wait:
    """When it is told that workers are waited for: soon, and then now and again."""

    def __init__(self) -> None:
        self.next: float | None = None

    def begin(self, now: float) -> None:
        """Count from now on, a time in seconds."""
        self.next = now + PATIENCE_S

    def end(self) -> None:
        """Wait no longer."""
        self.next = None

    def due(self, now: float) -> bool:
        """Return whether it is to be told now; True once, then again after `AGAIN_S`."""
        if self.next is None or now < self.next:
            return False
        self.next = now + AGAIN_S
        return True


class Follower:
    """Shows what is added to a run's metrics and events, while a `with` block runs.

    Attributes:
        failed: how often workers have failed so far.
        last_failure: which ones and why, "" before the first.

    """

    def __init__(
        self, directory: Path, progress: Callable[[str], None], *, workers: int, cpus: float
    ):
        self.directory, self.progress = directory, progress
        self.workers, self.cpus = workers, cpus
        self.path = directory / metrics_log.NAME
        self.shown = max((line["step"] for line in metrics_log.read(self.path)), default=0)
        self.seen = len(list(events_log.read_own(directory)))
        self.failed, self.last_failure = 0, ""
        self.wait = Wait()
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> "Follower":
        self.wait.begin(time.monotonic())
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.done.set()
        self.thread.join()
        self._show()

    def _follow(self) -> None:
        while not self.done.wait(0.5):
            self._show()
            if self.wait.due(time.monotonic()):
                self.progress(f"train: waiting for {self._awaited()}")

    def _show(self) -> None:
        with suppress(OSError):  # of a shared folder: it is looked at again
            for event in list(events_log.read_own(self.directory))[self.seen :]:
                self.seen += 1
                self._tell(event)
            for line in metrics_log.read(self.path):
                if line["step"] > self.shown:
                    self.shown = line["step"]
                    self.progress(f"train: {metrics_log.render(line)}")

    def _tell(self, event: Event) -> None:
        if event.kind == "failed":
            self.failed, self.last_failure = self.failed + 1, event.sentence
            self.progress(f"train: failed: {event.sentence}")
            self.wait.begin(time.monotonic())
            return
        self.wait.end()
        if self.seen > 1:  # the first start needs no line
            self.progress(f"train: going on with {event.sentence}")

    def _awaited(self) -> str:
        try:
            free = ray.available_resources().get("CPU", 0.0)
            return awaited(self.workers, self.cpus, nodes(), free)
        except RayError as error:
            return f"the cluster, which does not answer ({type(error).__name__})"
