"""A verb that is tracked while it runs: who is told, of what, and what is said when that fails.

Knows MLflow and TensorBoard by their sinks; does not know what a verb does.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

from metarec_ray.engine.tracking.delivery import INTERRUPTED_S, PACE, PATIENCE_S, Delivery, Pace
from metarec_ray.engine.tracking.mlflow_client import MlflowClient
from metarec_ray.engine.tracking.mlflow_sink import MlflowSink
from metarec_ray.engine.tracking.tensorboard import FOLDER, TensorboardSink
from metarec_ray.engine.tracking.tracked import Sink, Status, Tracked
from metarec_ray.errors import MetarecError
from metarec_ray.training.run_folder import events_log


class Asked(NamedTuple):
    """Where a verb is tracked.

    Attributes:
        section: of the experiment that says so, as it is named in sentences.
        folder: of the run, or of the bench.
        mlflow: tracking URI; None for none.
        tensorboard: whether event files are written.
        again: what tells the rest later, for people.

    """

    section: str
    folder: Path
    mlflow: str | None
    tensorboard: bool = False
    again: str = "the same command tells it the rest"


class Runs(Protocol):
    """What a verb is tracked by."""

    status: Status
    """Of the verb; `tracked` sets it at the end."""

    def known(self) -> Sequence[Tracked]:
        """Return all that is known of the runs now, that of key "" first."""
        ...


@contextmanager
def tracked(
    runs: Runs, asked: Asked, progress: Callable[[str], None], *, pace: Pace = PACE
) -> Iterator[None]:
    """Track what a `with` block does: from a thread for each who is told, and once more at its end.

    The block is neither stopped nor kept waiting by who does not answer; its end is, by half a
    minute at most.
    """
    told = _begun(runs, asked, progress, pace)
    patience_s = PATIENCE_S
    try:
        yield
        runs.status = "finished"
    except KeyboardInterrupt:
        runs.status, patience_s = "killed", INTERRUPTED_S
        raise
    except MetarecError:
        runs.status = "refused"
        raise
    except BaseException:
        runs.status = "failed"
        raise
    finally:
        until = time.monotonic() + patience_s
        late = [
            name
            for name, delivery in told.items()
            if not delivery.close(max(0.0, until - time.monotonic()))
        ]
        for name in late:
            progress(f"tracking: {name} has not been told all of it: {asked.again}")


def _begun(
    runs: Runs, asked: Asked, progress: Callable[[str], None], pace: Pace
) -> dict[str, Delivery]:
    """Return the deliveries of what is asked, begun, by the names that people know."""

    def begin(name: str, connect: Callable[[], Sink]) -> Delivery:
        def failed(why: str) -> None:
            said = f"{name} does not take what it is told, the run goes on and it is told later"
            progress(f"tracking: {said} ({why})")
            events_log.append(asked.folder, "tracking", f"{said} ({why})")

        return Delivery(connect, runs.known, failed, pace=pace)

    found: dict[str, Delivery] = {}
    folder, uri = asked.folder, asked.mlflow
    if uri is not None or asked.tensorboard:
        folder.mkdir(parents=True, exist_ok=True)
    if uri is not None:
        name = f"{asked.section}.mlflow {uri}"
        found[name] = begin(name, lambda: MlflowSink(MlflowClient(uri), folder, uri=uri))
    if asked.tensorboard:
        name = f"{asked.section}.tensorboard {folder / FOLDER}"
        found[name] = begin(name, lambda: TensorboardSink(folder / FOLDER))
    return found
